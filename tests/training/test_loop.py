"""The shared loop: what it records and how it stops."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from papernets_lite import training
from tests.training.job import batches, job

ROOT = Path(__file__).resolve().parents[2]


def test_records_every_key_of_every_step():
    history = training.train(
        lambda b: {"loss": b["labels"].float().mean(), "n": 2.0}, batches(), steps=5
    )
    assert history.steps == 5
    assert history.columns["n"] == [2.0] * 5
    assert history.last("loss", 2) == pytest.approx(history["loss"][-2:].mean().item())
    with pytest.raises(KeyError, match="recorded"):
        history["accuracy"]


def test_a_value_that_is_not_finite_stops_with_its_name():
    def step(batch):
        step.calls += 1
        return {
            "loss": torch.tensor(1.0),
            "other": torch.tensor(float("nan") if step.calls == 4 else 0.0),
        }

    step.calls = 0
    with pytest.raises(FloatingPointError, match="run: other is nan at step 3"):
        training.train(step, batches(), steps=10, name="run")
    assert step.calls == 4


@pytest.mark.parametrize("returned", [{}, None])
def test_a_step_without_values_is_refused(returned):
    with pytest.raises(ValueError, match="at least one scalar"):
        training.train(lambda b: returned, batches(), steps=1)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps >= 1"):
        training.train(lambda b: {"loss": 0.0}, batches(), steps=0)


def test_same_seed_same_history(tmp_path):
    first, second = job(None, 20)[0], job(None, 20)[0]
    assert first.columns == second.columns


DISTRIBUTED = """
import json, sys, torch
from papernets_lite import training
rank, processes = training.world()
generator = training.seed_everything(3)
x = torch.randn(64, 3, 8, 8, generator=generator)
data = {"images": x, "y": x.mean((1, 2, 3))[:, None]}
layers = torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten()
model = torch.nn.Sequential(*layers, torch.nn.Linear(288, 1))
wrapped = training.parallel(model)
sgd = torch.optim.SGD(wrapped.parameters(), 0.05, momentum=0.9)
loss = lambda out, batch: {"loss": torch.nn.functional.mse_loss(out, batch["y"])}
batches = training.Batches(data, 16 // processes, generator=generator)
step = training.supervised_step(wrapped, loss, sgd)
state = {"model": model}
history = training.train(step, batches, steps=12, state=state, checkpoint=sys.argv[2])
if rank == 0:
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(history.columns["loss"], file)
"""


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(DISTRIBUTED, encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    losses = []
    for n, start in (
        (1, []),
        (2, ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]),
    ):
        out = tmp_path / f"{n}.json"
        command = [
            sys.executable,
            *start,
            str(script),
            str(out),
            str(tmp_path / f"{n}.ckpt"),
        ]
        subprocess.run(
            command, check=True, env=environment, capture_output=True, timeout=600
        )
        losses.append(json.loads(out.read_text(encoding="utf-8")))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(set(losses[0])) == 12, (
        "every step differs, so equal losses mean equal updates"
    )


def test_the_last_steps_are_at_least_one():
    history = training.History({"a": [1.0, 2.0]})
    assert history.last("a", 1) == 2.0
    assert history.last("a", 9) == 1.5
    with pytest.raises(ValueError, match="n >= 1, got 0"):
        history.last("a", 0)


@pytest.mark.parametrize("option", ["save_every", "look_every"])
def test_intervals_are_at_least_one_step(option):
    options = {option: 0}
    if option == "look_every":
        options["look"] = print
    with pytest.raises(ValueError, match=f"{option} >= 1, got 0"):
        training.train(lambda b: {"loss": 1.0}, batches(), steps=5, **options)


def test_too_few_batches_are_named():
    few = iter([{}, {}])
    with pytest.raises(ValueError, match="5 batches for the steps of 'short', got 2"):
        training.train(lambda b: {"loss": 1.0}, few, steps=5, name="short")


def test_a_look_in_between_sees_all_steps_before_it():
    seen = []
    history = training.train(
        lambda b: {"loss": 1.0},
        batches(),
        steps=7,
        look=seen.append,
        look_every=3,
    )
    assert seen == [3, 6]
    assert history.steps == 7
    with pytest.raises(ValueError, match="look and look_every together"):
        training.train(lambda b: {"loss": 1.0}, batches(), steps=5, look=print)


def test_what_draws_while_training_sees_every_step_and_is_closed():
    class Live:
        steps = 0
        closed = False

        def update(self, history):
            self.steps += 1

        def close(self):
            self.closed = True

    live = Live()
    training.train(lambda b: {"loss": 1.0}, batches(), steps=3, live=live)
    assert (live.steps, live.closed) == (3, True)
    live = Live()
    with pytest.raises(FloatingPointError):
        training.train(lambda b: {"loss": float("inf")}, batches(), steps=3, live=live)
    assert live.closed


def test_training_alone_needs_no_figures():
    code = (
        "import sys; from papernets_lite import training;"
        "heavy = {'matplotlib', 'scipy', 'sklearn', 'pandas', 'IPython', 'cv2'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"
