"""Box coding, assignment and suppression, and what a true box must be.

Boxes are xyxy in pixels, continuous: pixel i covers [i, i + 1); no side gets a "+ 1".
``torchvision.ops`` has the rest: ``box_iou``, ``clip_boxes_to_image`` and more.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Integer, Real
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from papernets_lite.ops.checks import check_keys, check_mask, check_same, expect

# a side grows at most this much; exp() overflows early in training otherwise
LARGEST = math.log(1000 / 16)
# pixels: compiled operators compute with positions as integers, which overflow
FARTHEST = 1e6
BACKGROUND, BETWEEN = -1, -2


def floating(values: Tensor) -> Tensor:
    """In float32, or in float64 if they are: whole numbers have no fractions, and half
    precision has no half pixels.

    Args:
        values: of any real type.
    """
    return values if values.dtype == torch.float64 else values.float()


def check_boxes(
    boxes: Tensor, what: str = "boxes", *, thin: bool = False
) -> Float[Tensor, "*n 4"]:
    """Boxes as floats that may be computed with.

    Args:
        boxes: xyxy in pixels, of any real type.
        what: they are called in the message.
        thin: sides of 0 are allowed.

    Returns:
        The boxes as ``floating`` gives them.

    Raises:
        ValueError: for another shape, a coordinate that is not finite or beyond
            ``FARTHEST``, or a side that is not positive, as where (x, y, width, height)
            was given.
    """
    boxes = torch.as_tensor(boxes)
    right = boxes.ndim > 0 and boxes.shape[-1] == 4 and not boxes.is_complex()
    expect(right, f"{what} (..., 4), xyxy in pixels", boxes.shape)
    boxes = floating(boxes)
    near = (boxes.abs() <= FARTHEST).all(-1)
    _refuse(~near, f"finite {what}, at most {FARTHEST:.0f} pixels away", boxes)
    sides = boxes[..., 2:] - boxes[..., :2]
    in_order = (sides >= 0 if thin else sides > 0).all(-1)
    order = "x0 <= x1 and y0 <= y1" if thin else "x0 < x1 and y0 < y1"
    _refuse(~in_order, f"{what} (x0, y0, x1, y1) in pixels with {order}", boxes)
    return boxes


def check_truth(
    truth: Mapping[str, Any], num_classes: int | None = None
) -> dict[str, Tensor]:
    """What is known about a batch, in the types that papers and metrics compute with.

    Args:
        truth: tensors, arrays or lists. ``boxes`` (..., k, 4), xyxy in pixels;
            ``valid`` (..., k), bool or 0 and 1: which of them are there; and, where
            classes count, ``labels`` (..., k), integers from 0. What is not there may
            hold anything.
        num_classes: how many there are, where labels must be given; None: labels have
            no upper end.

    Returns:
        ``boxes`` as float32 (float64 stays), ``valid`` as bool and, if given,
        ``labels`` as int64. What is not there is zero.

    Raises:
        ValueError: for a missing key; for unequal leading sizes; for labels that are
            not integers, or not from 0 to ``num_classes`` - 1; for a box that is there
            and is not finite, or has a side that is not positive.
    """
    known = ["boxes", "valid"] if num_classes is None else ["boxes", "valid", "labels"]
    check_keys(truth, *known)
    boxes, valid = (
        torch.as_tensor(truth["boxes"]),
        check_mask(truth["valid"], "`valid`"),
    )
    expect(
        boxes.shape == (*valid.shape, 4),
        "`boxes` (..., k, 4) and `valid` (..., k)",
        boxes.shape,
        valid.shape,
    )
    absent = ~valid[..., None]
    anything = torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes.device)
    boxes = torch.where(absent, anything, boxes)
    boxes = check_boxes(boxes, "true boxes").masked_fill(absent, 0.0)
    checked = {"boxes": boxes, "valid": valid}
    if "labels" in truth:
        checked["labels"] = _check_labels(truth["labels"], valid, num_classes)
    return checked


def _check_labels(
    labels: Any, valid: Bool[Tensor, "*n"], num_classes: int | None
) -> Int[Tensor, "*n"]:
    labels = torch.as_tensor(labels)
    expect(
        labels.shape == valid.shape,
        "`labels` and `valid` of one shape",
        labels.shape,
        valid.shape,
    )
    whole = not (labels.is_floating_point() or labels.is_complex())
    expect(whole, "`labels` as integers", labels.dtype)
    labels = labels.long().masked_fill(~valid, 0)
    wrong = labels < 0
    if num_classes is not None:
        wrong |= labels >= num_classes
    end = "on" if num_classes is None else f"to {num_classes - 1}"
    _refuse(wrong, f"`labels` from 0 {end}", labels)
    return labels


def pack(truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is there first, in its order, and no more places than the fullest picture of
    the batch needs: IoU with many anchors is not computed for padding.

    Args:
        truth: of ``check_truth``, ``boxes`` (b, k, 4).
    """
    valid = truth["valid"]
    order = valid.int().argsort(dim=1, descending=True, stable=True)
    order = order[:, : int(valid.sum(1).amax()) if valid.numel() else 0]
    pictures = torch.arange(len(valid), device=valid.device)[:, None]
    return {name: values[pictures, order] for name, values in truth.items()}


def _refuse(wrong: Bool[Tensor, "*n"], expected: str, values: Tensor) -> None:
    """Nothing unless any is wrong, else ``expect``'s error with the first that is, and
    where it stands."""
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        expect(False, expected, values[place].tolist(), place)


