"""Labels that are not all asked for, and the cross-entropy of the answers."""

from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.boxes import floating
from papernets_lite.ops.checks import check_labels

NOTHING = -100  # a label that is not asked for


def cross_entropy(logits: Tensor, labels: Tensor, *, unknown: int = NOTHING) -> Tensor:
    """The mean over what is asked for; 0, with a gradient of 0, where nothing is.

    Args:
        logits: (..., classes).
        labels: (...), classes from 0.
        unknown: the label of what is not asked for.

    Raises:
        ValueError: for labels that ``check_labels`` refuses.
    """
    num_classes, shape = logits.shape[-1], logits.shape[:-1]
    labels = check_labels(labels, num_classes, shape=shape, unknown=unknown)
    total = functional.cross_entropy(
        floating(logits).flatten(0, -2),
        labels.flatten(),
        ignore_index=unknown,
        reduction="sum",
    )
    return total / (labels != unknown).sum().clamp(min=1)
