"""What holds for every world: see ``papernets_lite.data.worlds.World``."""

import inspect
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from papernets_lite import data
from papernets_lite.data import worlds

WORLDS = {name: getattr(data, name) for name in worlds.NAMES}
# The sum of all factors of two scenes from seed 0, as drawn on other machines.
SUMS = {
    "cells": 5697.2467,
    "coasts": 375.408653,
    "faces": 1551.6401,
    "motion": 1125.6103,
    "people": 3508.0135,
    "rooms": 440.0316,
    "shapes": 177.7132,
    "streets": 1858.2689,
    "toys": 1244.3648,
}
# Requests that leave one value of a factor, and the factor that shows it.
FIXED = {
    "faces": [
        ({"hair": ["blond"]}, "hair", data.faces.HAIR.index("blond")),
        ({"styles": ["bun"]}, "style", data.faces.STYLES.index("bun")),
        ({"glasses": ["dark"]}, "glasses", data.faces.GLASSES.index("dark")),
        ({"beards": ["full"]}, "beard", data.faces.BEARDS.index("full")),
        ({"makeup": ["plum"]}, "makeup", data.faces.MAKEUP.index("plum")),
        ({"age": (0.25, 0.25)}, "age", 0.25),
        ({"identities": (7, 8)}, "identity", 7),
    ],
    "cells": [
        ({"across": (4, 4)}, "across", 4),
        ({"stretch": (1.5, 1.5)}, "stretch", 1.5),
        ({"density": 1}, "there", True),
    ],
    "motion": [
        ({"blur": (0.25, 0.25), "unclear": 1}, "blur", 0.25),
        ({"unclear": 0}, "blur", 0),
    ],
    "people": [({"people": (2, 2)}, "valid", True)],
    "rooms": [
        ({"kinds": ["bed"]}, "kinds", data.rooms.KINDS.index("bed")),
        ({"colours": ["teal"]}, "colours", data.rooms.COLOURS.index("teal")),
    ],
    "shapes": [
        ({"classes": ["star"]}, "labels", data.shapes.CLASSES.index("star")),
        ({"colours": ["blue"]}, "colours", data.shapes.COLOURS.index("blue")),
        ({"textures": ["dots"]}, "textures", data.shapes.TEXTURES.index("dots")),
        ({"grounds": ["plain"]}, "grounds", data.shapes.GROUNDS.index("plain")),
        ({"radius": (0.25, 0.25)}, "radii", 0.25),
        ({"objects": (3, 3)}, "valid", True),
    ],
    "streets": [({"skies": ["grey"]}, "skies", data.streets.SKIES.index("grey"))],
    "toys": [
        ({"classes": ["chair"]}, "labels", data.toys.CLASSES.index("chair")),
        ({"poses": (5, 5)}, "poses", 5),
    ],
}
# Truths that are maps: one value, or a few, for each pixel.
MAPS = (
    "masks",
    "amodal_masks",
    "part_labels",
    "instances",
    "flow",
    "depth",
    "normals",
    "edges",
    "objects",
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tensors(scene, prefix: str = "") -> dict[str, Tensor]:
    """All factors by name, those of a scene within a scene, too."""
    found = {}
    for field in fields(scene):
        value = getattr(scene, field.name)
        if is_dataclass(value):
            found |= tensors(value, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = value
    return found


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two dicts hold the same tensors, to the bit."""
    same = [torch.equal(values, other[name]) for name, values in one.items()]
    return one.keys() == other.keys() and all(same)


def defaults(world) -> dict[str, object]:
    """The keywords of a world's ``sample`` with their defaults."""
    known = inspect.signature(world.sample).parameters.values()
    return {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY}


def requests(kind) -> list[tuple[str, str]]:
    """(world, keyword) of all keywords whose default is of a kind."""
    found = []
    for name, world in WORLDS.items():
        found += [(name, key) for key, value in defaults(world).items() if kind(value)]
    return found


def is_range(value) -> bool:
    numbers = isinstance(value, tuple) and len(value) == 2
    return numbers and all(isinstance(bound, (int, float)) for bound in value)


def is_names(value) -> bool:
    return isinstance(value, tuple) and value and isinstance(value[0], str)


@pytest.fixture(params=worlds.NAMES)
def world(request):
    return WORLDS[request.param]


def test_worlds_are_loaded_when_they_are_touched():
    code = """
import sys, torch
from papernets_lite import data
heavy = ("cv2", "skimage", "sklearn", "mlxtend", "torchvision", "PIL")
assert not [name for name in heavy if name in sys.modules], "loaded by data"
assert {"cells", "digits", "load", "shapes"} <= set(dir(data))
assert not hasattr(data, "gardens")
assert "papernets_lite.data.shapes" not in sys.modules
data.shapes.sample(1, torch.Generator())
assert "papernets_lite.data.shapes" in sys.modules
assert not [name for name in heavy[1:] if name in sys.modules], "loaded by shapes"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_module_of_data_is_reached_from_it():
    folder = Path(data.__file__).parent
    modules = {path.stem for path in folder.glob("[a-z]*.py")}
    assert modules <= set(data.__all__)


def test_same_seed_same_factors_and_another_seed_others(world):
    once, again = (tensors(world.sample(3, seeded(3))) for _ in range(2))
    assert equal(once, again)
    assert not equal(once, tensors(world.sample(3, seeded(4))))


def test_a_seeds_factors_are_those_of_every_machine(world):
    name = world.__name__.rpartition(".")[2]
    factors = tensors(world.sample(2, seeded()))
    total = sum(values.double().sum().item() for values in factors.values())
    assert total == pytest.approx(SUMS[name], rel=1e-6)


def test_a_picture_does_not_depend_on_how_many_there_are(world):
    # more than are drawn at a time
    few, many = world.sample(2, seeded(3)), world.sample(67, seeded(3))
    first = many[:2]
    assert equal(tensors(few), tensors(first))
    assert len(first) == 2
    pictures = world.render(few, 24)
    assert torch.equal(pictures, world.render(many, 24)[:2])
    truth = world.annotate(few, 24)
    more = {name: values[:2] for name, values in world.annotate(many, 24).items()}
    assert equal(truth, more)


@pytest.mark.parametrize("size", [16, 47, 64])
def test_pictures_are_finite_and_from_0_to_1(world, size):
    scene = world.sample(3, seeded(5))
    before = {name: values.clone() for name, values in tensors(scene).items()}
    pictures = world.render(scene, size)
    assert pictures.dtype == torch.float32
    assert pictures.shape[0] == 3
    assert pictures.shape[-3:] == (3, size, size)
    assert pictures.isfinite().all()
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert torch.equal(pictures, world.render(scene, size))
    assert equal(before, tensors(scene)), "the scene is left as it is"


@pytest.mark.parametrize("size", [16, 47, 64])
def test_truths_fit_their_pictures(world, size):
    scene = world.sample(5, seeded(6))
    truth = world.annotate(scene, size)
    for name, values in truth.items():
        assert len(values) == 5, name
        assert values.isfinite().all(), name
        if name in MAPS:
            assert values.shape[-2:] == (size, size), name
        if name in ("valid", "masks", "amodal_masks", "edges"):
            assert values.dtype == torch.bool, name
    if "boxes" in truth:
        boxes, valid = truth["boxes"], truth["valid"]
        assert boxes.dtype == torch.float32
        assert boxes.shape == (*valid.shape, 4)
        assert (boxes >= 0).all()
        assert (boxes <= size).all()
        assert (boxes[..., 2:] >= boxes[..., :2]).all()
        assert not boxes[~valid].any()
    assert equal(truth, world.annotate(scene, size))


def test_drawing_leaves_the_process_as_it_was(world):
    numbers, threads = torch.get_rng_state(), cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        scene = world.sample(1, seeded())
        world.annotate(scene, 16)
        world.render(scene, 16)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(threads)
    assert torch.equal(numbers, torch.get_rng_state())


@pytest.mark.parametrize("n", [0, -1, True])
def test_no_picture_is_no_request(world, n):
    with pytest.raises(ValueError, match="expected n >= 1"):
        world.sample(n, seeded())


def test_only_torchs_generators_will_do(world):
    with pytest.raises((ValueError, TypeCheckError), match="enerator"):
        world.sample(2, None)


@pytest.mark.parametrize("size", [15, 0, -64, True])
def test_small_pictures_are_refused(world, size):
    scene = world.sample(1, seeded())
    for ask in (world.render, world.annotate):
        with pytest.raises(ValueError, match=f"at least 16 pixels, got {size}"):
            ask(scene, size)


@pytest.mark.parametrize("name", worlds.NAMES)
def test_numpys_whole_numbers_will_do(name):
    world = WORLDS[name]
    scene = world.sample(np.int64(2), seeded())
    assert equal(tensors(scene), tensors(world.sample(2, seeded())))
    assert torch.equal(world.render(scene, np.int64(16)), world.render(scene, 16))
    assert equal(world.annotate(scene, np.int32(16)), world.annotate(scene, 16))


@pytest.mark.parametrize(
    ("name", "request_", "factor", "value"),
    [(name, *case) for name, cases in FIXED.items() for case in cases],
)
def test_a_factor_can_be_fixed(name, request_, factor, value):
    values = tensors(WORLDS[name].sample(40, seeded(), **request_))[factor]
    assert (values == value).all()


@pytest.mark.parametrize("name", ["shapes", "motion"])
def test_pairs_can_be_held_out(name):
    held = {("circle", "red"), ("star", "blue")}
    every = {"classes": ["circle", "star"], "colours": ["red", "blue"]}
    found = WORLDS[name].sample(200, seeded(), held_out=held, **every)
    scene = found.scene if name == "motion" else found
    labels, colours = scene.labels[scene.valid], scene.colours[scene.valid]
    pairs = set(zip(labels.tolist(), colours.tolist(), strict=True))
    shapes = data.shapes
    seen = {(shapes.CLASSES[label], shapes.COLOURS[hue]) for label, hue in pairs}
    assert seen == {("circle", "blue"), ("star", "red")}
    for wrong in (("blob", "red"), ("circle", "rad"), ("circle",)):
        with pytest.raises((ValueError, TypeCheckError), match="held_out"):
            WORLDS[name].sample(1, seeded(), held_out=[wrong])


@pytest.mark.parametrize(("name", "key"), requests(is_names))
@pytest.mark.parametrize("wrong", [(), ("no such thing",)])
def test_unknown_names_are_refused(name, key, wrong):
    with pytest.raises(ValueError, match="expected"):
        WORLDS[name].sample(1, seeded(), **{key: wrong})


NAN = float("nan")
REFUSED = (ValueError, TypeCheckError)


@pytest.mark.parametrize(("name", "key"), requests(is_range))
def test_ranges_are_checked(name, key):
    low, high = defaults(WORLDS[name])[key]
    far = 10**6
    wrong = [(high + 1, low), (NAN, NAN), (low, NAN), (low,)]
    if key != "spacing":  # people may stand on each other, and far apart
        wrong.append((-far, high))
    if key not in ("spacing", "identities"):
        wrong.append((low, far))
    for bounds in wrong:
        with pytest.raises(REFUSED, match=key):
            WORLDS[name].sample(1, seeded(), **{key: bounds})


@pytest.mark.parametrize(
    "name", ["cells", "faces", "motion", "rooms", "shapes", "streets"]
)
@pytest.mark.parametrize("noise", [-0.1, NAN, float("inf"), 2])
def test_noise_has_its_range(name, noise):
    with pytest.raises(ValueError, match="noise"):
        WORLDS[name].sample(1, seeded(), noise=noise)
