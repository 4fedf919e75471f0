r"""Discriminative Learning of Latent Features for Zero-Shot Recognition (LDF).

Yan Li, Junge Zhang, Jianguo Zhang, Kaiqi Huang. CVPR 2018, arXiv 1803.06731.
Official code: none found; SmallHedgehog/ZeroShotLearning re-implements one scale.

Idea: name classes that were never seen from their attributes, with a second look that
the net aims itself, and with attributes of its own beside those that people named.

Differs:
    1. ``tiny`` has a strided net with batch normalisation for VGG-19, pictures of 64
       pixels that the first look reads at 32 while the second cuts from all 64, and
       reads its last map in 2x2 parts.
    2. The box's half side is bounded below, and the box stays in the picture.
    3. Class scores are multiplied by a temperature before the softmax.

Guessed:
    The bounds of the box; which map the zoom net reads, here the one that the dense
    layers read too; the mask's steepness; that the second look starts from weights of
    its own; how the zoom net starts, here from the strongest response.

Contract:
    A batch holds ``labels`` (b,) into ``attributes`` (c, k), the class vectors of the
    seen classes.

Example:
    >>> net = tiny(num_attributes=15)
    >>> net(torch.rand(2, 3, 64, 64)).embeddings.shape  # pictures, looks, 2 x 15
    torch.Size([2, 2, 30])
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Integer
from torch import Generator, Tensor, nn
from torch.nn import functional

from papernets_lite.ops import warps
from papernets_lite.ops.checks import (
    at_least,
    check_finite,
    check_images,
    check_keys,
    check_labels,
    expect,
)

# VGG-19: channels and depth of each stage.
VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
FEATURES, HIDDEN = 4096, 1024  # fc7, and the zoom net's (re-implementation)
MARGIN, RIDGE = 1.0, 1.0  # of the triplets and of the prototypes (re-implementation)
STEEPNESS = 0.5  # of the mask's edges, per pixel
LEAST, MOST = 0.12, 0.5  # half the box's side, in shares of the picture's
TRAINED = Path(__file__).with_name("ldf_trained.pt")

Look = Literal["learnt", "response", "whole"]
Tensors = dict[str, Tensor]  # a loss and its terms, or a batch


@dataclass
class Outputs:
    """What the net says of b pictures.

    Attributes:
        embeddings: of each picture and look, first the k user attributes, then the k
            latent ones.
        maps: the first look's last map.
        boxes: where the second looks, centre (x, y) and half the side, in shares of the
            picture's side; of the whole picture where there is none.
    """

    embeddings: Float[Tensor, "b s d"]
    maps: Float[Tensor, "b c h w"]
    boxes: Float[Tensor, "b 3"]


def stages(widths: Sequence[int]) -> nn.Sequential:
    """The book's convolutions: two that halve the map, each cell centred on the pixels
    it stands for, and more that keep it.

    Args:
        widths: channels after each.
    """
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise((3, *widths))):
        size, stride = (4, 2) if place < 2 else (3, 1)
        layers += [
            nn.Conv2d(before, after, size, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def vgg19() -> nn.Sequential:
    """VGG-19's convolutions without their last pooling, in torchvision's order."""
    layers: list[nn.Module] = []
    before = 3
    for width, depth in VGG19:
        for _ in range(depth):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1])


class FNet(nn.Module):
    """Image features: convolutions, then dense layers on a grid of their last map.

    Args:
        body: the convolutions.
        channels: of their last map.
        grid: cells in a row and in a column that the dense layers read, each the
            maximum over its part of the map.
        hidden: outputs of each dense layer.
        dropout: of them.
    """

    def __init__(
        self,
        body: nn.Sequential,
        *,
        channels: int,
        grid: int,
        hidden: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.body = body
        self.pool = nn.AdaptiveMaxPool2d(grid)
        self.features = hidden[-1]
        self.dense = nn.Sequential()
        for before, after in pairwise((channels * grid**2, *hidden)):
            self.dense += nn.Sequential(
                nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)
            )

    def forward(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c k l"], Float[Tensor, "b f"]]:
        """The last map, and the features."""
        maps = self.body(images)
        return maps, self.dense(self.pool(maps).flatten(1))


class ZoomNet(nn.Module):
    """ZNet: where the second look goes, from the first look's map.

    Args:
        channels: of the map.
        cells: of the map, in a row and in a column.
        hidden: of its one hidden layer.
        start: half the side of the first boxes, which lie in the middle.

    Raises:
        ValueError: for a start that is no half side between ``LEAST`` and ``MOST``.
    """

    def __init__(
        self, *, channels: int, cells: int, hidden: int = HIDDEN, start: float = 0.25
    ) -> None:
        super().__init__()
        expect(LEAST < start < MOST, f"a start from {LEAST} to {MOST}", start)
        self.hidden = nn.Linear(channels * cells**2, hidden)
        self.last = nn.Linear(hidden, 3)
        nn.init.zeros_(self.last.weight)
        share = torch.tensor((start - LEAST) / (MOST - LEAST))
        middle = torch.zeros(2)
        self.last.bias.data = torch.cat([middle, share.logit()[None]])

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3"]:
        """Boxes: centre (x, y) and half the side, in shares of the picture's side. They
        lie in the picture."""
        shares = self.last(self.hidden(maps.flatten(1)).relu()).sigmoid()
        half = LEAST + (MOST - LEAST) * shares[:, 2:]
        centre = half + (1 - 2 * half) * shares[:, :2]
        return torch.cat([centre, half], 1)


def soft_box(
    boxes: Float[Tensor, "b 3"], size: int, *, steepness: float = STEEPNESS
) -> Float[Tensor, "b 1 size size"]:
    r"""A box that gradients can move: near 1 inside, near 0 outside, :math:`M = V(x)
    V(y)` with :math:`V(x) = f(x - z_x + z_s) - f(x - z_x - z_s)` and f a sigmoid.

    Args:
        boxes: centre (x, y) and half the side, in shares of the picture's side.
        size: of the picture, in pixels.
        steepness: of f, per pixel.

    Raises:
        ValueError: for boxes that are not finite, or a steepness that is not positive.
    """
    expect(boxes.ndim == 2 and boxes.shape[1] == 3, "boxes (b, 3)", boxes.shape)
    check_finite(boxes, "boxes")
    expect(steepness > 0, "steepness > 0", steepness)
    pixels = torch.arange(size, device=boxes.device) + 0.5
    x, y, half = (boxes * size).unbind(1)
    along = []
    for centre in (y, x):
        rise = (pixels - (centre - half)[:, None]) * steepness
        fall = (pixels - (centre + half)[:, None]) * steepness
        along.append(rise.sigmoid() - fall.sigmoid())
    return (along[0][:, :, None] * along[1][:, None])[:, None]


def zoom(
    images: Float[Tensor, "b c n n"],
    boxes: Float[Tensor, "b 3"],
    size: int,
    *,
    steepness: float | None = STEEPNESS,
) -> Float[Tensor, "b c size size"]:
    """The second look: the picture under its soft box, and of that the box enlarged by
    bilinear interpolation. The box moves by both.

    Args:
        images: square.
        boxes: see ``soft_box``.
        size: of the answer, in pixels.
        steepness: of the mask; None leaves the mask out.

    Raises:
        ValueError: for pictures that are not square, a size below 1, another number of
            boxes, or as ``soft_box``.
    """
    check_images(images)
    side = images.shape[-1]
    expect(images.shape[2] == side, "square images", images.shape)
    at_least(1, size=size)
    expect(boxes.shape == (len(images), 3), "a box for each image", boxes.shape)
    check_finite(boxes, "boxes")
    if steepness is not None:
        images = images * soft_box(boxes, side, steepness=steepness).to(images)
    way = (torch.arange(size, device=boxes.device) + 0.5) * 2 / size - 1
    x, y = (boxes[:, [k]] + boxes[:, 2:] * way for k in (0, 1))
    places = torch.stack(
        [x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1
    )
    return warps.read(images, places * side)


@torch.no_grad()
def strongest(
    maps: Float[Tensor, "b c h w"], *, cut: float = 0.6
) -> Float[Tensor, "b 2"]:
    """Where a map differs most from its own mean: the response's centre of mass above a
    cut, smoothed over 3x3 cells.

    Args:
        maps: of a net.
        cut: in shares of the strongest response; what is weaker does not count.

    Returns:
        (x, y) in shares of the picture's side.

    Raises:
        ValueError: for a cut outside [0, 1).
    """
    check_images(maps)
    expect(0 <= cut < 1, "a cut from 0 to 1", cut)
    apart = maps - maps.mean((2, 3), keepdim=True)
    energy = functional.avg_pool2d(apart.square().sum(1, keepdim=True), 3, 1, 1)
    most = energy.amax((2, 3), keepdim=True)
    weights = (energy - cut * most).clamp(min=0)[:, 0]
    weights = weights + 1e-12  # a map without any response: its middle
    down, across = weights.sum(2), weights.sum(1)
    centres = []
    for mass in (across, down):
        cells = (torch.arange(mass.shape[1]).to(mass) + 0.5) / mass.shape[1]
        centres.append((mass * cells).sum(1) / mass.sum(1))
    return torch.stack(centres, 1)


def learns(looks: int, look: object) -> bool:
    """Whether a net needs a zoom net."""
    return looks == 2 and look == "learnt"


class LDF(nn.Module):
    """Features, zoom and embedding, of one look or two.

    Args:
        scales: an FNet for each look.
        zoom_net: aims the second look; needed where ``look`` is "learnt".
        num_attributes: k that people named; as many latent ones stand beside them.
        size: of the pictures that the looks read, in pixels; larger ones are reduced
            for the first look.
        look: where the second looks: where the zoom net says, at the first look's
            strongest response, or at the whole picture again.
        half: half the box's side at the strongest response.

    Raises:
        ValueError: for no look or more than two, or a learnt one without a zoom net.
    """

    def __init__(
        self,
        scales: Sequence[FNet],
        zoom_net: ZoomNet | None = None,
        *,
        num_attributes: int,
        size: int,
        look: Look = "learnt",
        half: float = 0.19,
    ) -> None:
        super().__init__()
        at_least(1, num_attributes=num_attributes, size=size)
        expect(1 <= len(scales) <= 2, "one look or two", len(scales))
        fits = learns(len(scales), look) == (zoom_net is not None)
        expect(fits, "a zoom net for a learnt look", look)
        expect(LEAST <= half <= MOST, f"half from {LEAST} to {MOST}", half)
        self.size, self.look, self.half_side = size, look, half
        self.num_attributes = num_attributes
        self.scales = nn.ModuleList(scales)
        self.embed = nn.ModuleList()
        for scale in scales:
            layer = nn.Linear(scale.features, 2 * num_attributes, bias=False)
            self.embed.append(layer)
        self.zoom_net = zoom_net

    def reduced(self, images: Float[Tensor, "b 3 n n"]) -> Float[Tensor, "b 3 s s"]:
        """The whole picture as a look reads it."""
        if images.shape[-1] == self.size:
            return images
        return functional.interpolate(images, (self.size, self.size), mode="area")

    def aim(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3"]:
        """Where the second look goes; the first look's map learns nothing by it."""
        if self.zoom_net is not None:
            return self.zoom_net(maps.detach())
        half = self.half_side if self.look == "response" else MOST
        centres = strongest(maps.detach()).clamp(half, 1 - half)
        return torch.cat([centres, torch.full_like(centres[:, :1], half)], 1)

    def forward(
        self,
        images: Float[Tensor, "b 3 n n"],
        boxes: Float[Tensor, "b 3"] | None = None,
    ) -> Outputs:
        """Both looks.

        Args:
            images: square, ``size`` pixels or more.
            boxes: where the second shall look instead.

        Raises:
            ValueError: for images that are smaller or not square, or boxes of another
                number.
        """
        check_images(images)
        side = images.shape[-1]
        square = images.shape[1:] == (3, side, side) and side >= self.size
        expect(square, f"images (b, 3, n, n), n >= {self.size}", images.shape)
        small = self.reduced(images)
        maps, features = self.scales[0](small)
        embeddings = [self.embed[0](features)]
        found = self.aim(maps) if boxes is None else boxes
        if len(self.scales) == 2:
            whole = self.look == "whole" and boxes is None
            seen = small if whole else zoom(images, found, self.size)
            embeddings.append(self.embed[1](self.scales[1](seen)[1]))
        return Outputs(torch.stack(embeddings, 1), maps, found)


