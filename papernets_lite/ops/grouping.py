"""Boxes of what looks alike, in the manner of Selective Search: nothing is learnt.

Small pieces of one colour (superpixels) are merged, step by step, the two neighbours
that look most alike first, until one piece is left. Every piece on the way has a box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from papernets_lite.ops.checks import check_images, expect

BINS = 8  # of a colour's histogram
SCALES = (80.0,)  # larger ones ask for larger superpixels
LEAST = 8  # pixels of a superpixel
ALL_CUES, SHAPE_CUES = (1.0, 1.0, 1.0), (0.0, 1.0, 1.0)


@dataclass
class Pieces:
    """Parts of a picture: of each its colours, how many pixels it has, its box, and
    which others touch it."""

    colours: Float[np.ndarray, "n d"]  # a histogram that sums to 1
    sizes: Float[np.ndarray, " n"]
    boxes: Float[np.ndarray, "n 4"]
    touch: Any  # bool (n, n)


def pieces(
    picture: Float[np.ndarray, "h w c"], labels: Int[np.ndarray, "h w"]
) -> Pieces:
    """What is known about the superpixels of a picture.

    Args:
        picture: in [0, 1].
        labels: which superpixel each pixel belongs to, from 0, none left out.
    """
    count, channels = int(labels.max()) + 1, picture.shape[-1]
    owner = labels.ravel()
    sizes = np.bincount(owner, minlength=count).astype(float)
    bins = (picture * BINS).clip(0, BINS - 1).astype(int)
    width = channels * BINS  # of a piece's histogram
    places = bins.reshape(-1, channels) + BINS * np.arange(channels)
    places += width * owner[:, None]
    colours = np.bincount(places.ravel(), minlength=count * width)
    colours = colours.reshape(count, width) / (channels * sizes[:, None])
    boxes = np.empty((count, 4))
    rows, columns = np.indices(labels.shape)
    for side, values in enumerate((columns.ravel(), rows.ravel())):
        low = np.full(count, np.inf)
        high = np.full(count, -np.inf)
        np.minimum.at(low, owner, values)
        np.maximum.at(high, owner, values + 1)
        boxes[:, side] = low
        boxes[:, side + 2] = high
    touch = np.zeros((count, count), bool)
    touch[labels[:, :-1].ravel(), labels[:, 1:].ravel()] = True
    touch[labels[:-1].ravel(), labels[1:].ravel()] = True
    touch |= touch.T
    np.fill_diagonal(touch, False)
    return Pieces(colours, sizes, boxes, touch)


def alike(
    known: Pieces, one: int, others: Int[np.ndarray, " n"], cues: Sequence[float]
) -> Float[np.ndarray, " n"]:
    """How much a piece and its neighbours belong together: Selective Search's colour,
    size and fill (Section 3.2 there; its texture is left out).

    Args:
        known: all pieces.
        one: of them.
        others: of them, to be compared with it.
        cues: weights of colour, size (small pieces first) and fill (they lie in each
            other's box).
    """
    colour = np.minimum(known.colours[one], known.colours[others]).sum(-1)
    both = known.sizes[one] + known.sizes[others]
    mine, theirs = known.boxes[one], known.boxes[others]
    low = np.minimum(mine[:2], theirs[:, :2])
    high = np.maximum(mine[2:], theirs[:, 2:])
    room = (high - low).prod(-1)
    total = known.sizes.sum()
    size = 1 - both / total
    fill = 1 - (room - both) / total
    return cues[0] * colour + cues[1] * size + cues[2] * fill


def merge(
    known: Pieces, cues: Sequence[float] = ALL_CUES
) -> list[Float[np.ndarray, "4"]]:
    """The boxes of all pieces on the way to a single one, the last merged first.

    Args:
        known: the first pieces; they are used up.
        cues: see ``alike``.
    """
    count = len(known.sizes)
    found = list(known.boxes.copy())
    likeness = np.full((count, count), -np.inf)
    for k in range(count):
        near = known.touch[k].nonzero()[0]
        likeness[k, near] = alike(known, k, near, cues)
    for _ in range(count - 1):
        k, j = divmod(int(likeness.argmax()), count)
        if not np.isfinite(likeness[k, j]):
            break
        _join(known, k, j)
        likeness[j] = -np.inf
        likeness[:, j] = -np.inf
        near = known.touch[k].nonzero()[0]
        now = alike(known, k, near, cues)
        likeness[k, near] = now
        likeness[near, k] = now
        found.append(known.boxes[k].copy())
    return found[::-1]


def _join(known: Pieces, k: int, j: int) -> None:
    """The second piece becomes a part of the first."""
    two = [k, j]
    total = known.sizes[two].sum()
    share = known.sizes[two] / total
    known.colours[k] = share @ known.colours[two]
    known.sizes[k] = total
    known.sizes[j] = 0
    known.boxes[k, :2] = known.boxes[two, :2].min(0)
    known.boxes[k, 2:] = known.boxes[two, 2:].max(0)
    known.touch[k] |= known.touch[j]
    known.touch[:, k] |= known.touch[:, j]
    known.touch[j] = False
    known.touch[:, j] = False
    known.touch[k, k] = False


def proposals(
    images: Float[Tensor, "b c h w"],
    *,
    generator: Generator,
    scales: Sequence[float] = SCALES,
    smallest: float = 4.0,
) -> list[Float[Tensor, "_ 4"]]:
    """Boxes of what looks alike, none twice, in an order that prefers late merges but
    is drawn (Selective Search: the place in the hierarchy times a random number).

    Args:
        images: in [0, 1].
        generator: of the order; on the CPU.
        scales: of the first superpixels (Felzenszwalb and Huttenlocher's k); each gives
            two hierarchies, by all cues and without colour.
        smallest: boxes with a shorter side, in pixels, are left out.

    Returns:
        Of each image, xyxy in pixels.

    Raises:
        ValueError: for what are no images, or no scale.
    """
    from skimage.segmentation import felzenszwalb

    check_images(images)
    expect(len(scales) > 0, "at least one scale", scales)
    found = []
    for image in images:
        picture = image.permute(1, 2, 0).double().cpu().numpy()
        boxes: list[Any] = []
        ranks: list[float] = []
        for scale in scales:
            labels = felzenszwalb(picture, scale=scale, sigma=0.5, min_size=LEAST)
            for cues in (ALL_CUES, SHAPE_CUES):
                some = merge(pieces(picture, labels), cues)
                boxes += some
                ranks += range(1, len(some) + 1)
        every = torch.from_numpy(np.stack(boxes)).float()
        luck = torch.rand(len(every), generator=generator)
        order = (luck * torch.tensor(ranks)).argsort()
        every = every[order]
        big = (every[:, 2:] - every[:, :2]).amin(1) >= smallest
        every = every[big]
        _, first = np.unique(every.numpy(), axis=0, return_index=True)
        found.append(every[torch.from_numpy(np.sort(first))])
    return found
