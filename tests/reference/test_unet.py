"""The net against MONAI's with its weights, and against plain calls of torch's
functions with the paper's crops."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.segmentation import unet

pytestmark = pytest.mark.reference


def monai_net(widths: tuple[int, ...]) -> nn.Module:
    """MONAI's BasicUNet without norms; its last up-convolution, which does not halve
    the channels, is rebuilt."""
    nets = pytest.importorskip("monai.networks.nets.basic_unet")
    act = ("RELU", {"inplace": False})
    theirs = nets.BasicUNet(
        spatial_dims=2, in_channels=1, features=(*widths, widths[0]), act=act, norm=None
    )
    theirs.upcat_1 = nets.UpCat(
        2, widths[1], widths[0], widths[0], act, None, True, 0.0, "deconv", halves=True
    )
    return theirs.eval()


def test_monais_weights_give_the_same_scores() -> None:
    torch.manual_seed(0)
    widths = (4, 8, 16, 32, 64)
    theirs, ours = monai_net(widths), unet.UNet(widths=widths, padding=1).eval()
    state = theirs.state_dict()
    down, up = (
        [v for k, v in state.items() if k.startswith(names)]
        for names in (("conv_0.", "down_"), ("upcat_", "final"))
    )
    # Theirs stand block by block; ours keep the up-convolutions apart from the
    # convolutions that follow them.
    groups = [up[6 * level : 6 * level + 6] for level in range(4)]
    ordered = [
        *down,
        *(v for g in groups for v in g[:2]),
        *(v for g in groups for v in g[2:]),
        *up[24:],
    ]
    mine = ours.state_dict()
    assert [v.shape for v in mine.values()] == [v.shape for v in ordered]
    ours.load_state_dict(dict(zip(mine, ordered, strict=True)))
    images = torch.randn(2, 1, 64, 48)
    with torch.no_grad():
        expected = theirs(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(
            ours(images), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()
        )


def test_the_papers_net_has_monais_parameters() -> None:
    with torch.device("meta"):
        theirs = monai_net(unet.WIDTHS)
        assert sum(p.numel() for p in theirs.parameters()) == sum(
            p.numel() for p in unet.paper().parameters()
        )


def plain(images: Tensor, w: dict[str, Tensor], depth: int) -> Tensor:
    """Fig. 1 line by line."""

    def twice(x: Tensor, name: str) -> Tensor:
        x = functional.relu(
            functional.conv2d(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"])
        )
        return functional.relu(
            functional.conv2d(x, w[f"{name}.2.weight"], w[f"{name}.2.bias"])
        )

    kept = [twice(images, "down.0")]
    for level in range(1, depth + 1):
        kept.append(twice(functional.max_pool2d(kept[-1], 2), f"down.{level}"))
    x = kept.pop()
    for step in range(depth):
        x = functional.conv_transpose2d(
            x, w[f"up.{step}.weight"], w[f"up.{step}.bias"], stride=2
        )
        fine = kept.pop()
        off = (fine.shape[2] - x.shape[2]) // 2
        x = twice(torch.cat([fine[:, :, off:-off, off:-off], x], 1), f"merge.{step}")
    return functional.conv2d(x, w["head.weight"], w["head.bias"])


def test_valid_convolutions_and_crops_are_figure_1() -> None:
    torch.manual_seed(0)
    net = unet.paper(widths=(4, 6, 8, 10, 12)).eval()
    images = torch.randn(1, 1, 236, 236)
    with torch.no_grad():
        torch.testing.assert_close(net(images), plain(images, net.state_dict(), 4))
