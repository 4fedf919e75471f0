"""The shared loop: what it records, how it stops, and that an interrupted run goes on
to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from papernets_lite import training

ROOT = Path(__file__).resolve().parents[1]
JOB = """
import sys, time, torch
from pathlib import Path
from papernets_lite import training

def job(checkpoint, steps, waits_at=None):
    seen = []
    generator = training.seed_everything(7)
    x = torch.randn(64, 5, generator=generator)
    data = {"x": x, "y": (x.sum(1, keepdim=True) > 0).float()}
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(adam, 10, 0.5)
    batches = training.Batches(data, 16, generator=generator)
    def loss(out, batch):
        seen.append(len(seen))
        if waits_at == len(seen):
            time.sleep(600)  # for its end
        return {"loss": torch.nn.functional.mse_loss(out, batch["y"])}
    step = training.supervised_step(model, loss, adam, schedule=schedule, inputs="x")
    state = {"model": model, "adam": adam, "schedule": schedule}
    history = training.train(step, batches, steps=steps, state=state, checkpoint=checkpoint, save_every=3)
    return history, model

if __name__ == "__main__":
    job(sys.argv[1], 40, waits_at=20)
"""
exec(compile(JOB.replace('if __name__ == "__main__":', "if False:"), "job", "exec"))


def batches(n=32, size=8, seed=0):
    tensors = {
        "images": torch.arange(n, dtype=torch.float32)[:, None],
        "labels": torch.arange(n),
    }
    return training.Batches(
        tensors, size, generator=torch.Generator().manual_seed(seed)
    )


def test_batches_cover_every_sample_once_per_epoch():
    source = batches(32, 8)
    for _ in range(3):
        epoch = torch.cat([next(source)["labels"] for _ in range(4)])
        assert sorted(epoch.tolist()) == list(range(32))
    pair = next(source)
    assert torch.equal(pair["images"][:, 0].long(), pair["labels"])


def test_batches_drop_a_remainder_until_the_next_epoch():
    source = batches(10, 4)
    seen = torch.cat([next(source)["labels"] for _ in range(2)])
    assert len(set(seen.tolist())) == 8
    assert len(next(source)["labels"]) == 4


@pytest.mark.parametrize(
    ("tensors", "size"),
    [({}, 2), ({"a": torch.zeros(3), "b": torch.zeros(4)}, 2), ({"a": torch.zeros(3)}, 4), ({"a": torch.zeros(0)}, 1),
     ({"a": torch.zeros(3)}, 0)],
)  # fmt: skip
def test_bad_batches_are_refused(tensors, size):
    with pytest.raises(ValueError, match="expected"):
        training.Batches(tensors, size, generator=torch.Generator())


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


def test_resume_after_a_kill_is_exact(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(JOB)
    checkpoint = tmp_path / "run.ckpt"
    process = subprocess.Popen(
        [sys.executable, script, checkpoint],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.02)  # somewhere between two checkpoints; it never comes to its end
    process.send_signal(signal.SIGKILL)
    process.wait()
    stored = torch.load(checkpoint, weights_only=False)
    assert 3 <= len(stored["columns"]["loss"]) < 40
    resumed, model = job(checkpoint, 40)
    whole, other = job(None, 40)
    assert resumed.columns == whole.columns
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_interrupt_saves_and_raises(tmp_path):
    def step(batch):
        step.calls += 1
        if step.calls == 5:
            raise KeyboardInterrupt
        return {"loss": 1.0}

    step.calls = 0
    path = tmp_path / "x.ckpt"
    with pytest.raises(KeyboardInterrupt):
        training.train(step, batches(), steps=10, checkpoint=path)
    assert training.train(step, batches(), steps=10, checkpoint=path).steps == 10
    assert step.calls == 5 + 6


def test_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "x.ckpt"
    job(path, 4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        ValueError, match=r"x\.ckpt is no readable checkpoint.*delete it"
    ):
        job(path, 8)


def test_checkpoint_of_another_model_is_refused(tmp_path):
    path, source = tmp_path / "x.ckpt", batches()
    step = lambda b: {"loss": 1.0}  # noqa: E731
    training.train(
        step, source, steps=2, state={"model": nn.Linear(2, 2)}, checkpoint=path
    )
    with pytest.raises(ValueError, match="does not fit the module 'model'"):
        training.train(
            step, source, steps=4, state={"model": nn.Linear(3, 2)}, checkpoint=path
        )
    with pytest.raises(ValueError, match=r"holds \['batches', 'model'\]"):
        training.train(
            step, source, steps=4, state={"net": nn.Linear(2, 2)}, checkpoint=path
        )


def test_a_module_without_tensors_is_resumed_too(tmp_path):
    path, source = tmp_path / "x.ckpt", batches()
    step = lambda b: {"loss": 1.0}  # noqa: E731
    for steps in (2, 4):
        state = {"model": nn.Linear(2, 2), "activation": nn.ReLU()}
        history = training.train(
            step, source, steps=steps, state=state, checkpoint=path
        )
    assert history.steps == 4


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    job(path, 4)
    before = path.read_bytes()

    def fail(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        job(path, 8)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


def test_two_fits_see_the_same_batches():
    seen = []

    def loss(out, batch):
        seen.append(batch["labels"].tolist())
        return {"loss": out.mean()}

    tensors = {"images": torch.rand(32, 1, 4, 4), "labels": torch.arange(32)}
    for _ in range(2):
        net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten())
        options = {
            "optimizer": lambda p: torch.optim.SGD(p, 0.1),
            "steps": 3,
            "batch_size": 8,
            "seed": 5,
        }
        training.fit(net, loss, tensors, **options)
    assert seen[:3] == seen[3:]


def notebook(path, cells):
    made = [
        nbformat.v4.new_code_cell(source, metadata={"tags": tags})
        for source, tags in cells
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)


def test_a_chapter_runs_as_a_script(tmp_path):
    path, out = tmp_path / "c.ipynb", tmp_path / "out.json"
    cells = [("%pip install nothing", ["install"]), ("seed = 0", ["parameters"]),
             (f"import json; json.dump(seed, open({str(out)!r}, 'w'))", [])]  # fmt: skip
    notebook(path, cells)
    training.main([str(path), "-p", "seed", "3"])
    assert json.loads(out.read_text()) == 3
    with pytest.raises(ValueError, match="no parameter"):
        training.main([str(path), "-p", "speed", "3"])
    notebook(path, [("seed = 0", ["parameters"]), ("1 / 0", [])])
    with pytest.raises(RuntimeError, match="cell 1 failed: ZeroDivisionError"):
        training.main([str(path)])
    with pytest.raises(ValueError, match="no readable notebook"):
        training.main([str(tmp_path / "missing.ipynb")])


DISTRIBUTED = """
import json, sys, torch
from papernets_lite import training
rank, processes = training.world()
generator = training.seed_everything(3)
x = torch.randn(64, 3, 8, 8, generator=generator)
data = {"images": x, "y": x.mean((1, 2, 3))[:, None]}
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 1))
wrapped = training.parallel(model)
sgd = torch.optim.SGD(wrapped.parameters(), 0.05, momentum=0.9)
loss = lambda out, batch: {"loss": torch.nn.functional.mse_loss(out, batch["y"])}
batches = training.Batches(data, 16 // processes, generator=generator)
history = training.train(training.supervised_step(wrapped, loss, sgd), batches, steps=12, state={"model": model},
                         checkpoint=sys.argv[2])
if rank == 0:
    json.dump(history.columns["loss"], open(sys.argv[1], "w"))
"""


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(DISTRIBUTED)
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
        losses.append(json.loads(out.read_text()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(set(losses[0])) == 12, (
        "every step differs, so equal losses mean equal updates"
    )
