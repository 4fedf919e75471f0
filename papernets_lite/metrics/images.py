"""How alike pictures are where it matters, which answer they come closest to, and what
they still tell."""

import math

import torch
from jaxtyping import Bool, Float, Int
from sklearn.metrics import mutual_info_score
from torch import Tensor
from torch.nn.functional import avg_pool2d

from papernets_lite.ops.checks import expect


def mutual_information(
    first: Int[Tensor, " n"], second: Int[Tensor, " n"], classes: int
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
    expect(
        len(first) == len(second) > 0,
        "as many labels of both kinds",
        len(first),
        len(second),
    )
    low, high = torch.stack([first, second]).aminmax()
    expect(
        low >= 0 and high < classes,
        f"labels from 0 to {classes - 1}",
        int(low),
        int(high),
    )
    return max(
        float(mutual_info_score(first.numpy(), second.numpy())) / math.log(2), 0.0
    )


def masked_l1(
    first: Float[Tensor, "b c h w"],
    second: Float[Tensor, "b c h w"],
    masks: Bool[Tensor, "b h w"],
) -> Float[Tensor, " b"]:
    """The mean absolute difference of each pair of pictures inside its mask; NaN where
    the mask is empty.

    Args:
        first: pictures.
        second: the pictures that they are compared with.
        masks: where.
    """
    return ((first - second).abs().mean(1) * masks).sum((1, 2)) / masks.sum((1, 2))


def detail_correlation(
    first: Float[Tensor, "b c h w"],
    second: Float[Tensor, "b c h w"],
    masks: Bool[Tensor, "b h w"],
) -> float:
    """The correlation of fine detail over all masked pixels: of grey pictures minus
    their mean over 5x5.

    Args:
        first: pictures.
        second: the pictures that they are compared with.
        masks: where. At the border only those of the 5x5 count that lie inside.

    Raises:
        ValueError: for fewer than two masked pixels.
    """
    expect(masks.sum() >= 2, "at least two masked pixels", int(masks.sum()))
    grey = [pictures.mean(1, keepdim=True) for pictures in (first, second)]
    means = [avg_pool2d(g, 5, 1, 2, count_include_pad=False) for g in grey]
    fine = torch.stack(
        [(g - mean)[:, 0][masks] for g, mean in zip(grey, means, strict=True)]
    )
    return float(torch.corrcoef(fine)[0, 1])


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
        ValueError: for no images or no answers.
    """
    expect(answers.shape[0] and answers.shape[1], "images and answers", answers.shape)
    return (images[:, None] - answers).square().flatten(2).mean(2).argmin(1)