def encode(
    boxes: Real[Tensor, "*n 4"],
    anchors: Real[Tensor, "*n 4"],
    *,
    deviations: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "*n 4"]:
    r"""What a regressor shall answer to turn ``anchors`` into ``boxes`` (Eq. 2 of
    Faster R-CNN, Section 2.2 of SSD).

    :math:`t_x = (x - x_a) / (w_a \sigma_x)` for centres, :math:`t_w = \ln(w / w_a) /
    \sigma_w` for sides.

    Args:
        boxes: targets, xyxy in pixels; sides must be positive.
        anchors: one for each box, xyxy in pixels; sides must be positive.
        deviations: :math:`\sigma` of (x, y, w, h): SSD's "variances" (0.1, 0.1, 0.2,
            0.2), torchvision's ``1 / weights``.

    Raises:
        ValueError: for a box or an anchor that ``check_boxes`` refuses, or unequally
            many of them.
    """
    boxes, anchors = check_boxes(boxes), check_boxes(anchors, "anchors")
    check_same(boxes, anchors, "boxes and anchors")
    sides = boxes[..., 2:] - boxes[..., :2]
    own = anchors[..., 2:] - anchors[..., :2]
    centres = boxes[..., 2:] + boxes[..., :2]
    shift = (centres - (anchors[..., 2:] + anchors[..., :2])) / 2 / own
    codes = torch.cat([shift, (sides / own).log()], -1)
    return codes / codes.new_tensor(deviations)


def decode(
    codes: Real[Tensor, "*n 4"],
    anchors: Real[Tensor, "*n 4"],
    *,
    deviations: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "*n 4"]:
    """The boxes that ``codes`` stand for: the inverse of ``encode``, sides clamped to
    62.5 times the anchor's.

    Args:
        codes: of a regressor, in units of ``deviations``.
        anchors: one for each code, xyxy in pixels.
        deviations: see ``encode``.

    Returns:
        Boxes, xyxy in pixels, at least in float32.

    Raises:
        ValueError: for another number of anchors than of codes.
    """
    codes, anchors = floating(codes), floating(anchors)
    check_same(codes, anchors, "codes and anchors")
    codes = codes * codes.new_tensor(deviations)
    own = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., 2:] + anchors[..., :2]) / 2 + codes[..., :2] * own
    half = own * codes[..., 2:].clamp(max=LARGEST).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def overlaps(
    boxes: Float[Tensor, "b g 4"],
    valid: Bool[Tensor, "b g"],
    others: Float[Tensor, "a 4"],
) -> Float[Tensor, "b g a"]:
    """IoU of every picture's boxes with the same other boxes, -1 for a box that is not
    there: what ``assign`` takes for a whole batch.

    Args:
        boxes: xyxy in pixels.
        valid: which of them are there.
        others: xyxy in pixels, such as anchors.
    """
    iou = box_iou(boxes.flatten(0, 1), others).unflatten(0, valid.shape)
    return iou.masked_fill(~valid[..., None], -1.0)


def assign(
    iou: Float[Tensor, "*b g a"],
    *,
    foreground: float,
    background: float,
    force: bool = False,
) -> Int[Tensor, "*b a"]:
    """For each anchor the index of its true box, or ``BACKGROUND``, or ``BETWEEN`` the
    thresholds: neither.

    Args:
        iou: of every true box with every anchor, of one picture or of several; without
            true boxes all is background.
        foreground: an anchor belongs to the box it overlaps most, if by at least this.
        background: below this it is background.
        force: every true box also gets the anchors that overlap it most, ties included,
            however little that is (torchvision's ``allow_low_quality_matches``); such
            an anchor keeps the box that it overlaps most itself.

    Raises:
        ValueError: for ``background > foreground``, or an IoU that is NaN.
    """
    expect(background <= foreground, "background <= foreground", background, foreground)
    if not iou.numel():
        shape = (*iou.shape[:-2], iou.shape[-1])
        return torch.full(shape, BACKGROUND, device=iou.device)
    overlap, best = iou.max(-2)
    _refuse(overlap.isnan(), "IoU without NaN", overlap)
    found = torch.where(overlap >= foreground, best, BETWEEN)
    found = torch.where(overlap < background, BACKGROUND, found)
    if force:
        most = iou.max(-1, keepdim=True).values
        forced = ((iou == most) & (most > 0)).any(-2)
        found = torch.where(forced, best, found)
    return found


def suppress(
    boxes: Real[Tensor, "_ 4"],
    scores: Float[Tensor, " _"],
    labels: Integer[Tensor, " _"],
    iou: float,
) -> Int[Tensor, " m"]:
    """Non-maximum suppression: which boxes stay, best first. Of two of a class that
    overlap by more than ``iou`` the weaker goes.

    Computed in float32: half precision loses whole pixels.

    Args:
        boxes: xyxy in pixels.
        scores: of each.
        labels: of each, or any other number within which boxes compete.
        iou: in [0, 1].

    Raises:
        ValueError: for boxes that ``check_boxes`` refuses, scores that are not finite,
            unequal lengths, or an ``iou`` outside [0, 1].
    """
    expect(0 <= iou <= 1, "an IoU from 0 to 1", iou)
    expect(
        len(boxes) == len(scores) == len(labels),
        "a score and a label for every box",
        len(boxes),
        len(scores),
        len(labels),
    )
    boxes = check_boxes(boxes, thin=True).float()
    _refuse(~scores.isfinite(), "finite scores", scores)
    return batched_nms(boxes, scores.float(), labels, iou)
