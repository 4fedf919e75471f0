"""Seeds and settings: what a chapter begins with."""

import random

import numpy as np
import pytest
import torch

from papernets_lite import training


def test_begin_seeds_every_global_generator_and_gives_the_device():
    drawn = []
    for seed in (3, np.int64(3)):
        device = training.begin(seed)
        numbers = random.random(), np.random.rand()  # noqa: NPY002
        drawn.append((*numbers, torch.rand(1).item()))
    assert isinstance(device, torch.device)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("seed", ["3", 0.5, None, True])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(ValueError, match="an integer seed, got"):
        training.begin(seed)
    with pytest.raises(ValueError, match="an integer seed, got"):
        training.seed_everything(seed)


SCALES = {"tiny": {"steps": 9, "side": 64}, "gpu": {"side": 96, "steps": 90}}


def test_settings_are_read_by_name():
    at = training.settings("gpu", **SCALES)
    assert (at.steps, at.side) == (90, 96)


@pytest.mark.parametrize("scale", ["huge", "Tiny", None, 3])
def test_another_scale_is_refused_with_those_that_are_there(scale):
    with pytest.raises(ValueError, match=r"a scale from \['tiny', 'gpu'\], got"):
        training.settings(scale, **SCALES)


def test_scales_have_the_same_settings():
    with pytest.raises(ValueError, match=r"the same names .* got \['rate', 'side'\]"):
        training.settings("tiny", **SCALES, paper={"steps": 1, "rate": 2})
