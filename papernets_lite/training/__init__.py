"""How every chapter trains: one loop, one plain step, one comparison.

A chapter begins with ``begin`` and ``settings``, fits with ``fit`` or, where arms are
set against each other, ``compare``, and looks with ``predict``. Where training is not
plain (GANs, policies), the paper's file gives a step and ``train`` calls it.

Under ``torchrun`` the same code runs on several processes.
``python -m papernets_lite.training CHAPTER.ipynb -p seed 3`` runs a chapter's cells as
a plain script.
"""

from papernets_lite.training.batches import Batches, to_device
from papernets_lite.training.checkpoints import load_checkpoint, save_checkpoint
from papernets_lite.training.fitting import build, compare, fit, supervised_step
from papernets_lite.training.history import History
from papernets_lite.training.loop import train
from papernets_lite.training.prediction import predict
from papernets_lite.training.processes import parallel, world
from papernets_lite.training.script import main, run_notebook
from papernets_lite.training.setup import begin, seed_everything, settings

__all__ = [
    "Batches",
    "History",
    "begin",
    "build",
    "compare",
    "fit",
    "load_checkpoint",
    "main",
    "parallel",
    "predict",
    "run_notebook",
    "save_checkpoint",
    "seed_everything",
    "settings",
    "supervised_step",
    "to_device",
    "train",
    "world",
]
