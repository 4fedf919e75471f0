"""Target making, matching, coding, decoding and evaluation beside packages or the plain
loop."""

import contextlib
import io
from types import SimpleNamespace

import torch
from torch import Tensor
from torchvision.models.detection import _utils
from torchvision.ops import box_iou

from papernets_lite.data import people
from papernets_lite.detection import ssd
from papernets_lite.metrics.detection import box_ap
from papernets_lite.metrics.keypoints import oks_ap
from papernets_lite.ops import boxes as coding
from papernets_lite.pose import openpose
from tests.pose.test_openpose import crowd, loop
from tests.reference.test_detection import SIZES, by_pycocotools, scene
from tests.reference.test_openpose import pycocotools_ap

from .timing import Row, alone, beside


def random_boxes(count: int, side: float = 300.0) -> Tensor:
    """Boxes in a square of ``side`` pixels."""
    corner, size = torch.rand(2, count, 2)
    return side * torch.cat([0.7 * corner, 0.7 * corner + 0.05 + 0.25 * size], 1)


def detection() -> list[Row]:
    """Boxes to codes and back, and matching, at SSD300's 8,732 default boxes."""
    torch.manual_seed(0)
    anchors, wanted = random_boxes(8732), random_boxes(8732)
    deviations = (0.1, 0.1, 0.2, 0.2)
    coder = _utils.BoxCoder(tuple(1 / d for d in deviations))
    codes = coder.encode_single(wanted, anchors)
    rows = [
        beside(
            "8,732 boxes to codes",
            lambda: coding.encode(wanted, anchors, deviations=deviations),
            "torchvision",
            lambda: coder.encode_single(wanted, anchors),
        ),
        beside(
            "8,732 codes to boxes",
            lambda: coding.decode(codes, anchors, deviations=deviations),
            "torchvision",
            lambda: coder.decode_single(codes, anchors),
        ),
    ]
    iou = box_iou(random_boxes(10), anchors)
    matcher = _utils.SSDMatcher(0.5)
    rows.append(
        beside(
            "SSD's matching, 10 true boxes",
            lambda: ssd.match(iou),
            "torchvision",
            lambda: matcher(iou),
        )
    )
    return rows


def poses() -> list[Row]:
    """OpenPose's targets and its parser."""
    keypoints, present = crowd(2, people=(4, 4), spacing=(0.1, 0.15))
    grid = {"size": (16, 16), "stride": 4.0, "sigma": 3.5, "width": 2.5}
    rows = [
        beside(
            "OpenPose's targets, 2 images of 4",
            lambda: openpose.targets(keypoints, present, **grid),
            "the plain loop",
            lambda: loop(keypoints, present, **grid),
        )
    ]
    keypoints, present = crowd(
        1, people=(10, 10), spacing=(0.085, 0.095), height=(0.3, 0.4), side=368
    )
    maps = openpose.targets(
        keypoints, present, size=(46, 46), stride=8.0, sigma=7.0, width=6.0
    )
    rows.append(
        alone("OpenPose's parser, 10 people", lambda: openpose.decode([maps], stride=8))
    )
    return rows


def evaluation() -> list[Row]:
    """Average precision of boxes and of keypoints."""
    found, truth = scene(0)
    rows = [
        beside(
            "box AP, 12 images",
            lambda: box_ap(found, truth, sizes=SIZES),
            "pycocotools",
            lambda: by_pycocotools(found, truth),
        )
    ]
    generator = torch.Generator().manual_seed(3)
    known = people.annotate(people.sample(20, generator, people=(1, 4)), 64)
    valid = known["valid"]
    keypoints = [k[v] for k, v in zip(known["keypoints"], valid, strict=True)]
    visible = [s[v] for s, v in zip(known["visible"], valid, strict=True)]
    areas = [a[v].float() for a, v in zip(known["areas"], valid, strict=True)]
    scores = [torch.rand(len(points), generator=generator) for points in keypoints]
    pairs = list(zip(keypoints, scores, strict=True))
    answers = [SimpleNamespace(keypoints=k, scores=s) for k, s in pairs]

    def theirs() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            pycocotools_ap(pairs, keypoints, visible, areas)

    rows.append(
        beside(
            "OKS AP, 20 images", lambda: oks_ap(answers, known), "pycocotools", theirs
        )
    )
    return rows


TOPICS = [detection, poses, evaluation]
