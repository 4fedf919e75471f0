"""The colour code pixel by pixel, the weighted loss against the plain one, boxes and
maps by hand, the counts of the released nets, and who hides whom."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.ops.updates import ramp
from papernets_lite.segmentation import segan
from tests.helpers import fit
from tests.unchecked import unchecked


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def mask(*rows: str) -> Tensor:
    """A mask from words: ``#`` belongs to it."""
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


VISIBLE = mask("....", ".#..", ".##.", "....")
FULL = mask("....", ".##.", ".##.", ".#..")


def test_the_code_by_hand() -> None:
    images = torch.rand(1, 3, 4, 4)
    coded = segan.encode(images, VISIBLE[None], FULL[None])[0]
    for row in range(4):
        for column in range(4):
            pixel = coded[:, row, column].tolist()
            if VISIBLE[row, column]:
                assert pixel == images[0, :, row, column].tolist()
            else:
                hidden = bool(FULL[row, column])
                assert pixel == ([1, 0, 0] if hidden else [0, 0, 1])


def test_three_regions() -> None:
    region = segan.regions(VISIBLE[None], FULL[None])[0]
    assert region.tolist() == [[0, 0, 0, 0], [0, 1, 2, 0], [0, 1, 1, 0], [0, 2, 0, 0]]


def test_equal_weights_are_plain_cross_entropy() -> None:
    torch.manual_seed(0)
    outputs, truth = torch.randn(2, 1, 4, 4), torch.stack([FULL, VISIBLE])
    batch = {"visible": torch.stack([VISIBLE, VISIBLE]), "full": truth}
    found = segan.loss(outputs, batch, weights=segan.EQUAL)["loss"]
    plain = functional.binary_cross_entropy_with_logits(outputs[:, 0], truth.float())
    torch.testing.assert_close(found, plain)


def test_the_released_weights_are_those_of_summed_regions() -> None:
    """Released: 1, 5 and 3 times each region's sum, over 37000, 27000 and 12000."""
    torch.manual_seed(1)
    outputs = torch.randn(1, 1, 4, 4)
    batch = {"visible": VISIBLE[None], "full": FULL[None]}
    missed = functional.binary_cross_entropy_with_logits(
        outputs[0, 0], FULL.float(), reduction="none"
    )
    region = segan.regions(VISIBLE[None], FULL[None])[0]
    theirs = 0.0
    for number, (weight, norm) in enumerate(((1, 37000), (5, 27000), (3, 12000))):
        theirs += weight / norm * missed[region == number].sum().item()
    found = segan.loss(outputs, batch)["loss"].item()
    assert found * 16 / 37000 == pytest.approx(theirs, rel=1e-5)
    assert segan.RELEASED[2] > segan.RELEASED[1] > segan.RELEASED[0]


def test_boxes_around_masks() -> None:
    masks = torch.zeros(3, 8, 12, dtype=torch.bool)
    masks[0, 2:6, 3:8] = True
    masks[1, 7, 11] = True
    plain = segan.enclosing(masks, 0.0)
    assert plain.tolist() == [[3, 2, 8, 6], [11, 7, 12, 8], [0, 0, 12, 8]]
    grown = segan.enclosing(masks, 0.2)
    torch.testing.assert_close(grown[0], torch.tensor([2.5, 1.6, 8.5, 6.4]))
    inside = segan.boxed(masks, 0.0)
    assert inside[0].equal(masks[0])
    assert inside[1].equal(masks[1])
    assert inside[2].all()
    # a column more on the right of 3 to 8 pixels takes half a pixel beyond its centre
    wider = segan.boxed(masks, 0.5)[0].nonzero()
    assert wider.amin(0).tolist() == [1, 2]
    assert wider.amax(0).tolist() == [6, 8]


def test_a_map_is_laid_over_its_box() -> None:
    """Twice as large as the box's pixels are few: a map of 2x2 over 4x4 pixels."""
    maps = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    box = torch.tensor([[1.0, 2.0, 5.0, 6.0]])
    laid = segan.lay(maps, box, (8, 7))[0, 0]
    assert laid.shape == (8, 7)
    inside = laid > segan.NOWHERE
    assert inside.nonzero().aminmax(dim=0).min.tolist() == [2, 1]
    assert inside.nonzero().aminmax(dim=0).max.tolist() == [5, 4]
    # centres at a quarter and three quarters of a cell: between the cells' centres
    assert laid[2, 1:5].tolist() == pytest.approx([1.0, 1.25, 1.75, 2.0])
    assert laid[2:6, 1].tolist() == pytest.approx([1.0, 1.5, 2.5, 3.0])


