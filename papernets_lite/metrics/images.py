"""What an image still tells: information that survives a translation, and which answer it comes closest to."""

import math

from jaxtyping import Float, Int
from sklearn.metrics import mutual_info_score
from torch import Tensor


def mutual_information(first: Int[Tensor, " n"], second: Int[Tensor, " n"], classes: int) -> float:
    r"""Bits that one labelling tells about another: :math:`\sum_{ij} p_{ij} \log_2 \frac{p_{ij}}{p_i p_j}`.

    Args:
        first: labels from 0 to ``classes - 1``.
        second: the same things' other labels.
        classes: how many; ``log2(classes)`` is the most that can come out.

    Raises:
        ValueError: for no or unequally many labels, or labels out of range.
    """
    if not len(first) or len(first) != len(second):
        raise ValueError(f"expected as many labels of both kinds, got {len(first)} and {len(second)}")
    if not all(int(labels.min()) >= 0 and int(labels.max()) < classes for labels in (first, second)):
        raise ValueError(f"expected labels from 0 to {classes - 1}")
    return max(float(mutual_info_score(first.numpy(), second.numpy())) / math.log(2), 0.0)


def nearest(images: Float[Tensor, "n *s"], answers: Float[Tensor, "n k *s"]) -> Int[Tensor, " n"]:
    """Which of k exact answers each image comes closest to, by squared error: a judge that nobody has to train.

    Args:
        images: what a net made.
        answers: of each image k versions, such as renderings of its scene with each value of an attribute.

    Raises:
        ValueError: for no images or no answers.
    """
    if not answers.shape[0] or not answers.shape[1]:
        raise ValueError(f"expected images and answers, got answers of shape {tuple(answers.shape)}")
    return (images[:, None] - answers).square().flatten(2).mean(2).argmin(1)
