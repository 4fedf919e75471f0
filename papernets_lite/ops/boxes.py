"""Box coding and assignment. Boxes are xyxy in pixels, continuous: pixel i covers [i, i
+ 1); no side gets a "+ 1".

``torchvision.ops`` has the rest: ``box_iou``, ``nms``, ``batched_nms``,
``clip_boxes_to_image`` and more.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papernets_lite.ops.checks import expect

# a side grows at most this much; exp() overflows early in training otherwise
LARGEST = math.log(1000 / 16)
BACKGROUND, BETWEEN = -1, -2


def encode(
    boxes: Float[Tensor, "*n 4"],
    anchors: Float[Tensor, "*n 4"],
    *,
    deviations: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "*n 4"]:
    r"""What a regressor shall answer to turn ``anchors`` into ``boxes`` (Eq. 2 of
    Faster R-CNN, Section 2.2 of SSD).

    :math:`t_x = (x - x_a) / (w_a \sigma_x)` for centres, :math:`t_w = \ln(w / w_a) /
    \sigma_w` for sides.

    Args:
        boxes: targets; sides must be positive.
        anchors: one for each box; sides must be positive.
        deviations: :math:`\sigma` of (x, y, w, h): SSD's "variances" (0.1, 0.1, 0.2,
            0.2), torchvision's ``1 / weights``.
    """
    sides, own = boxes[..., 2:] - boxes[..., :2], anchors[..., 2:] - anchors[..., :2]
    shift = (
        ((boxes[..., 2:] + boxes[..., :2]) - (anchors[..., 2:] + anchors[..., :2]))
        / 2
        / own
    )
    return torch.cat([shift, (sides / own).log()], -1) / boxes.new_tensor(deviations)


def decode(
    codes: Float[Tensor, "*n 4"],
    anchors: Float[Tensor, "*n 4"],
    *,
    deviations: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "*n 4"]:
    """The boxes that ``codes`` stand for: the inverse of ``encode``, sides clamped to
    62.5 times the anchor's."""
    codes = codes * codes.new_tensor(deviations)
    own = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., 2:] + anchors[..., :2]) / 2 + codes[..., :2] * own
    half = own * codes[..., 2:].clamp(max=LARGEST).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def assign(
    iou: Float[Tensor, "g a"],
    *,
    foreground: float,
    background: float,
    force: bool = False,
) -> Int[Tensor, " a"]:
    """For each anchor the index of its true box, or ``BACKGROUND``, or ``BETWEEN`` the
    thresholds: neither.

    Args:
        iou: of every true box with every anchor; without true boxes all is background.
        foreground: an anchor belongs to the box it overlaps most, if by at least this.
        background: below this it is background.
        force: every true box also gets the anchors that overlap it most, ties included,
            however little that is (torchvision's ``allow_low_quality_matches``); such
            an anchor keeps the box that it overlaps most itself.

    Raises:
        ValueError: for ``background > foreground``.
    """
    expect(background <= foreground, "background <= foreground", background, foreground)
    if not len(iou):
        return torch.full((iou.shape[1],), BACKGROUND, device=iou.device)
    overlap, best = iou.max(0)
    found = torch.where(overlap >= foreground, best, BETWEEN)
    found[overlap < background] = BACKGROUND
    if force:
        most = iou.max(1, keepdim=True).values
        found = torch.where(((iou == most) & (most > 0)).any(0), best, found)
    return found