def test_the_paper_has_as_many_parameters_as_the_released_nets() -> None:
    with torch.device("meta"):
        net = segan.paper()
    assert count(net.painter) == 54_420_483
    assert count(net.judge) == 2_769_601
    assert count(net.segmentor.head) == 512 * 6 * 6 * 58**2 + 58**2 == 62_008_612
    resnet_18, fc = 11_689_512, 512 * 1000 + 1000
    assert count(net.segmentor.trunk) == resnet_18 - fc + 7 * 7 * 64
    assert count(net.segmentor) == 73_188_260


def test_a_patch_of_the_judge_is_70_pixels_wide() -> None:
    """By the gradient of one score."""
    torch.manual_seed(0)
    judge = segan.Judge(channels=4).eval()
    coded = torch.rand(1, 3, 256, 256, requires_grad=True)
    scores = judge(coded, torch.rand(1, 3, 256, 256))
    assert scores.shape == (1, 1, 30, 30)
    scores[0, 0, 15, 15].backward()
    assert coded.grad is not None
    seen = coded.grad.abs().sum((0, 1)) > 0
    assert [int(seen.any(axis).sum()) for axis in (0, 1)] == [70, 70]


def test_the_box_segmentor_reads_nothing_outside_its_box() -> None:
    torch.manual_seed(0)
    trunk = nn.ModuleList([nn.Conv2d(4, 5, 4, 4)])
    net = segan.BoxSegmentor(_Last(trunk[0]), 5, cells=3, side=6, enlarge=0.5)
    seen = torch.zeros(1, 1, 32, 32)
    seen[..., 8:20, 12:20] = 1
    out = net(torch.cat([torch.rand(1, 3, 32, 32), seen], 1))
    assert out.shape == (1, 1, 32, 32)
    left, top, right, bottom = segan.enclosing(seen[:, 0] > 0, 0.5)[0].tolist()
    rows, columns = (out[0, 0] > segan.NOWHERE).nonzero().unbind(1)
    assert (rows + 0.5 > top).all()
    assert (rows + 0.5 < bottom).all()
    assert (columns + 0.5 > left).all()
    assert (columns + 0.5 < right).all()
    assert len(rows) == 18 * 12


