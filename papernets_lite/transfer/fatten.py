r"""Feature Space Transfer for Data Augmentation (FATTEN, the feature transfer network).

Bo Liu, Xudong Wang, Mandar Dixit, Roland Kwitt, Nuno Vasconcelos. CVPR 2018,
arXiv 1801.04356. Official code: announced on the project page,
svcl.ucsd.edu/projects/fatten; no public copy was found.

Idea: from a net's feature of a thing in one pose, predict the feature that the net
would have in another pose, by splitting it into appearance and pose and decoding the
appearance together with the pose that is wanted.

Differs:
    1. The loss also pulls towards the true feature of the same thing in the wanted
       pose, which a renderer gives. Whether the paper does so could not be confirmed;
       its abstract names category and pose alone. Weight 0 leaves it out.
    2. The decoder's last layer starts at zero, so that an untrained net leaves every
       feature as it is.
    3. ``tiny`` reads features of 96 numbers of a small net, the paper 4,096 of VGG-16.
    4. Pose is the only attribute; the paper also transfers depth.

Guessed:
    All widths and depths of the three parts, and the weights of the losses. Batch
    normalisation and ELU are those of the laboratory's earlier net, AGA.

Contract:
    ``loss`` takes the fixed classifiers as ``judges``. There is no ``decode``: the
    outputs are features; ``trajectory`` gives those of all poses.

Example:
    >>> from papernets_lite.transfer import fatten
    >>> x, wanted = torch.rand(2, 96), torch.tensor([3, 11])
    >>> (fatten.tiny().eval()(x, wanted).features == x).all()
    tensor(True)
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.ops.checks import (
    at_least,
    check_finite,
    check_images,
    check_keys,
    check_labels,
    check_same,
    expect,
)

FEATURE = 4096  # numbers in VGG-16's fc7
CATEGORIES, POSES = 40, 12  # of ModelNet; a pose every 30 degrees
TURNS = Path(__file__).with_name("fatten_turns.json")


class Said(NamedTuple):
    """What is said of features: logits."""

    categories: Float[Tensor, "b k"]
    poses: Float[Tensor, "b p"]


class Moved(NamedTuple):
    """What the transfer gives."""

    features: Float[Tensor, "b d"]  # in the wanted pose
    source: Float[Tensor, "b p"]  # logits of the pose that it came from


def trunk(features: int = 96) -> nn.Sequential:
    """The book's net up to its features, for pictures of 32x32.

    Args:
        features: numbers in a feature.
    """
    first = nn.Conv2d(3, 48, 6, stride=4, padding=1, bias=False)
    second = nn.Conv2d(48, 96, 3, stride=2, padding=1, bias=False)
    last = [nn.Flatten(), nn.Linear(96 * 16, features), nn.ReLU()]
    return nn.Sequential(*conv_norm_act(first), *conv_norm_act(second), *last)


def vgg_trunk() -> nn.Sequential:
    """The paper's: VGG-16 up to fc7, without its last layer; for 224x224, untrained."""
    vgg = torchvision.models.vgg16(weights=None)
    head = list(vgg.classifier)[:-1]
    return nn.Sequential(vgg.features, vgg.avgpool, nn.Flatten(), *head)


class Recogniser(nn.Module):
    """A net that is trained to say category and pose; what it reads them from is the
    feature.

    Args:
        body: from pictures to features.
        features: numbers in one.
        categories, poses: how many there are.
    """

    def __init__(
        self, body: nn.Module, *, features: int, categories: int, poses: int = POSES
    ) -> None:
        super().__init__()
        self.body = body
        self.category = nn.Linear(features, categories)
        self.pose = nn.Linear(features, poses)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Said:
        """Category and pose of each picture.

        Raises:
            ValueError: for no images, or images of another type than float.
        """
        check_images(images)
        x = self.body(images)
        return Said(self.category(x), self.pose(x))


class Judges(nn.Module):
    """Two classifiers of features, each with one hidden layer.

    Args:
        features: numbers in one.
        categories, poses: how many there are.
        hidden: numbers in between.
    """

    def __init__(
        self,
        *,
        features: int = 96,
        categories: int,
        poses: int = POSES,
        hidden: int = 96,
    ) -> None:
        super().__init__()
        at_least(1, features=features, categories=categories, poses=poses)
        self.category = classifier(features, hidden, categories)
        self.pose = classifier(features, hidden, poses)

    def forward(self, features: Float[Tensor, "b d"]) -> Said:
        """Category and pose of each feature."""
        return Said(self.category(features), self.pose(features))


