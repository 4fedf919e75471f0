"""The triangle against the decoder of segmentation_models_pytorch with our weights, the
plain net inside it against the book's U-Net, and Dice against the package's loss."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from papernets_lite.segmentation import unet, unetpp

pytestmark = pytest.mark.reference

WIDTHS = (4, 6, 10, 14, 18)  # five rows, no two alike


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 1e-3
    atol = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=atol)


def nearest_(net: unetpp.UNetPP) -> None:
    """Make the up-convolutions what that package's nearest neighbours can do: the same
    mixing of channels at each of the four pixels, and no bias."""
    for up in net.ups.values():
        up.weight.data[:] = up.weight[..., :1, :1]
        up.bias.data.zero_()
        # Biases elsewhere must matter.
    for block in net.nodes.values():
        block[0].bias.data.normal_(0, 0.1)
        block[2].bias.data.normal_(0, 0.1)


def port_(theirs: nn.Module, ours: unetpp.UNetPP) -> None:
    """Our weights for their decoder. It counts rows from below, lays the enlarged map
    first and its row's nodes after it, the latest first, and has no convolution of its
    own on the way up: ours goes into the weights of the one that reads it."""
    depth = ours.depth
    for i, j in unetpp.triangle(depth):
        if j == 0:
            continue
        block = theirs.blocks[f"x_{depth - i - j}_{depth - 1 - i}"]
        first, second = ours.nodes[f"x{i}{j}"][0], ours.nodes[f"x{i}{j}"][2]
        *row, up = first.weight.data.split(WIDTHS[i], 1)
        mixing = ours.ups[f"x{i}{j}"].weight[:, :, 0, 0]  # (low, width)
        up = torch.einsum("owyx,lw->olyx", up, mixing)
        block.conv1[0].weight.data.copy_(torch.cat([up, *reversed(row)], 1))
        block.conv1[0].bias.data.copy_(first.bias.data)
        block.conv2[0].load_state_dict(second.state_dict())


def test_every_node_equals_the_one_of_an_independent_decoder() -> None:
    module = "segmentation_models_pytorch.decoders.unetplusplus.decoder"
    decoder = pytest.importorskip(module).UnetPlusPlusDecoder
    torch.manual_seed(0)
    ours = unetpp.paper(widths=WIDTHS).eval()
    nearest_(ours)
    theirs = decoder(
        encoder_channels=(1, *WIDTHS),
        decoder_channels=(*reversed(WIDTHS[:-1]), 4),
        n_blocks=5,
        use_norm=False,
    ).eval()
    made = {}
    for name, block in theirs.blocks.items():
        block.register_forward_hook(
            lambda _, inputs, out, name=name: made.update({name: out})
        )
    port_(theirs, ours)
    images = torch.randn(2, 1, 64, 48)
    with torch.no_grad():
        x = ours.features(images)
        theirs([images, *(x[i, 0] for i in range(5))])
        compared = 0
        for i, j in unetpp.triangle(4):
            if j > 0:
                close(x[i, j], made[f"x_{4 - i - j}_{3 - i}"])
                compared += 1
    assert compared == 10
    # Its eleventh block enlarges once more: its encoder begins at half size.
    assert len(theirs.blocks) == 11


def test_dice_is_the_packages_loss() -> None:
    losses = pytest.importorskip("segmentation_models_pytorch.losses")
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 1, 8, 6, generator=random)
    masks = (torch.rand(5, 1, 8, 6, generator=random) < 0.3).float()
    # It adds its number to half of what we add ours to.
    theirs = losses.DiceLoss("binary", from_logits=True, smooth=unetpp.SMOOTH / 2)
    expected = [theirs(logits[n : n + 1], masks[n : n + 1]) for n in range(5)]
    found = 1 - unetpp.dice(logits.sigmoid(), masks)
    torch.testing.assert_close(found, torch.stack(expected))
    # and it counts a batch as one image, as the released code of the paper does
    as_one = unetpp.dice(logits.sigmoid().reshape(1, -1), masks.reshape(1, -1))
    torch.testing.assert_close(1 - as_one[0], theirs(logits, masks))


def test_without_nested_skips_it_is_the_books_u_net() -> None:
    torch.manual_seed(0)
    theirs = unet.UNet(widths=WIDTHS, num_classes=1, padding=1, dropout=0).eval()
    ours = unetpp.paper(widths=WIDTHS, nested=False).eval()
    names = {}
    for i in range(5):
        names[f"nodes.x{i}0"] = f"down.{i}"
    for step, (i, j) in enumerate((3 - k, 1 + k) for k in range(4)):
        names[f"nodes.x{i}{j}"] = f"merge.{step}"
        names[f"ups.x{i}{j}"] = f"up.{step}"
    names["heads.L4"] = "head"
    for mine, other in names.items():
        module = ours.get_submodule(mine)
        module.load_state_dict(theirs.get_submodule(other).state_dict())
    counted = sum(p.numel() for p in theirs.parameters())
    assert sum(p.numel() for p in ours.parameters()) == counted
    images = torch.randn(2, 1, 64, 48)
    with torch.no_grad():
        close(ours(images)[:, 0], theirs(images))


def plain(images: Tensor, net: unetpp.UNetPP) -> dict[tuple[int, int], Tensor]:
    """Eq. 1 word by word, in the paper's order: column after column."""
    x = {(0, 0): net.nodes["x00"](images)}
    for i in range(1, net.depth + 1):
        pooled = nn.functional.max_pool2d(x[i - 1, 0], 2)
        x[i, 0] = net.nodes[f"x{i}0"](pooled)
    for j in range(1, net.depth + 1):
        for i in range(net.depth + 1 - j):
            earlier = [x[i, k] for k in range(j)]
            up = net.ups[f"x{i}{j}"](x[i + 1, j - 1])
            x[i, j] = net.nodes[f"x{i}{j}"](torch.cat([*earlier, up], 1))
    return x


def test_equation_1_word_by_word() -> None:
    torch.manual_seed(0)
    net = unetpp.paper(widths=WIDTHS).eval()
    images = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        found, expected = net.features(images), plain(images, net)
    assert set(found) == set(expected)
    assert all(found[place].equal(expected[place]) for place in expected)
    assert [a > b for a, b in pairwise(net.heads)] == [False] * 3
