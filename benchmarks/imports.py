"""What importing the package costs beyond importing torch."""

import statistics
import subprocess
import sys

from .timing import Row

ROUNDS = 3
CHILD = """
import time
{before}
start = time.process_time()
{what}
print(time.process_time() - start)
"""
IMPORTS = [
    (
        "papernets_lite beyond torch; goal 0.2 s",
        "import torch",
        "import papernets_lite",
    ),
    (
        "one paper (resnet) beyond torch and torchvision",
        "import torch, torchvision.ops",
        "import papernets_lite.backbones.resnet",
    ),
    (
        "one world (shapes) beyond torch",
        "import torch",
        "import papernets_lite.data.shapes",
    ),
    (
        "training beyond torch",
        "import torch",
        "import papernets_lite.training",
    ),
    (
        "plots and widgets beyond torch and matplotlib",
        "import torch, matplotlib.pyplot",
        "import papernets_lite.plots, papernets_lite.widgets",
    ),
    ("torch itself", "", "import torch"),
]


def imports() -> list[Row]:
    """Each import in a fresh process, in turns."""
    taken: dict[str, list[float]] = {what: [] for what, _, _ in IMPORTS}
    for _ in range(ROUNDS):
        for what, before, imported in IMPORTS:
            child = CHILD.format(before=before, what=imported)
            done = subprocess.run(
                [sys.executable, "-c", child],
                check=True,
                capture_output=True,
                encoding="utf-8",
            )
            taken[what].append(float(done.stdout))
    return [Row(what, statistics.median(seconds)) for what, seconds in taken.items()]


TOPICS = [imports]