def split(
    embeddings: Float[Tensor, "b s d"],
) -> tuple[Float[Tensor, "b s k"], Float[Tensor, "b s k"]]:
    """User attributes, and latent ones of length 1: the first half and the second."""
    user, latent = embeddings.chunk(2, -1)
    return user, functional.normalize(latent, dim=-1)


def user_scores(
    user: Float[Tensor, "b s k"], attributes: Float[Tensor, "c k"]
) -> Float[Tensor, "b s c"]:
    r"""The compatibility :math:`F(x, y) = \theta(x)^T W \varphi(y)`: the embedding's
    user half times each class vector.

    Args:
        user: the half, from ``split``.
        attributes: of each class; made of length 1, or classes with many would win.

    Raises:
        ValueError: for another number of attributes, or a class without any.
    """
    k = user.shape[-1]
    fits = attributes.ndim == 2 and attributes.shape[1] == k and len(attributes)
    expect(fits, f"classes with {k} attributes", attributes.shape)
    named = attributes.to(user)
    check_finite(named, "attributes")
    some = bool((named != 0).any(1).all())
    expect(some, "an attribute in every class")
    return user @ functional.normalize(named, dim=1).T


def hardest(
    points: Float[Tensor, "b k"], labels: Integer[Tensor, " b"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Of each anchor the squared distance to the farthest of its class and to the
    nearest of another; anchors that lack either are left out.

    Args:
        points: latent attributes, of length 1.
        labels: their classes.
    """
    squared = (points[:, None] - points[None]).square().sum(2)
    same = labels[:, None] == labels[None]
    others = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    far = squared.masked_fill(~others, -torch.inf).amax(1)
    near = squared.masked_fill(same, torch.inf).amin(1)
    complete: Bool[Tensor, " b"] = others.any(1) & (~same).any(1)
    return far[complete], near[complete]


def triplet(
    points: Float[Tensor, "b k"],
    labels: Integer[Tensor, " b"],
    *,
    margin: float = MARGIN,
) -> Float[Tensor, ""]:
    r"""The latent attributes' loss, :math:`\max(0, \lVert\sigma_i - \sigma_p\rVert^2 +
    m - \lVert\sigma_i - \sigma_n\rVert^2)`, with the hardest of a batch; 0 where no
    anchor is complete.

    Args:
        points, labels: see ``hardest``.
        margin: m.
    """
    far, near = hardest(points, labels)
    lost = (far + margin - near).clamp(min=0)
    return lost.mean() if len(lost) else points.sum() * 0


def loss(
    outputs: Outputs,
    batch: Mapping[str, Tensor],
    *,
    latent: float = 1.0,
    temperature: float = 4.0,
    generator: Generator | None = None,
) -> Tensors:
    """Both losses, summed over the looks.

    Args:
        outputs: of the net.
        batch: ``labels`` (b,) into ``attributes`` (c, k) of the seen classes.
        latent: weight of the triplets; 0 leaves the latent attributes untrained.
        temperature: the scores' factor in the softmax.
        generator: nothing is drawn.

    Returns:
        ``loss``, its parts ``user`` and ``latent``, and ``accuracy`` among the seen
        classes.

    Raises:
        ValueError: for labels without a class, or as ``user_scores``.
    """
    check_keys(batch, "labels", "attributes")
    embeddings = outputs.embeddings
    classes = len(batch["attributes"])
    labels = check_labels(batch["labels"], classes, shape=embeddings.shape[:1])
    user, own = split(embeddings)
    scores = temperature * user_scores(user, batch["attributes"])
    named = [functional.cross_entropy(one, labels) for one in scores.unbind(1)]
    apart = [triplet(points, labels) for points in own.unbind(1)]
    parts = {"user": torch.stack(named).sum(), "latent": torch.stack(apart).sum()}
    right = (scores.detach().sum(1).argmax(1) == labels).float().mean()
    total = parts["user"] + latent * parts["latent"]
    return {"loss": total, **parts, "accuracy": right}


def aim_loss(
    boxes: Float[Tensor, "b 3"],
    batch: Mapping[str, Tensor],
    *,
    half: float = 0.19,
    generator: Generator | None = None,
) -> Tensors:
    """How the zoom net starts: its boxes lie on the strongest response.

    Args:
        boxes: of the zoom net.
        batch: ``centres`` (b, 2) from ``strongest``.
        half: half the side that the boxes shall have.
        generator: nothing is drawn.

    Returns:
        ``loss``, the squared distance.

    Raises:
        ValueError: for centres of another shape.
    """
    check_keys(batch, "centres")
    centres = batch["centres"]
    expect(centres.shape == (len(boxes), 2), "a centre for each box", centres.shape)
    beside = (boxes[:, :2] - centres).square().sum(1).mean()
    return {"loss": beside + (boxes[:, 2] - half).square().mean()}


def class_means(
    latent: Float[Tensor, "b s k"], labels: Integer[Tensor, " b"], count: int
) -> Float[Tensor, "s c k"]:
    """The prototypes of the seen classes: the means of their latent attributes.

    Args:
        latent: the embeddings' *second* half, from ``split``.
        labels: from 0 to ``count`` - 1, each there at least once.
        count: of the classes.

    Raises:
        ValueError: for a class without a picture, or labels out of range.
    """
    labels = check_labels(labels, count, shape=latent.shape[:1])
    member = functional.one_hot(labels, count).to(latent)
    size = member.sum(0)
    expect(bool((size > 0).all()), "a picture of every class", size.tolist())
    return torch.einsum("bc,bsk->sck", member, latent) / size[:, None]


def ridge(
    seen: Float[Tensor, "c k"], unseen: Float[Tensor, "u k"], *, alpha: float = RIDGE
) -> Float[Tensor, "u c"]:
    r"""Each unseen class as a mixture of seen ones, :math:`\beta = \arg\min \lVert a_u
    - \sum_c \beta_c a_c \rVert^2 + \lambda \lVert\beta\rVert^2`.

    Args:
        seen, unseen: class vectors; they are made of length 1.
        alpha: lambda.

    Raises:
        ValueError: for an alpha that is not positive, or other attributes.
    """
    expect(alpha > 0, "alpha > 0", alpha)
    fits = seen.ndim == unseen.ndim == 2 and seen.shape[1] == unseen.shape[1]
    expect(fits and len(seen), "classes of the same attributes", seen.shape)
    known, new = (functional.normalize(one, dim=1) for one in (seen, unseen))
    gram = known @ known.T + alpha * torch.eye(len(known)).to(known)
    return torch.linalg.solve(gram, known @ new.T).T


@torch.no_grad()
def decode(
    outputs: Outputs | Float[Tensor, "b s d"],
    *,
    attributes: Float[Tensor, "u k"],
    prototypes: Float[Tensor, "s u k"] | None = None,
) -> tuple[Float[Tensor, "b u"], Float[Tensor, "b u"]]:
    """How well each picture fits each class, whether it was seen or not.

    Args:
        outputs: of the net, or its embeddings.
        attributes: of the classes.
        prototypes: of the same classes in each look's latent space.

    Returns:
        The scores of the user half and of the latent half (zeros without prototypes),
        summed over looks; the answer is the argmax of either, or of their sum.

    Raises:
        ValueError: for prototypes of another shape, or as ``user_scores``.
    """
    given = outputs.embeddings if isinstance(outputs, Outputs) else outputs
    user, latent = split(given)
    scores = user_scores(functional.normalize(user, dim=-1), attributes).sum(1)
    if prototypes is None:
        return scores, torch.zeros_like(scores)
    wanted = (latent.shape[1], len(attributes), latent.shape[2])
    expect(prototypes.shape == wanted, f"prototypes {wanted}", prototypes.shape)
    lengths = functional.normalize(prototypes, dim=-1).to(latent)
    return scores, torch.einsum("bsk,suk->bu", latent, lengths)


class Balanced(Iterator[Tensors]):
    """Endless batches with several pictures of each class that they hold, as triplets
    need them; half are mirrored.

    Args:
        pictures: of each class, the same number.
        attributes: of the classes.
        classes: of a batch.
        shots: pictures of each.
        generator: draws them.

    Raises:
        ValueError: for fewer classes or pictures than a batch holds.
    """

    def __init__(
        self,
        pictures: Float[Tensor, "c n 3 h w"],
        attributes: Float[Tensor, "c k"],
        *,
        classes: int = 12,
        shots: int = 4,
        generator: Generator,
    ) -> None:
        at_least(1, classes=classes, shots=shots)
        enough = len(pictures) >= classes and pictures.shape[1] >= shots
        wanted = f"{classes} classes of {shots} pictures or more"
        expect(enough, wanted, pictures.shape[:2])
        alike = len(attributes) == len(pictures)
        expect(alike, "attributes of each class", attributes.shape)
        self.pictures, self.attributes = pictures, attributes
        self.classes, self.shots, self.generator = classes, shots, generator

    def __next__(self) -> Tensors:
        """``images``, ``labels`` and the table of ``attributes``."""
        count, of_each = self.pictures.shape[:2]
        drawn = torch.rand(count, generator=self.generator).topk(self.classes)
        shape = self.classes, of_each
        order = torch.rand(shape, generator=self.generator).topk(self.shots)
        chosen = drawn.indices.repeat_interleave(self.shots)
        images = self.pictures[chosen, order.indices.flatten()]
        mirrored = torch.rand(len(images), generator=self.generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return {"images": images, "labels": chosen, "attributes": self.attributes}


def distance_ratio(
    points: Float[Tensor, "b k"], labels: Integer[Tensor, " b"]
) -> float:
    """The mean distance between pictures of two classes, over that within a class.

    Args:
        points: made of length 1.
        labels: their classes, two or more, one of them with two pictures.

    Raises:
        ValueError: for one class, or a picture of each only.
    """
    lengths = functional.normalize(points, dim=1)
    apart = torch.cdist(lengths, lengths)
    same = labels[:, None] == labels[None]
    within = same & ~torch.eye(len(labels), dtype=torch.bool)
    both = bool((~same).any()) and bool(within.any())
    expect(both, "several classes, and several pictures of one", labels.shape)
    return (apart[~same].mean() / apart[within].mean()).item()


def spread(boxes: Float[Tensor, "b 3"], size: int) -> Float[Tensor, "b 4"]:
    """Boxes as corners, xyxy in pixels.

    Args:
        boxes: see ``soft_box``.
        size: of the picture, in pixels.
    """
    centre, half = boxes[:, :2], boxes[:, 2:]
    return torch.cat([centre - half, centre + half], 1) * size


def around(
    corners: Float[Tensor, "b 4"], size: int, *, slack: float = 1.25
) -> Float[Tensor, "b 3"]:
    """The square boxes around things, as large as a zoom's least one or larger.

    Args:
        corners: xyxy in pixels.
        size: of the picture, in pixels.
        slack: sides, in shares of a thing's longer side.
    """
    middle = (corners[:, :2] + corners[:, 2:]) / 2
    longer = (corners[:, 2:] - corners[:, :2]).amax(1, keepdim=True)
    half = (slack * longer / (2 * size)).clamp(LEAST, MOST)
    return torch.cat([middle / size, half], 1)


# How the map names the net's parts.
BLOCKS = {
    "scales.*.body": "look *: convolutions",
    "scales.*.dense": "look *: dense layers",
    "zoom_net": "zoom net",
    "embed.*": "look *: attributes",
}


def grown(build: Callable[[], LDF], first: LDF, zoom_net: ZoomNet | None = None) -> LDF:
    """A net of two looks whose first begins as a trained net of one look.

    Args:
        build: makes a net of two looks.
        first: whose features and attributes it takes.
        zoom_net: whose weights it takes, where its second look is learnt.

    Raises:
        ValueError: for a zoom net without a place.
    """
    net = build()
    fits = zoom_net is None or net.zoom_net is not None
    expect(fits, "a net with a zoom net", net.look)
    net.scales[0].load_state_dict(first.scales[0].state_dict())
    net.embed[0].load_state_dict(first.embed[0].state_dict())
    if zoom_net is not None and net.zoom_net is not None:
        net.zoom_net.load_state_dict(zoom_net.state_dict())
    return net


def trained() -> LDF:
    """A net trained beforehand as the chapter trains its own with a learnt zoom, with
    seed 0 and three times as many steps (``book/_tools/zoomed.py``).

    Returns:
        The net, in evaluation mode.
    """
    net = tiny()
    net.load_state_dict(torch.load(TRAINED, weights_only=True))
    return net.eval()


def tiny(
    *,
    looks: int = 2,
    widths: Sequence[int] = (24, 48, 64),
    hidden: int = 96,
    grid: int = 2,
    **overrides: object,
) -> LDF:
    """The book's scale: three convolutions and one dense layer a look.

    Args:
        looks: one or two.
        widths: channels of the convolutions.
        hidden: outputs of the dense layer.
        grid: cells of the last map's side that it reads.
        overrides: of ``LDF``'s arguments.
    """
    last = widths[-1]
    scales = []
    for _ in range(looks):
        body = stages(widths)
        scales.append(FNet(body, channels=last, grid=grid, hidden=[hidden]))
    settings: dict = {"num_attributes": 15, "size": 32}
    if learns(looks, overrides.get("look", "learnt")):
        with torch.random.fork_rng(devices=[]):  # other weights stay what they are
            zoom_net = ZoomNet(channels=last, cells=8, hidden=32, start=0.19)
        settings["zoom_net"] = zoom_net
    return LDF(scales, **(settings | overrides))


def paper(*, looks: int = 2, **overrides: object) -> LDF:
    """The paper's scale: two VGG-19, 312 attributes (birds), pictures of 224 pixels.

    Args:
        looks: one or two.
        overrides: of ``LDF``'s arguments.
    """
    dense = [FEATURES, FEATURES]
    scales = []
    for _ in range(looks):
        made = FNet(vgg19(), channels=512, grid=7, hidden=dense, dropout=0.5)
        scales.append(made)
    settings: dict = {"num_attributes": 312, "size": 224}
    if learns(looks, overrides.get("look", "learnt")):
        with torch.random.fork_rng(devices=[]):
            settings["zoom_net"] = ZoomNet(channels=512, cells=14)
    return LDF(scales, **(settings | overrides))