class _Last(nn.Module):
    """A trunk of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> list[Tensor]:
        return [self.layer(inputs)]


def test_a_fourth_channel_starts_as_a_copy_of_the_first() -> None:
    torch.manual_seed(0)
    before = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
    after = segan.four_channels(before)
    x = torch.rand(2, 4, 16, 16)
    found = after(x)
    expected = before(x[:, :3]) + before(torch.cat([x[:, 3:], 0 * x[:, :2]], 1))
    torch.testing.assert_close(found, expected)
    assert found.shape == (2, 8, 8, 8)


def test_visible_pixels_and_the_ground_stay_as_they_are() -> None:
    torch.manual_seed(0)
    net = segan.tiny()
    images = torch.rand(2, 3, 32, 32)
    full = torch.zeros(2, 32, 32, dtype=torch.bool)
    full[:, 4:20, 4:20] = True
    visible = full.clone()
    visible[:, :10] = False
    coded = segan.encode(images, visible, full)
    painted = net.paint(coded, visible)
    hidden = (full & ~visible)[:, None].expand_as(images)
    assert torch.equal(painted[~hidden], coded[~hidden])
    assert not torch.equal(painted[hidden], coded[hidden])


def test_an_untrained_painter_paints_about_the_visible_colour() -> None:
    torch.manual_seed(0)
    net = segan.tiny()
    with torch.no_grad():
        net.painter.up[-1][1].weight.zero_()
    images = torch.full((2, 3, 32, 32), 0.25)
    images[:, 1] = 0.75
    full = torch.zeros(2, 32, 32, dtype=torch.bool)
    full[:, 4:20, 4:20] = True
    visible = full.clone()
    visible[:, :10] = False
    painted = net.paint(segan.encode(images, visible, full), visible)
    inside = painted.movedim(1, -1)[full]
    torch.testing.assert_close(inside, torch.tensor([0.25, 0.75, 0.25]).expand(512, 3))


def test_the_whole_net_keeps_what_is_seen() -> None:
    torch.manual_seed(0)
    visible = torch.zeros(1, 32, 32, dtype=torch.bool)
    visible[:, 3:9, 5:9] = True
    out = segan.tiny()(torch.rand(1, 3, 32, 32), visible)
    assert out.full[visible].all()
    added = out.full & ~visible
    assert torch.equal(added, segan.decode(out.logits) & ~visible)


def test_who_hides_whom() -> None:
    """A bar in front of a square in front of a disc's row; the bar and the row do not
    meet."""
    full = torch.zeros(3, 8, 12, dtype=torch.bool)
    full[0, 1:7, 1:3] = True
    full[1, 2:6, 1:7] = True
    full[2, 3:5, 4:11] = True
    visible = full.clone()
    visible[1] &= ~full[0]
    visible[2] &= ~(full[0] | full[1])
    in_front = segan.hides(visible, full)
    assert in_front.nonzero().tolist() == [[0, 1], [1, 2]]
    assert not segan.hides(visible, full, least=9).any()
    assert not segan.hides(visible, visible).any(), "nothing is hidden"


def test_a_few_steps_fit_a_few_masks() -> None:
    torch.manual_seed(0)
    net = segan.tiny()
    images = torch.rand(4, 3, 16, 16)
    full = torch.zeros(4, 16, 16, dtype=torch.bool)
    for k in range(4):
        full[k, 2 : 10 + k, 3:12] = True
    visible = full.clone()
    visible[:, :5] = False
    optimizer = torch.optim.Adam(net.segmentor.parameters(), 0.01)
    batch = {"visible": visible, "full": full}
    losses = fit(
        lambda: segan.loss(net.segment(images, visible), batch)["loss"], optimizer, 60
    )
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("game_weight", [0.0, 1.0])
def test_a_few_moves_paint_a_few_objects(game_weight: float) -> None:
    torch.manual_seed(0)
    net = segan.tiny()
    full = torch.zeros(4, 32, 32, dtype=torch.bool)
    full[:, 4:28, 4:28] = True
    visible = full.clone()
    visible[:, 16:] = False
    images = torch.rand(4, 3, 1, 1).expand(-1, -1, 32, 32).clone()
    images[..., 16:, :] *= 0.5
    batch = {
        "coded": segan.encode(images, visible, full),
        "visible": visible,
        "objects": segan.encode(images, full, full),
    }
    adam = partial(torch.optim.Adam, lr=0.002, betas=(0.5, 0.999))
    players = adam(net.painter.parameters()), adam(net.judge.parameters())
    schedules = [ramp(players[0], 60)]
    before = [p.clone() for p in net.judge.parameters()]
    step = segan.adversarial_step(
        net, players, schedules=schedules, game_weight=game_weight
    )
    told = [step(batch) for _ in range(60)]
    assert told[-1]["l1"] < 0.4 * told[0]["l1"]
    learnt = [
        not torch.equal(a, b)
        for a, b in zip(before, net.judge.parameters(), strict=True)
    ]
    assert any(learnt) == bool(game_weight)
    assert ("tell" in told[0]) == bool(game_weight)
    assert all(p.grad is None for p in net.segmentor.parameters())


SIX = torch.zeros(1, 6, 6, dtype=torch.bool)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: segan.regions(SIX, SIX[:, :5]),
        lambda: segan.regions(SIX.int() + 2, SIX),
        lambda: segan.encode(torch.rand(1, 3, 8, 8), SIX, SIX),
        lambda: segan.encode(torch.zeros(0, 3, 6, 6), SIX[:0], SIX[:0]),
        lambda: segan.enclosing(SIX, -0.1),
        lambda: segan.enclosing(SIX, float("nan")),
        lambda: segan.BoxSegmentor(nn.Identity(), 0),
        lambda: segan.BoxSegmentor(nn.Identity(), 4, side=0),
        lambda: segan.Painter(halvings=1),
        lambda: segan.Painter(channels=0),
        lambda: segan.Painter(channels=2, halvings=3)(torch.rand(1, 3, 12, 16)),
        lambda: segan.Painter(channels=2, halvings=3)(torch.rand(1, 4, 16, 16)),
        lambda: segan.Judge(halvings=0),
        lambda: segan.Judge(channels=2)(
            torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
        ),
        lambda: segan.tiny()(torch.rand(1, 3, 32, 32), SIX),
        lambda: segan.tiny()(torch.rand(1, 3, 30, 30), torch.ones(1, 30, 30)),
        lambda: segan.tiny()(torch.zeros(0, 3, 32, 32), torch.ones(0, 32, 32)),
        lambda: segan.loss(torch.rand(1, 1, 6, 6), {"full": SIX}),
        lambda: segan.loss(
            torch.rand(1, 1, 5, 6), {"visible": SIX[:, :5], "full": SIX}
        ),
        lambda: segan.loss(
            torch.rand(1, 1, 6, 6), {"visible": SIX, "full": SIX}, weights=(1, -1, 1)
        ),
        lambda: segan.hides(SIX, SIX[:, :5]),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with unchecked(), pytest.raises(ValueError, match="expected"):
        wrong()
