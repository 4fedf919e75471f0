"""Box AP against pycocotools, on random scenes with detections near and far from the
truth."""

import contextlib
import io

import numpy as np
import pytest
import torch
from torch import Tensor

from papernets_lite.metrics.detection import ap_by_iou, box_ap

pytestmark = pytest.mark.reference
SIZES = {"small": (0.0, 14.0), "medium": (14.0, 22.0), "large": (22.0, 99.0)}


def scene(seed: int) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Twelve images of up to six objects of three classes, some detected well, some
    badly, and false alarms."""
    torch.manual_seed(seed)
    corners = 40 * torch.rand(12, 6, 2)
    truth = {
        "boxes": torch.cat([corners, corners + 6 + 24 * torch.rand(12, 6, 2)], 2),
        "labels": torch.randint(3, (12, 6)),
        "valid": torch.arange(6) < torch.randint(0, 7, (12, 1)),
    }
    found = []
    for boxes, labels in zip(truth["boxes"], truth["labels"], strict=True):
        moved = (
            boxes.repeat(4, 1)
            + torch.randn(24, 4)
            * torch.tensor([0.5, 1.0, 2.0, 6.0]).repeat_interleave(6)[:, None]
        )
        moved = torch.cat(
            [moved[:, :2], torch.maximum(moved[:, 2:], moved[:, :2] + 1)], 1
        )
        names = torch.where(
            torch.rand(24) < 0.85, labels.repeat(4), torch.randint(4, (24,))
        )  # a class without objects
        scores = torch.rand(24).mul(20).round() / 20  # ties
        found.append({"boxes": moved, "scores": scores, "labels": names})
    found[3] = {key: value[:0] for key, value in found[3].items()}
    return found, truth


def by_pycocotools(
    found: list[dict[str, Tensor]], truth: dict[str, Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (IoU, recall, class, size, most) and recall."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    annotations, results = [], []
    for image, one in enumerate(found):
        valid = truth["valid"][image]
        known = truth["boxes"][image][valid].double().numpy()
        labels = truth["labels"][image][valid].tolist()
        crowd = truth.get("crowd", torch.zeros_like(truth["valid"]))
        crowds = crowd[image][valid].int().tolist()
        for (x0, y0, x1, y1), label, many in zip(known, labels, crowds, strict=True):
            side = [x0, y0, x1 - x0, y1 - y0]
            record = {
                "image_id": image,
                "category_id": label,
                "bbox": side,
                "area": side[2] * side[3],
            }
            annotations.append(record | {"id": len(annotations) + 1, "iscrowd": many})
        rows = zip(
            one["boxes"].double().numpy(),
            one["scores"].tolist(),
            one["labels"].tolist(),
            strict=True,
        )
        for (x0, y0, x1, y1), score, label in rows:
            side = [x0, y0, x1 - x0, y1 - y0]
            results.append(
                {"image_id": image, "category_id": label, "bbox": side, "score": score}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO()
        images = [{"id": image} for image in range(len(found))]
        data.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": k} for k in range(4)],
        }
        data.createIndex()
        evaluation = cocoeval.COCOeval(data, data.loadRes(results), "bbox")
        evaluation.params.areaRng = [[0, 1e10]] + [
            [low**2, high**2] for low, high in SIZES.values()
        ]
        evaluation.params.areaRngLbl = ["all", *SIZES]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_box_ap_is_cocos(seed: int, crowds: bool) -> None:
    found, truth = scene(seed)
    if crowds:
        truth["crowd"] = torch.rand(truth["valid"].shape) < 0.2
    precision, recall = by_pycocotools(found, truth)
    expected = {
        "AP": precision[:, :, :, 0, -1],
        "AP50": precision[0, :, :, 0, -1],
        "AP75": precision[5, :, :, 0, -1],
        "AR": recall[:, :, 0, -1],
    }
    expected |= {
        f"AP {name}": precision[:, :, :, k, -1] for k, name in enumerate(SIZES, 1)
    }
    means = {name: values[values > -1].mean() for name, values in expected.items()}
    assert 0.1 < means["AP"] < 0.9
    assert box_ap(found, truth, sizes=SIZES) == pytest.approx(means, abs=1e-9)
    curve = ap_by_iou(found, truth)
    assert list(curve) == pytest.approx(np.arange(0.5, 1, 0.05))
    for value, row in zip(curve.values(), precision[..., 0, -1], strict=True):
        assert value == pytest.approx(row[row > -1].mean(), abs=1e-9)
