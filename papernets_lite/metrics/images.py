"""How alike pictures are where it matters, which answer they come closest to, and what
they still tell."""

import math

import torch
from jaxtyping import Float, Int, Integer, Shaped
from sklearn.metrics import mutual_info_score
from torch import Tensor
from torch.nn.functional import avg_pool2d

from papernets_lite.ops.checks import (
    check_finite,
    check_labels,
    check_mask,
    check_same,
    expect,
)


def mutual_information(
    first: Integer[Tensor, " n"], second: Integer[Tensor, " n"], classes: int
) -> float:
    r"""Bits that one labelling tells about another: :math:`\sum_{ij} p_{ij} \log_2
    \frac{p_{ij}}{p_i p_j}`.

    Args:
        first: labels from 0 to ``classes - 1``.
        second: the same things' other labels.
        classes: how many; ``log2(classes)`` is the most that can come out.

    Raises:
        ValueError: for no or unequally many labels, or labels out of range.
    """
    expect(first.ndim == 1, "labels (n,)", first.shape)
    check_same(first, second, "labels of both kinds")
    one = check_labels(first, classes).cpu().numpy()
    other = check_labels(second, classes).cpu().numpy()
    bits = float(mutual_info_score(one, other)) / math.log(2)
    return max(bits, 0.0)


def masked_l1(
    first: Float[Tensor, "b c h w"],
    second: Float[Tensor, "b c h w"],
    masks: Shaped[Tensor, "b h w"],
) -> Float[Tensor, " b"]:
    """The mean absolute difference of each pair of pictures inside its mask.

    Args:
        first: pictures.
        second: the pictures that they are compared with.
        masks: where: bool, or numbers that are all 0 or 1.

    Returns:
        One number a pair, nan where its mask is empty: there is nothing to compare, and
        ``nanmean`` leaves it out.

    Raises:
        ValueError: for unequal shapes, or pictures that are not finite.
    """
    inside = _check_pair(first, second, masks)
    difference = (first - second).abs().mean(1)
    total = (difference * inside).sum((1, 2))
    return total / inside.sum((1, 2))


def detail_correlation(
    first: Float[Tensor, "b c h w"],
    second: Float[Tensor, "b c h w"],
    masks: Shaped[Tensor, "b h w"],
) -> float:
    """The correlation of fine detail over all masked pixels: of grey pictures minus
    their mean over 5x5.

    Args:
        first: pictures.
        second: the pictures that they are compared with.
        masks: where: bool, or numbers that are all 0 or 1. At the border only those of
            the 5x5 count that lie inside.

    Returns:
        From -1 to 1; nan where one of them has no detail at all.

    Raises:
        ValueError: for fewer than two masked pixels, unequal shapes, or pictures that
            are not finite.
    """
    inside = _check_pair(first, second, masks)
    expect(inside.sum() >= 2, "at least two masked pixels", int(inside.sum()))
    fine = torch.stack([_detail(first)[inside], _detail(second)[inside]])
    return float(torch.corrcoef(fine)[0, 1])


def contrast(
    pictures: Float[Tensor, "b c h w"], masks: Shaped[Tensor, "b h w"]
) -> float:
    """How much neighbours differ: the mean absolute difference between pixels that lie
    side by side or one above the other, both inside the mask; over all pictures.

    Args:
        pictures: of any channels.
        masks: where: bool, or numbers that are all 0 or 1.

    Returns:
        0 for flat colour; nan where no two neighbours are inside.

    Raises:
        ValueError: for masks of another size, or pictures that are not finite.
    """
    inside = _check_pair(pictures, pictures, masks)
    total = pairs = 0.0
    for axis in (1, 2):
        steps = pictures.diff(dim=axis + 1).abs().mean(1)
        length = inside.shape[axis] - 1
        first, second = inside.narrow(axis, 0, length), inside.narrow(axis, 1, length)
        both = first & second
        total += float(steps[both].sum())
        pairs += float(both.sum())
    return total / pairs if pairs else math.nan


def _detail(pictures: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Grey pictures minus their mean over 5x5."""
    grey = pictures.mean(1, keepdim=True)
    mean = avg_pool2d(grey, 5, 1, 2, count_include_pad=False)
    return (grey - mean)[:, 0]


def _check_pair(first: Tensor, second: Tensor, masks: Tensor) -> Tensor:
    """The masks as bool; raise ``ValueError`` for what does not fit together."""
    expect(first.ndim == 4, "pictures (b, c, h, w)", first.shape)
    check_same(first, second, "both pictures")
    check_finite(first, "pictures")
    check_finite(second, "pictures")
    batch, _, height, width = first.shape
    return check_mask(masks, "masks", shape=(batch, height, width))


def nearest(
    images: Float[Tensor, "n *s"], answers: Float[Tensor, "n k *s"]
) -> Int[Tensor, " n"]:
    """Which of k exact answers each image comes closest to, by squared error: a judge
    that nobody has to train.

    Args:
        images: what a net made.
        answers: of each image k versions, such as renderings of its scene with each
            value of an attribute.

    Raises:
        ValueError: for no images or no answers, answers of another shape, or values
            that are not finite.
    """
    some = answers.ndim >= 3 and answers.numel() > 0
    expect(some, "images and answers", answers.shape)
    wanted = (len(answers), *answers.shape[2:])
    expect(images.shape == wanted, f"images {wanted}", images.shape)
    check_finite(images, "images")
    check_finite(answers, "answers")
    errors = (images[:, None] - answers).square()
    return errors.flatten(2).mean(2).argmin(1)
