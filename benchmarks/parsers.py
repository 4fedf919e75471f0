"""OpenPose's parser beside the released one, as controlnet-aux ports it: who finds more
of the people in the same maps, and in what time."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from papernets_lite.data import people
from papernets_lite.pose import openpose

from .timing import seconds

SCENES, SIDE, STRIDE = 16, 184, 8.0
# std of what is added to every cell; at 0.1 the released parser takes seconds a picture
NOISES = (0.0, 0.05)
NEAR = 8.0  # pixels: a joint found at most so far from its place is right
Person = tuple[Tensor, Tensor]  # keypoints (18, 2) and which of them were found
Parser = Callable[[Tensor, Tensor], list[Person]]


@contextmanager
def package_without_its_start(name: str):
    """A package whose parts can be imported although its own ``__init__`` is not run,
    as that imports much more than is installed."""
    known = set(sys.modules)
    spec = importlib.util.find_spec(name)
    (place,) = spec.submodule_search_locations
    for path in (name, f"{name}.open_pose"):
        package = ModuleType(path)
        package.__path__ = [str(Path(place, *path.split(".")[1:]))]
        sys.modules[path] = package
    try:
        yield
    finally:
        for added in set(sys.modules) - known:
            if added.startswith(name):
                del sys.modules[added]


class Given(nn.Module):
    """Stands for the released net: answers with maps that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))  # the parser asks where the net is
        self.maps: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The maps, as the net gives them: fields, heats."""
        return self.maps


def released() -> Parser:
    """The released parser, on the maps of one image."""
    with package_without_its_start("controlnet_aux"):
        # the two import each other, and only in this order
        importlib.import_module("controlnet_aux.open_pose.util")
        body = importlib.import_module("controlnet_aux.open_pose.body")
    parser = object.__new__(body.Body)  # its constructor loads weights
    parser.model = Given()
    # it works at twice the size, and asks only for the picture's shape
    picture = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)

    def parse(heats: Tensor, fields: Tensor) -> list[Person]:
        parser.model.maps = fields[None], heats[None]
        candidates, subsets = parser(picture)
        found = []
        for subset in subsets:
            keypoints = torch.zeros(18, 2)
            seen = torch.zeros(18, dtype=torch.bool)
            for joint in range(18):
                if subset[joint] >= 0:
                    x, y = candidates[int(subset[joint])][:2]
                    keypoints[joint] = torch.tensor([x, y]) / 2 + 0.5
                    seen[joint] = True
            found.append((keypoints, seen))
        return found

    return parse


def ours(heats: Tensor, fields: Tensor) -> list[Person]:
    """This package's parser, on the maps of one image."""
    (found,) = openpose.decode([(heats[None], fields[None])], stride=STRIDE)
    return list(zip(found.keypoints, found.found, strict=True))


def hits(found: list[Person], true: list[Person]) -> int:
    """How many people are found: with half of their joints near, each by another."""
    free = dict(enumerate(found))
    count = 0
    for keypoints, present in true:
        shares = {}
        for index, (guess, seen) in free.items():
            near = (guess - keypoints).norm(dim=-1) < NEAR
            shares[index] = float((near & seen & present).sum() / present.sum())
        best = max(shares, key=shares.__getitem__, default=None)
        if best is not None and shares[best] >= 0.5:
            count += 1
            del free[best]
    return count


def score(parse: Parser, heats: Tensor, fields: Tensor, crowds: list) -> str:
    """Recall, precision and milliseconds a picture, as cells of a row."""
    answers: list[list[Person]] = []

    def work() -> None:
        for maps in zip(heats, fields, strict=True):
            answers.append(parse(*maps))

    taken = seconds(work)
    pairs = zip(answers, crowds, strict=True)
    right = sum(hits(found, true) for found, true in pairs)
    recall = right / sum(len(true) for true in crowds)
    precision = right / max(1, sum(len(found) for found in answers))
    return f"{recall:.2f} | {precision:.2f} | {1e3 * taken / len(heats):.0f}"


def table() -> str:
    """Both parsers at every noise, as Markdown."""
    generator = torch.Generator().manual_seed(5)
    size = int(SIDE / STRIDE)
    scene = people.sample(
        SCENES, generator, people=(3, 5), spacing=(0.1, 0.18), height=(0.5, 0.75)
    )
    truth = people.annotate(scene, SIDE)
    keypoints, present = truth["keypoints"], truth["in_frame"]
    heats, fields = openpose.targets(
        keypoints, present, size=(size, size), stride=STRIDE, sigma=7.0, width=8.0
    )
    crowds = []
    for points, known in zip(keypoints, present, strict=True):
        pairs = zip(points, known, strict=True)
        crowds.append([(p, k) for p, k in pairs if k.sum() >= 4])
    lines = ["| noise | parser | recall | precision | ms |", "| --- " * 5 + "|"]
    parsers = {"ours": ours, "released": released()}
    for noise in NOISES:
        noises = torch.Generator().manual_seed(1)
        rough = heats + noise * torch.randn(heats.shape, generator=noises)
        other = fields + noise * torch.randn(fields.shape, generator=noises)
        for name, parse in parsers.items():
            parse(rough[0], other[0])
            line = f"| {noise} | {name} | {score(parse, rough, other, crowds)} |"
            print(" ", line, flush=True)
            lines.append(line)
    return "\n".join(lines)
