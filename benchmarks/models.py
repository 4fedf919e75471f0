"""Nets at the paper's scale beside the package that implements them: forward in
evaluation mode, and forward with backward in training mode."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import torch
from monai.networks.nets import PatchDiscriminator
from monai.networks.nets.basic_unet import BasicUNet
from pix2pixhd.models import networks
from timm import create_model
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import fasterrcnn_resnet50_fpn, ssd300_vgg16
from torchvision.models.detection.image_list import ImageList

from papernets_lite.backbones import resnet, senet
from papernets_lite.detection import faster_rcnn, ssd
from papernets_lite.generative import cyclegan, pix2pixhd
from papernets_lite.pose import openpose
from papernets_lite.segmentation import unet

from .timing import Row, beside

Forward = Callable[[Tensor], object]


def tensors(outputs: object) -> Iterator[Tensor]:
    """The tensors in outputs that carry a gradient, however they are nested."""
    if isinstance(outputs, Tensor):
        if outputs.requires_grad:
            yield outputs
    elif isinstance(outputs, dict):
        yield from tensors(list(outputs.values()))
    elif isinstance(outputs, list | tuple):
        for inner in outputs:
            yield from tensors(inner)
    elif hasattr(outputs, "__dict__"):
        yield from tensors(list(vars(outputs).values()))


def evaluated(net: nn.Module, forward: Forward, images: Tensor) -> Callable[[], None]:
    """A forward pass as it is made for predictions."""

    def work() -> None:
        net.eval()
        with torch.no_grad():
            forward(images)

    return work


def trained(net: nn.Module, forward: Forward, images: Tensor) -> Callable[[], None]:
    """A forward and a backward pass as they are made in training, without the update;
    the loss is the outputs' mean of squares."""

    def work() -> None:
        net.train()
        net.zero_grad(set_to_none=True)
        parts = [part.square().mean() for part in tensors(forward(images))]
        torch.stack(parts).sum().backward()

    return work


def pair(
    name: str,
    rival: str,
    ours: nn.Module,
    theirs: nn.Module,
    images: Tensor,
    *,
    ours_forward: Forward | None = None,
    theirs_forward: Forward | None = None,
) -> list[Row]:
    """Both passes of a net and of its rival."""
    shape = " x ".join(str(side) for side in images.shape)
    mine = (ours, ours_forward or ours, images)
    other = (theirs, theirs_forward or theirs, images)
    rows = []
    for kind, works in (("forward", evaluated), ("forward, backward", trained)):
        what = f"{name}, {shape}, {kind}"
        rows.append(beside(what, works(*mine), rival, works(*other)))
    return rows


def resnets() -> list[Row]:
    """ResNet-50 and SE-ResNet-50, with the stride where the rivals have it."""
    images = torch.rand(2, 3, 128, 128)
    plain = resnet.paper(depth=50, stride_on_3x3=True)
    rows = pair("ResNet-50", "torchvision", plain, resnet50(), images)
    gated = senet.paper(depth=50, stride_on_3x3=True)
    rows += pair("SE-ResNet-50", "timm", gated, create_model("seresnet50"), images)
    return rows


def faster_rcnns() -> list[Row]:
    """Trunk, pyramid, region proposal head and anchors: all that stands before the
    first choice, so that both do the same work whatever their weights."""
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    for layer in theirs.modules():
        # theirs freezes its first stages only with weights; all learn here
        layer.requires_grad_(True)

    def forward(images: Tensor) -> object:
        maps = list(theirs.backbone(images).values())
        sizes = [tuple(images.shape[2:])] * len(images)
        theirs.rpn.anchor_generator(ImageList(images, sizes), maps)
        return theirs.rpn.head(maps)

    def first_stage(images: Tensor) -> object:
        outputs = ours(images)
        return outputs.scores, outputs.codes

    ours = faster_rcnn.pyramid()
    images = torch.rand(1, 3, 192, 192)
    return pair(
        "Faster R-CNN, first stage",
        "torchvision",
        ours,
        theirs,
        images,
        ours_forward=first_stage,
        theirs_forward=forward,
    )


def ssds() -> list[Row]:
    """SSD300 to logits, codes and default boxes."""
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)

    def forward(images: Tensor) -> object:
        maps = list(theirs.backbone(images).values())
        sizes = [tuple(images.shape[2:])] * len(images)
        theirs.anchor_generator(ImageList(images, sizes), maps)
        return theirs.head(maps)

    images = torch.rand(1, 3, 300, 300)
    return pair(
        "SSD300", "torchvision", ssd.paper(), theirs, images, theirs_forward=forward
    )


def released_openpose() -> ModuleType:
    """controlnet-aux's port of the released net: the file alone, as the package itself
    imports much more."""
    package = importlib.util.find_spec("controlnet_aux")
    path = Path(package.submodule_search_locations[0]) / "open_pose" / "model.py"
    spec = importlib.util.spec_from_file_location("controlnet_openpose", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def openposes() -> list[Row]:
    """OpenPose's body net, six stages; all stages' maps in training, as it needs."""
    theirs = released_openpose().bodypose_model()
    images = torch.rand(1, 3, 96, 96)
    return pair("OpenPose", "controlnet-aux", openpose.paper(), theirs, images)


def unets() -> list[Row]:
    """U-Net with MONAI's padding."""
    theirs = BasicUNet(
        spatial_dims=2,
        in_channels=1,
        features=(*unet.WIDTHS, unet.WIDTHS[0]),
        act=("RELU", {"inplace": False}),
        norm=None,
    )
    ours = unet.UNet(widths=unet.WIDTHS, padding=1)
    return pair("U-Net", "monai", ours, theirs, torch.rand(1, 1, 96, 96))


def gans() -> list[Row]:
    """CycleGAN's discriminator, pix2pixHD's generator G1 and discriminators."""
    judge = PatchDiscriminator(
        spatial_dims=2,
        channels=64,
        in_channels=3,
        num_layers_d=3,
        norm="INSTANCE",
        bias=True,
        last_conv_kernel_size=4,
    )
    images = torch.rand(1, 3, 256, 256)
    rows = pair(
        "PatchGAN, 70 x 70", "monai", cyclegan.PatchDiscriminator(), judge, images
    )
    norm = networks.get_norm_layer("instance")
    maker = networks.GlobalGenerator(36, 3, 64, 4, 9, norm)
    conditions = torch.rand(1, 36, 64, 128)
    ours = pix2pixhd.GlobalGenerator(36)
    rows += pair("pix2pixHD's G1", "pix2pixhd", ours, maker, conditions)
    several = networks.MultiscaleDiscriminator(39, 64, 3, norm, False, 3, True)
    pictures = torch.rand(1, 39, 128, 256)
    ours = pix2pixhd.MultiscaleDiscriminator(39, scales=3)
    rows += pair("pix2pixHD's three judges", "pix2pixhd", ours, several, pictures)
    return rows


TOPICS = [resnets, faster_rcnns, ssds, openposes, unets, gans]
