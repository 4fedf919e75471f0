"""OpenPose against independent code: the released net as controlnet-aux ports it, and
pycocotools' keypoint AP."""

import contextlib
import importlib.util
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from papernets_lite.data import people
from papernets_lite.metrics.keypoints import SIGMAS, oks_ap
from papernets_lite.pose import openpose

pytestmark = pytest.mark.reference


def test_the_released_net_gives_the_same_maps():
    package = importlib.util.find_spec("controlnet_aux")
    if package is None:
        pytest.skip("needs controlnet-aux")
    # The file alone: the package itself imports much more.
    path = Path(package.submodule_search_locations[0]) / "open_pose" / "model.py"
    spec = importlib.util.spec_from_file_location("controlnet_openpose", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    theirs, ours = module.bodypose_model().eval(), openpose.paper().eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            # Small random weights die out over 37 layers; these keep their size.
            weight.copy_(
                torch.randn_like(weight) * (2 / weight[0].numel()) ** 0.5
                if weight.ndim == 4
                else 0.1
            )
        blocks = [theirs.model0]
        for branch, stages in ((1, ours.field_stages), (2, ours.heat_stages)):
            blocks += [
                getattr(theirs, f"model{stage}_{branch}")
                for stage in range(1, len(stages) + 1)
            ]
        mine = [ours.trunk, *ours.field_stages, *ours.heat_stages]
        for from_, to in zip(blocks, mine, strict=True):
            values = [parameter.data for parameter in from_.parameters()]
            for parameter, value in zip(to.parameters(), values, strict=True):
                parameter.copy_(value)
        images = torch.rand(1, 3, 184, 184)
        fields, heats = theirs(images - 0.5)
        our_heats, our_fields = ours(images)[-1]
    assert fields.shape == (1, 38, 23, 23)
    assert fields.abs().mean() > 0.1
    assert torch.allclose(our_fields, fields, atol=1e-4, rtol=1e-4)
    # Their list of layers without ReLU names the last field layer twice and the last
    # map layer never.
    assert torch.allclose(our_heats.relu(), heats, atol=1e-4, rtol=1e-4)


def pycocotools_ap(predictions, keypoints, visible, areas):
    """The same evaluation by the original implementation."""
    numpy = pytest.importorskip("numpy")
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    def record(image, points, flags, **more):
        triples = torch.cat([points, flags[:, None].float()], 1).flatten().tolist()
        return {
            "image_id": image,
            "category_id": 1,
            "keypoints": triples,
            "bbox": [0, 0, 1, 1],
            **more,
        }

    annotations, results = [], []
    for image in range(len(keypoints)):
        for points, seen, area in zip(
            keypoints[image], visible[image], areas[image], strict=True
        ):
            if seen.any():
                more = {
                    "id": len(annotations) + 1,
                    "iscrowd": 0,
                    "num_keypoints": int(seen.sum()),
                    "area": float(area),
                }
                annotations.append(record(image, points, 2 * seen, **more))
        for points, score in zip(*predictions[image], strict=True):
            results.append(
                record(
                    image, points, torch.ones(len(points)), score=float(score), area=0.0
                )
            )
    truth = coco.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(len(keypoints))],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = numpy.array(SIGMAS)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    return {
        "AP": precision.mean(),
        "AP50": precision[0].mean(),
        "AP75": precision[5].mean(),
        "AR": recall.mean(),
    }


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.5])
def test_ap_equals_pycocotools(noise):
    generator = torch.Generator().manual_seed(3)
    truth = people.annotate(people.sample(20, generator, people=(1, 4)), 64)
    keypoints = [k[v] for k, v in zip(truth["keypoints"], truth["valid"], strict=True)]
    visible = [s[v] for s, v in zip(truth["visible"], truth["valid"], strict=True)]
    areas = [a[v].float() for a, v in zip(truth["areas"], truth["valid"], strict=True)]
    predictions = []
    for points in keypoints:
        # Off by noise, one person missed now and then, one invented, each joint lost
        # with a chance of a tenth.
        shaken = points + noise * torch.randn(points.shape, generator=generator)
        shaken = torch.cat(
            [
                shaken[: max(1, len(shaken) - 1)],
                64 * torch.rand(1, 18, 2, generator=generator),
            ]
        )
        shaken[torch.rand(shaken.shape[:2], generator=generator) < 0.1] = 0
        predictions.append((shaken, torch.rand(len(shaken), generator=generator)))
    ours = oks_ap(
        [SimpleNamespace(keypoints=k, scores=s) for k, s in predictions], truth
    )
    theirs = pycocotools_ap(predictions, keypoints, visible, areas)
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert 0 < ours["AP"] < 1
