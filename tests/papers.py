"""How each paper's tiny model is called, for the contract test: slug -> a function that
runs it once.

A paper joins by one entry: ``(model, batch size, seed) -> loss``, a scalar that depends
on all its parameters.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from papernets_lite.backbones import resnet, senet
from papernets_lite.detection import faster_rcnn, ssd
from papernets_lite.generative import cyclegan, pix2pixhd, stargan
from papernets_lite.language import bottom_up_top_down
from papernets_lite.people import unseen_poses
from papernets_lite.pose import openpose
from papernets_lite.segmentation import unet
from papernets_lite.transfer import siamese, taskonomy
from papernets_lite.video import detect_to_track


def _images(count: int, size: int, seed: int, like: nn.Module) -> Tensor:
    images = torch.rand(
        count, 3, size, size, generator=torch.Generator().manual_seed(seed)
    )
    return images.to(next(like.parameters()).dtype)


def run_resnet(model: nn.Module, count: int, seed: int) -> Tensor:
    labels = torch.arange(count) % 8
    return resnet.loss(model(_images(count, 32, seed, model)), labels)["loss"]


def run_senet(model: nn.Module, count: int, seed: int) -> Tensor:
    labels = (torch.arange(count)[:, None, None] % 8).expand(count, 16, 16)
    return senet.loss(model(_images(count, 32, seed, model)), labels)["loss"]


def run_openpose(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(_images(count, 64, seed, model))
    heats, fields = (torch.ones_like(maps) for maps in outputs[0])
    return openpose.loss(outputs, heats, fields)["loss"]


def run_cyclegan(model: nn.Module, count: int, seed: int) -> Tensor:
    x, y = _images(count, 32, seed, model), _images(count, 32, seed + 1, model)
    fakes = model(x, y)
    both = (
        cyclegan.generator_loss(model, x, y, fakes),
        cyclegan.discriminator_loss(model, x, y, fakes),
    )
    return both[0]["loss"] + both[1]["loss"]


def run_stargan(model: nn.Module, count: int, seed: int) -> Tensor:
    x, y = _images(count, 32, seed, model), _images(count, 32, seed + 1, model)
    labels = (torch.arange(5 * count).reshape(count, 5) % 2).to(x.dtype)
    points = torch.Generator().manual_seed(seed)
    making = stargan.generator_loss(model, x, labels, 1 - labels)
    telling = stargan.discriminator_loss(model, x, labels, y, generator=points)
    return making["loss"] + telling["loss"]


def run_pix2pixhd(model: nn.Module, count: int, seed: int) -> Tensor:
    images = _images(count, 64, seed, model)
    labels = torch.arange(64).expand(count, 64, 64) // 8
    instances = labels * 2 + (torch.arange(64) % 8 > 3)
    conditions = pix2pixhd.encode(labels, instances, num_classes=8).to(images.dtype)
    fakes = model(conditions, model.encoder(images, instances))
    losses = (pix2pixhd.generator_loss, pix2pixhd.discriminator_loss)
    return sum(
        (loss(model, conditions, images, fakes)["loss"] for loss in losses),
        images.new_zeros(()),
    )


def run_siamese(model: nn.Module, count: int, seed: int) -> Tensor:
    pairs = torch.stack(
        [_images(count, 32, seed + k, model)[:, :1] for k in (0, 100)], 1
    )
    return siamese.loss(model(pairs), torch.arange(count) % 2 == 0)["loss"]


def run_unet(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(_images(count, 60, seed, model))
    labels = torch.arange(count * 400).reshape(count, 20, 20) % 2
    return unet.loss(outputs, labels)["loss"]


def run_faster_rcnn(model: nn.Module, count: int, seed: int) -> Tensor:
    images = _images(count, 64, seed, model)
    truth = {
        "boxes": images.new_tensor(
            [[4.0, 6.0, 18.0, 20.0], [30.0, 30.0, 56.0, 50.0]]
        ).expand(count, 2, 4),
        "labels": torch.tensor([1, 8]).expand(count, 2),
        "valid": torch.tensor([True, True]).expand(count, 2),
    }
    sampler = torch.Generator().manual_seed(seed)
    return faster_rcnn.loss(model, model(images), truth, generator=sampler)["loss"]


def run_ssd(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(_images(count, 64, seed, model))
    boxes = outputs.defaults.new_tensor(
        [[8, 8, 20, 22], [20, 10, 60, 50], [0, 0, 64, 64]]
    ).expand(count, 3, 4)
    labels = torch.arange(3).expand(count, 3)
    wanted = ssd.targets(
        outputs.defaults, boxes, labels, torch.ones(count, 3, dtype=torch.bool)
    )
    return ssd.loss(outputs, *wanted)["loss"]


def run_taskonomy(model: nn.Module, count: int, seed: int) -> Tensor:
    images = _images(count, 32, seed, model)
    return taskonomy.loss(model(images), 1 - images)["loss"]


def run_unseen_poses(model: nn.Module, count: int, seed: int) -> Tensor:
    images = _images(count, 48, seed, model)
    joints = 48 * _images(28, 1, seed + 1, model)[:, :2, 0, 0].reshape(1, 28, 2).repeat(
        count, 1, 1
    )
    return unseen_poses.loss(
        model(images, joints[:, :14], joints[:, 14:]).image, images
    )["loss"]


def run_detect_to_track(model: nn.Module, count: int, seed: int) -> Tensor:
    frames = torch.stack([_images(count, 64, seed + k, model) for k in (0, 100)], 1)
    boxes = frames.new_tensor(
        [[[4, 6, 18, 20], [30, 30, 56, 50]], [[7, 5, 22, 20], [26, 32, 50, 54]]]
    )
    truth = {
        "boxes": boxes.expand(count, 2, 2, 4),
        "labels": torch.tensor([1, 7]).expand(count, 2, 2),
        "valid": torch.tensor([True, True]).expand(count, 2, 2),
    }
    sampler = torch.Generator().manual_seed(seed)
    return detect_to_track.loss(model, model(frames), truth, generator=sampler)["loss"]


def run_bottom_up_top_down(model: nn.Module, count: int, seed: int) -> Tensor:
    boxes = torch.tensor([[0.0, 0, 12, 12], [8, 8, 40, 40], [20, 4, 44, 30]]).expand(
        count, 3, 4
    )
    images = _images(count, 48, seed, model)
    vectors, valid = (
        model.features(images, boxes.to(images)),
        torch.tensor([True, False, True]).expand(count, 3),
    )
    labels, words = (
        torch.arange(3 * count).reshape(count, 3) % 6,
        torch.arange(4 * count).reshape(count, 4) % 20 + 3,
    )
    parts = [
        bottom_up_top_down.region_loss(
            *model.features.describe(vectors, labels + 1), labels + 1, labels
        ),
        bottom_up_top_down.loss(model.captioner(vectors, words, valid)[0], words),
    ]
    logits, _ = model.answerer(vectors, words, valid)
    parts.append(
        bottom_up_top_down.answer_loss(
            logits, torch.eye(17).to(logits)[torch.arange(count)]
        )
    )
    return torch.stack([part["loss"] for part in parts]).sum()


RUN: dict[str, Callable[[nn.Module, int, int], Tensor]] = {
    "resnet": run_resnet,
    "senet": run_senet,
    "openpose": run_openpose,
    "cyclegan": run_cyclegan,
    "stargan": run_stargan,
    "pix2pixhd": run_pix2pixhd,
    "bottom_up_top_down": run_bottom_up_top_down,
    "siamese": run_siamese,
    "unet": run_unet,
    "faster_rcnn": run_faster_rcnn,
    "ssd": run_ssd,
    "taskonomy": run_taskonomy,
    "unseen_poses": run_unseen_poses,
    "detect_to_track": run_detect_to_track,
}
