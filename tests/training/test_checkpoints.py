"""An interrupted run goes on to the bit, and a file that does not fit is refused."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from papernets_lite import training
from papernets_lite.training import checkpoints
from tests.training.job import batches, job

ROOT = Path(__file__).resolve().parents[2]


def test_resume_after_a_kill_is_exact(tmp_path):
    script = Path(__file__).with_name("job.py")
    checkpoint = tmp_path / "run.ckpt"
    with subprocess.Popen(
        [sys.executable, script, checkpoint],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        # it says so within a step, and waits there to be killed
        assert process.stdout.readline() == "waiting\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    stored = torch.load(checkpoint, weights_only=True)
    assert len(stored["columns"]["loss"]) == 6
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
            step, source, steps=2, state={"model": nn.Linear(3, 2)}, checkpoint=path
        )
    with pytest.raises(ValueError, match=r"holds \['batches', 'model'\]"):
        training.train(
            step, source, steps=2, state={"net": nn.Linear(2, 2)}, checkpoint=path
        )


def test_a_module_without_tensors_is_resumed_too(tmp_path):
    def step(batch):
        step.calls += 1
        if step.calls == 3:
            raise KeyboardInterrupt
        return {"loss": 1.0}

    step.calls = 0
    path, source = tmp_path / "x.ckpt", batches()
    state = {"model": nn.Linear(2, 2), "activation": nn.ReLU()}
    with pytest.raises(KeyboardInterrupt):
        training.train(step, source, steps=4, state=state, checkpoint=path)
    state = {"model": nn.Linear(2, 2), "activation": nn.ReLU()}
    again = training.train(step, batches(), steps=4, state=state, checkpoint=path)
    assert again.steps == 4
    assert step.calls == 3 + 2


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    job(path, 4)
    before = path.read_bytes()

    def fail(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"x\.ckpt could not .*disk full.* is whole"):
        job(path, 4)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


def test_a_run_of_another_length_is_refused_before_it_trains(tmp_path):
    path = tmp_path / "x.ckpt"
    job(path, 5)
    before = path.read_bytes()
    for steps in (10, 4):
        expected = f"was made for 5 steps, this run has {steps}"
        with pytest.raises(ValueError, match=expected):
            job(path, steps)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"size": 4}, "made for 8 samples a step, this run has 4"),
        ({"n": 64}, "made for 32 samples, this run has 64"),
        ({"seed": 1}, "made for 0 as the batches' seed, this run has 1"),
    ],
)
def test_a_run_on_other_batches_is_refused(tmp_path, other, message):
    path = tmp_path / "x.ckpt"
    step = lambda b: {"loss": 1.0}  # noqa: E731
    training.train(step, batches(), steps=2, checkpoint=path)
    with pytest.raises(ValueError, match=message):
        training.train(step, batches(**other), steps=2, checkpoint=path)


def small(path, weight=0.0):
    """A run of two steps, and its net."""
    net = nn.Linear(2, 2)
    nn.init.constant_(net.weight, weight)
    adam = torch.optim.Adam(net.parameters())
    history = training.train(
        lambda b: {"loss": 1.0},
        batches(),
        steps=2,
        state={"net": net, "adam": adam},
        checkpoint=path,
    )
    return history, net


def rewrite(path, change):
    record = torch.load(path, weights_only=True)
    change(record)
    torch.save(record, path)


@pytest.mark.parametrize("part", checkpoints.PARTS)
def test_a_file_of_another_version_is_named_with_what_it_lacks(tmp_path, part):
    path = tmp_path / "x.ckpt"
    small(path)
    rewrite(path, lambda record: record.pop(part))
    with pytest.raises(ValueError, match=rf"x\.ckpt .* lacks \['{part}'\]"):
        small(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["objects"].pop("adam"), r"lacks the state of \['adam'\]"),
        (lambda r: r["rng"].update(mps=torch.zeros(1)), "holds the generators"),
        (lambda r: r["rng"].pop("numpy"), "holds the generators"),
        (lambda r: r["rng"]["cuda"].append(torch.zeros(1)), "CUDA devices, here are"),
        (lambda r: r["objects"]["adam"].pop("param_groups"), "does not fit this run"),
        (lambda r: r["objects"]["batches"].pop("position"), "does not fit this run"),
        (lambda r: r["rng"].update(python=(1, 2)), "does not fit this run"),
        (lambda r: r.update(modules=torch.zeros(3).byte()), "no readable checkpoint"),
    ],
)
def test_nothing_is_loaded_unless_all_fits(tmp_path, change, message):
    path = tmp_path / "x.ckpt"
    small(path, weight=1.0)
    rewrite(path, change)
    net = nn.Linear(2, 2)
    adam = torch.optim.Adam(net.parameters(), lr=0.5)
    source = batches()
    held = {"net": net, "adam": adam, "batches": source}
    weight = net.weight.clone()
    order = source.state_dict()
    chance = torch.get_rng_state()
    made_for = {"steps": 2, "processes": 1, **source.made_for}
    with pytest.raises(ValueError, match=message) as caught:
        training.load_checkpoint(path, held, made_for)
    assert "x.ckpt" in str(caught.value)
    assert torch.equal(net.weight, weight)
    assert adam.param_groups[0]["lr"] == 0.5
    assert torch.equal(source.state_dict()["order"], order["order"])
    assert torch.equal(torch.get_rng_state(), chance)


def test_loading_a_file_runs_no_code(tmp_path):
    path, told = tmp_path / "x.ckpt", tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {told}",)

    torch.save({"names": Trap()}, path)
    with pytest.raises(ValueError, match="no readable checkpoint"):
        small(path)
    assert not told.exists()


def test_all_global_generators_go_on_where_they_were(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    small(path)

    def draw():
        return np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    history, _ = small(path)
    first = draw()
    small(path)
    assert draw() == first
    assert history.steps == 2
    # The checks of types draw from Python's own, so that its state is looked at.
    restored = []
    monkeypatch.setattr(random, "setstate", restored.append)
    stored = torch.load(path, weights_only=True)["rng"]["python"]
    small(path)
    assert restored == [stored]


def test_a_generator_among_the_state_goes_on_too(tmp_path):
    path = tmp_path / "x.ckpt"
    drawn = []
    for _ in range(2):
        chance = torch.Generator().manual_seed(3)

        def step(batch, chance=chance):
            return {"loss": torch.rand(1, generator=chance)}

        state = {"chance": chance}
        training.train(step, batches(), steps=2, state=state, checkpoint=path)
        drawn.append(torch.rand(1, generator=chance).item())
    assert drawn[0] == drawn[1]


def test_what_a_killed_run_left_is_removed_at_the_next_start(tmp_path):
    path = tmp_path / "x.ckpt"
    half = tmp_path / f"x.ckpt.abc{checkpoints.HALF}"
    half.mkdir()
    (half / "new").write_bytes(b"half")
    other = tmp_path / f"y.ckpt.abc{checkpoints.HALF}"
    other.mkdir()
    small(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.ckpt", other.name]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("[enforce fail at inline_container.cc:671]")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"x\.ckpt could not be written") as caught:
        small(tmp_path / "x.ckpt")
    assert "is whole" not in str(caught.value)  # there was none


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    small("~/x.ckpt")
    assert (tmp_path / "x.ckpt").exists()