def classifier(features: int, hidden: int, classes: int) -> nn.Sequential:
    """One hidden layer, without normalisation: what is said of one feature does not
    depend on others.

    Args:
        features, hidden, classes: numbers in, between and out.
    """
    return nn.Sequential(
        nn.Linear(features, hidden), nn.ELU(), nn.Linear(hidden, classes)
    )


def recognition_loss(
    outputs: Said,
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy of category and pose, of pictures or of features.

    Args:
        outputs: of a ``Recogniser`` or of ``Judges``.
        batch: ``labels`` and ``poses``, (b,).
        generator: nothing is drawn.

    Returns:
        ``loss``, and its terms ``category`` and ``pose``.

    Raises:
        ValueError: for a batch without them, or numbers out of range.
    """
    check_keys(batch, "labels", "poses")
    terms = {
        "category": missed(outputs.categories, batch["labels"]),
        "pose": missed(outputs.poses, batch["poses"]),
    }
    return {"loss": terms["category"] + terms["pose"], **terms}


def missed(logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Tensor:
    """Cross-entropy, of labels that are checked first."""
    count, classes = logits.shape
    return functional.cross_entropy(
        logits, check_labels(labels, classes, shape=(count,))
    )


def fully(in_features: int, out_features: int) -> nn.Sequential:
    """A fully connected layer, batch normalisation and an ELU."""
    return nn.Sequential(
        nn.Linear(in_features, out_features),
        nn.BatchNorm1d(out_features),
        nn.ELU(),
    )


class FATTEN(nn.Module):
    r"""The transfer network, :math:`\hat x(t) = x + D(A(x), P(x), t)`.

    Args:
        residual: add the decoder's result to the feature; else it is the new feature.
        features: numbers in a feature.
        poses: how many there are.
        appearance: numbers in the appearance code, A(x).
        reader: hidden numbers of the pose predictor P.
        hidden: of the decoder D, twice.

    Raises:
        ValueError: for a width below 1.
    """

    def __init__(
        self,
        *,
        residual: bool = True,
        features: int,
        poses: int = POSES,
        appearance: int,
        reader: int,
        hidden: int,
    ) -> None:
        super().__init__()
        at_least(1, features=features, poses=poses, appearance=appearance)
        at_least(1, reader=reader, hidden=hidden)
        self.features, self.poses, self.residual = features, poses, residual
        self.appearance = fully(features, appearance)
        self.pose = nn.Sequential(fully(features, reader), nn.Linear(reader, poses))
        self.decoder = nn.Sequential(
            fully(appearance + 2 * poses, hidden),
            fully(hidden, hidden),
            nn.Linear(hidden, features),
        )
        last = self.decoder[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(
        self, features: Float[Tensor, "b d"], wanted: Int[Tensor, " b"]
    ) -> Moved:
        """Features as they would be in other poses.

        Args:
            features: standardised.
            wanted: the poses, t, as numbers.

        Raises:
            ValueError: for no features, others than the net was built for, or a pose
                that is not there.
        """
        fits = features.ndim == 2 and features.shape[1] == self.features
        expect(fits and len(features), f"features (b, {self.features})", features.shape)
        stops = check_labels(wanted, self.poses, shape=(len(features),))
        source = self.pose(features)
        target = functional.one_hot(stops, self.poses).to(features)
        parts = [self.appearance(features), source.softmax(1), target]
        change = self.decoder(torch.cat(parts, 1))
        return Moved(features + change if self.residual else change, source)


def loss(
    outputs: Moved,
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
    judges: Judges | None = None,
    regression: float = 1.0,
    judged: float = 0.1,
    read: float = 0.1,
) -> dict[str, Tensor]:
    """The multi-task loss: the category must stay, the pose must be the wanted one, and
    the pose that it came from must be read rightly.

    Args:
        outputs: of the net.
        batch: ``labels``, categories; ``poses``, of the sources; ``wanted``, the poses
            asked for, all (b,); ``truth`` (b, d), the same things' features there.
        generator: nothing is drawn.
        judges: fixed classifiers; None leaves their two terms out.
        regression: weight of the mean squared distance from ``truth``.
        judged: weight of the judges' two cross-entropies.
        read: weight of the cross-entropy of the pose predictor.

    Returns:
        ``loss`` and its terms, unweighted: ``regression``, ``read``, and with judges
        ``category`` and ``pose``.

    Raises:
        ValueError: for a batch without them, or of other shapes.
    """
    check_keys(batch, "labels", "poses", "wanted", "truth")
    check_same(outputs.features, batch["truth"], "features")
    terms = {
        "regression": functional.mse_loss(outputs.features, batch["truth"]),
        "read": missed(outputs.source, batch["poses"]),
    }
    total = regression * terms["regression"] + read * terms["read"]
    if judges is not None:
        said = judges(outputs.features)
        terms["category"] = missed(said.categories, batch["labels"])
        terms["pose"] = missed(said.poses, batch["wanted"])
        total = total + judged * (terms["category"] + terms["pose"])
    return {"loss": total, **terms}


class Pairs(Iterator[dict[str, Tensor]]):
    """Endless random pairs: the same thing in a pose and in a wanted one.

    Args:
        features: of each thing at all poses, (n, p, d).
        labels: its category.
        size: pairs of a batch.
        generator: draws them.

    Raises:
        ValueError: for no things, other shapes, or a size below 1.
    """

    def __init__(
        self,
        features: Float[Tensor, "n p d"],
        labels: Int[Tensor, " n"],
        *,
        size: int,
        generator: torch.Generator,
    ) -> None:
        check_turns(features)
        expect(len(labels) == len(features), "a label a thing", labels.shape)
        at_least(1, size=size)
        self.features, self.labels = features, labels
        self.size, self.generator = size, generator

    def __next__(self) -> dict[str, Tensor]:
        """A batch: ``features``, ``truth``, ``labels``, ``poses`` and ``wanted``."""
        count, poses, _ = self.features.shape
        which = self._draw(count)
        source, wanted = self._draw(poses), self._draw(poses)
        return {
            "features": self.features[which, source],
            "truth": self.features[which, wanted],
            "labels": self.labels[which],
            "poses": source,
            "wanted": wanted,
        }

    def _draw(self, below: int) -> Tensor:
        return torch.randint(below, (self.size,), generator=self.generator)


def check_turns(features: Tensor) -> None:
    """Refuse what are no features of things at all poses.

    Raises:
        ValueError: for another shape, no things, or values that are not finite.
    """
    filled = features.ndim == 3 and features.numel() > 0
    expect(filled, "features (things, poses, numbers)", features.shape)
    check_finite(features, "features")


@torch.no_grad()
def trajectory(
    net: FATTEN, features: Float[Tensor, "n p d"]
) -> Float[Tensor, "n p p d"]:
    """Every feature moved to every pose.

    Args:
        net: trained; it is asked in the mode it is in.
        features: of things at all poses.

    Returns:
        [thing, source, wanted] -> feature.
    """
    check_turns(features)
    count, poses, _ = features.shape
    sources = features.flatten(0, 1).repeat_interleave(poses, 0)
    wanted = torch.arange(poses).repeat(count * poses)
    moved = net(sources, wanted.to(sources.device)).features
    return moved.unflatten(0, (count, poses, poses))


def relative_errors(
    moved: Float[Tensor, "n p p d"], features: Float[Tensor, "n p d"]
) -> Float[Tensor, " p"]:
    r"""How far moved features are from the true ones, by the angle of the turn:
    :math:`\sum \lVert \hat x(t) - x_t \rVert^2 / \sum \lVert x - x_t \rVert^2`, so that
    doing nothing has 1.

    Args:
        moved: from ``trajectory``.
        features: the things' true ones.

    Returns:
        For turns by 0, 1, ... poses; the first, which divides by zero, is NaN.
    """
    poses = features.shape[1]
    left = (moved - features[:, None]).square().sum((0, 3))
    there = (features[:, :, None] - features[:, None]).square().sum((0, 3))
    stops = torch.arange(poses)
    turns = (stops[None] - stops[:, None]) % poses
    sums = torch.zeros(2, poses, dtype=features.dtype)
    sums[0].index_put_((turns,), left, accumulate=True)
    sums[1].index_put_((turns,), there, accumulate=True)
    return sums[0] / sums[1]


def relative_error(
    moved: Float[Tensor, "n p p d"], features: Float[Tensor, "n p d"]
) -> float:
    """``relative_errors`` over all turns but none.

    Args:
        moved: from ``trajectory``.
        features: the things' true ones.
    """
    others = ~torch.eye(features.shape[1], dtype=torch.bool)
    left = (moved - features[:, None]).square().sum(3)[:, others].sum()
    there = (features[:, :, None] - features[:, None]).square().sum(3)
    return (left / there[:, others].sum()).item()


@torch.no_grad()
def displaced(
    net: FATTEN, features: Float[Tensor, "n p d"], means: Float[Tensor, "p d"]
) -> Float[Tensor, "n p p d"]:
    """The cheap rival, x + mean of the wanted pose - mean of the source's.

    Args:
        net: its pose predictor says which source, as a mixture of all.
        features: of things at all poses.
        means: of the base things' features at each pose.

    Returns:
        As ``trajectory``.
    """
    check_turns(features)
    shares = net.pose(features.flatten(0, 1)).softmax(1)
    own = (shares @ means).view_as(features)
    return (features - own)[:, :, None] + means


def linear_maps(
    features: Float[Tensor, "n p d"], *, penalty: float = 30.0
) -> Float[Tensor, "e p d"]:
    """Another cheap rival: for each wanted pose the affine map that fits best, from all
    sources, by ridge regression.

    Args:
        features: of the base things at all poses.
        penalty: of the maps' squares, not of their offsets.

    Returns:
        d rows of the map and one of offsets, for each pose.
    """
    check_turns(features)
    _, poses, size = features.shape
    inputs = features.flatten(0, 1)
    wanted = features.flatten(1).repeat_interleave(poses, 0)
    maps, offsets = ridge(inputs, wanted, penalty)
    return torch.cat([maps, offsets]).view(size + 1, poses, size)


def mapped(
    maps: Float[Tensor, "e p d"], features: Float[Tensor, "n p d"]
) -> Float[Tensor, "n p p d"]:
    """Every feature moved to every pose by ``linear_maps``, as ``trajectory``."""
    moved = torch.einsum("nsd,dte->nste", features, maps[:-1])
    return moved + maps[-1]


def ridge(
    inputs: Float[Tensor, "*e r d"], wanted: Float[Tensor, "*e r k"], penalty: float
) -> tuple[Float[Tensor, "*e d k"], Float[Tensor, "*e 1 k"]]:
    """Ridge regression with free offsets: slopes and offsets.

    Args:
        inputs: rows.
        wanted: for each row.
        penalty: of the slopes' squares.
    """
    middle, level = inputs.mean(-2, keepdim=True), wanted.mean(-2, keepdim=True)
    x, y = inputs - middle, wanted - level
    gram = x.mT @ x + penalty * torch.eye(x.shape[-1]).to(x)
    slopes = torch.linalg.solve(gram, x.mT @ y)
    return slopes, level - middle @ slopes


def noise(
    features: Float[Tensor, "n p d"], labels: Int[Tensor, " n"]
) -> Float[Tensor, "d d"]:
    """A matrix that turns white noise (rows) into noise of the base categories' common
    covariance.

    Args:
        features: of the base things at all poses.
        labels: their categories.
    """
    check_turns(features)
    rows = []
    for label in labels.unique():
        own = features[labels == label].flatten(0, 1)
        rows.append(own - own.mean(0))
    spread = torch.cat(rows).T.cov(correction=0)
    small = 1e-4 * torch.eye(len(spread)).to(spread)
    return torch.linalg.cholesky(spread + small).T


@dataclass(frozen=True)
class Episodes:
    """One-shot tasks on new categories: which thing at which pose is known, and which
    are asked for."""

    known: Int64[Tensor, "e w"]  # things, one of each category
    known_poses: Int64[Tensor, "e w"]
    asked: Int64[Tensor, "e w q"]
    asked_poses: Int64[Tensor, "e w q"]


def episodes(
    labels: Int[Tensor, " n"],
    *,
    count: int,
    ways: int = 5,
    queries: int = 15,
    poses: int = POSES,
    generator: torch.Generator,
) -> Episodes:
    """Draw one-shot tasks.

    Args:
        labels: of the things.
        count: tasks.
        ways: categories of a task.
        queries: asked of each category, of other things than the known one.
        poses: how many there are; each is drawn anew.
        generator: draws them.

    Raises:
        ValueError: for too few categories, or one with a single thing.
    """
    names, sizes = labels.unique(return_counts=True)
    enough = len(names) >= ways >= 1 and int(sizes.min()) >= 2
    expect(enough, f"{ways} categories with two things each", sizes.tolist())
    at_least(1, count=count, queries=queries, poses=poses)
    known, asked = [], []
    for _ in range(count):
        for label in names[torch.randperm(len(names), generator=generator)[:ways]]:
            things = (labels == label).nonzero()[:, 0]
            first, *others = things[torch.randperm(len(things), generator=generator)]
            picks = torch.randint(len(others), (queries,), generator=generator)
            known.append(first)
            asked.append(torch.stack(others)[picks])
    shape = (count, ways, queries)
    turn, turns = (
        torch.randint(poses, size, generator=generator) for size in (shape[:2], shape)
    )
    return Episodes(
        torch.stack(known).view(shape[:2]), turn, torch.stack(asked).view(shape), turns
    )


def support(
    tasks: Episodes,
    features: Float[Tensor, "n p d"],
    moved: Float[Tensor, "n p t d"] | None = None,
) -> Float[Tensor, "e w s d"]:
    """What is known in each task: the one real feature of each category, and those made
    from it.

    Args:
        tasks: which things.
        features: of the things at all poses.
        moved: every feature moved to other poses; None for the real one alone.
    """
    real = features[tasks.known, tasks.known_poses][:, :, None]
    if moved is None:
        return real
    return torch.cat([real, moved[tasks.known, tasks.known_poses]], 2)


def nearest(
    known: Float[Tensor, "e w s d"], asked: Float[Tensor, "e q d"]
) -> Int64[Tensor, "e q"]:
    """The category of the nearest known feature.

    Args:
        known: of each task, by category.
        asked: features to name.
    """
    each = known.shape[2]
    distances = torch.cdist(asked, known.flatten(1, 2))
    return distances.argmin(2) // each


def regressed(
    known: Float[Tensor, "e w s d"], asked: Float[Tensor, "e q d"], penalty: float = 1.0
) -> Int64[Tensor, "e q"]:
    """The category by a ridge classifier: regression to 1 for the own category and -1
    for others.

    Args:
        known: of each task, by category.
        asked: features to name.
        penalty: for each known feature.
    """
    ways, each = known.shape[1:3]
    codes = 2 * torch.eye(ways).to(known).repeat_interleave(each, 0) - 1
    rows = known.flatten(1, 2)
    targets = codes.expand(len(rows), -1, -1)
    slopes, offsets = ridge(rows, targets, penalty * ways * each)
    return (asked @ slopes + offsets).argmax(2)


def one_shot(
    tasks: Episodes,
    features: Float[Tensor, "n p d"],
    moved: Float[Tensor, "n p t d"] | None = None,
) -> dict[str, Float[Tensor, " e"]]:
    """The share of queries that are named rightly, in each task.

    Args:
        tasks: from ``episodes``.
        features: of the new things at all poses.
        moved: see ``support``.

    Returns:
        ``nearest`` and ``ridge``.
    """
    known = support(tasks, features, moved)
    asked = features[tasks.asked, tasks.asked_poses].flatten(1, 2)
    ways, queries = tasks.asked.shape[1:]
    truth = torch.arange(ways).repeat_interleave(queries)
    answers = {"nearest": nearest(known, asked), "ridge": regressed(known, asked)}
    return {name: (said == truth).float().mean(1) for name, said in answers.items()}


BLOCKS = {"appearance": "appearance A", "pose": "pose P", "decoder": "decoder D"}


def recogniser(**overrides: object) -> Recogniser:
    """The book's recogniser: two convolutions and a layer of features.

    Args:
        overrides: of ``Recogniser``'s arguments.
    """
    settings: dict = {"features": 96, "categories": CATEGORIES}
    return Recogniser(trunk(), **(settings | overrides))


def vgg_recogniser(**overrides: object) -> Recogniser:
    """The paper's: VGG-16, which there starts from ImageNet's weights.

    Args:
        overrides: of ``Recogniser``'s arguments.
    """
    settings: dict = {"features": FEATURE, "categories": CATEGORIES}
    return Recogniser(vgg_trunk(), **(settings | overrides))


def turns() -> dict:
    """What the chapter opens with, measured beforehand on nets that were trained as the
    chapter's, with seed 0 but for longer (``book/_tools/turns.py``).

    Returns:
        ``toys``, for each its number, name and pose in the photo; ``arms``, for each
        toy and wanted pose: the nearest real picture (toy, pose), the error relative to
        not moving, and what the independent judges say (category, pose).
    """
    return json.loads(TURNS.read_text(encoding="utf-8"))


def tiny(**overrides: object) -> FATTEN:
    """The book's scale: for features of 96 numbers.

    Args:
        overrides: of ``FATTEN``'s arguments.
    """
    settings: dict = {"features": 96, "appearance": 96, "reader": 64, "hidden": 160}
    return FATTEN(**(settings | overrides))


def paper(**overrides: object) -> FATTEN:
    """The paper's scale: for VGG-16's 4,096 numbers; its widths are guessed.

    Args:
        overrides: of ``FATTEN``'s arguments.
    """
    settings: dict = {"features": FEATURE, "appearance": 512, "reader": 512}
    settings["hidden"] = 1024
    return FATTEN(**(settings | overrides))
