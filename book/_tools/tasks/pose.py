"""Nets of joints on one small task: five points of a face, of which few are labelled.
``compared.py`` runs it, each net alone."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from papernets_lite import data, training
from papernets_lite.pose import hrnet, landmarks, openpose

POINTS = 5  # both eyes, the nose, both corners of the mouth
STEPS, BATCH = 200, 16


class Told(nn.Module):
    """A net that draws a map for each point, and is told where the points are.

    Args:
        net: whose maps count.
        last: the maps of what it answers.
        stride: pixels a cell.
    """

    def __init__(
        self, net: nn.Module, last: Callable[[object], Tensor], stride: float
    ) -> None:
        super().__init__()
        self.net, self.last, self.stride = net, last, stride

    def forward(self, images: Tensor) -> Tensor:
        """The maps of the points."""
        return self.last(self.net(images))[:, :POINTS]


NETS: dict[str, Callable[[], nn.Module]] = {
    "openpose": lambda: Told(openpose.tiny(), lambda stages: stages[-1][0], 4),
    "hrnet": lambda: Told(hrnet.tiny(num_joints=POINTS), lambda maps: maps, 2),
    "landmarks": landmarks.tiny,
}
SHAPE = (1, 3, 48, 48)
COLUMN = "points found"
SAID = (
    "One task for all: five points of a face in pictures of 48 x 48 pixels, of which 60"
    " are labelled and 1,000 more are not; 200 steps of 16. OpenPose and HRNet draw a"
    " map for each point and learn from the labelled faces, which cell it is, by AdamW"
    " with one cycle up to a rate of 0.008. Landmark Discovery learns as in its"
    " chapter from all faces without a label; a linear map, fitted to the labelled"
    " faces, tells its ten points as the five. A point counts as found within 0.2 of"
    " the distance between the eyes; the share is that of 300 new faces."
)


def faces(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Faces that lean and stand somewhat aside, and their points in units of the
    side."""
    scene = data.faces.sample(count, generator, scale=(0.34, 0.42))
    scene = data.faces.move(scene, generator)
    side = SHAPE[-1]
    points = data.faces.annotate(scene, side)["landmarks"][:, :POINTS] / side
    return data.faces.render(scene, side), points


def by_labels(
    build: Callable[[], nn.Module], known: tuple[Tensor, Tensor], seed: int
) -> Callable[[Tensor], Tensor]:
    """Train a net that is told the points; what answers with points."""
    images, points = known
    side, stride = SHAPE[-1], build().stride
    batch = {"images": images, "keypoints": points[:, None] * side}  # of one person
    batch["visible"] = torch.ones(batch["keypoints"].shape[:3], dtype=torch.bool)
    nets, _ = training.compare(
        {"net": build},
        partial(hrnet.loss, stride=stride, sigma=stride / 2, over_cells=True),
        batch,
        seed=seed,
        optimizer=partial(torch.optim.AdamW, lr=8e-3),
        steps=STEPS,
        batch_size=BATCH,
    )

    def answer(asked: Tensor) -> Tensor:
        maps = training.predict(nets["net"], asked)
        return hrnet.decode(maps, stride=stride)[0] / side

    return answer


def by_itself(
    build: Callable[[], nn.Module],
    known: tuple[Tensor, Tensor],
    others: Tensor,
    seed: int,
) -> Callable[[Tensor], Tensor]:
    """Train a net that finds points of its own, and fit them to the known ones; what
    answers with points."""
    images, points = known
    nets, _ = training.compare(
        {"net": build},
        partial(landmarks.loss, separate=100.0),
        {"images": torch.cat([images, others])},
        inputs=["images", "warped"],
        augment=landmarks.augment,
        seed=seed,
        optimizer=partial(torch.optim.Adam, lr=0.01, fused=True),
        warm_up=0.15,
        steps=STEPS,
        batch_size=BATCH,
    )
    own = training.predict(nets["net"], images).points
    fitted = landmarks.linear_map(own, points)

    def answer(asked: Tensor) -> Tensor:
        found = training.predict(nets["net"], asked).points
        return landmarks.apply_map(found, fitted)

    return answer


def measure(build: Callable[[], nn.Module], seed: int) -> float:
    """Train a net and test it.

    Args:
        build: Makes the net.
        seed: Of pictures, weights and batches.

    Returns:
        The share of points in new pictures that it finds.
    """
    generator = torch.Generator().manual_seed(seed)
    known = faces(60, generator)
    others, _ = faces(1000, generator)
    asked, truth = faces(300, generator)
    if isinstance(build(), Told):
        answer = by_labels(build, known, seed)
    else:
        answer = by_itself(build, known, others, seed)
    eyes = (truth[:, 0] - truth[:, 1]).norm(dim=1, keepdim=True)
    missed = (answer(asked) - truth).norm(dim=2) / eyes
    return (missed < 0.2).float().mean().item()
