"""The dynamic filter and the loss by hand, padding that changes nothing, bilinear
enlarging, counts at the paper's scale, and what is refused."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.video import actor_action
from tests.helpers import fit
from tests.unchecked import unchecked


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def words(*sentences: Sequence[int]) -> Tensor:
    return torch.tensor(sentences)


def test_i3d_has_its_published_parameters() -> None:
    """12,697,264 with 400 classes: the trunk, two more blocks and the classifier."""
    with torch.device("meta"):
        whole = actor_action.Trunk((*actor_action.I3D, *actor_action.I3D_END))
        classes = nn.Conv3d(whole.channels, 400, 1)
    assert count(whole) + count(classes) == 12_697_264


def test_the_papers_sizes() -> None:
    """832 features at stride 16 and a quarter of the frames; filters of 834, 256 and
    128 numbers; responses of 32, 128 and 512 places a side."""
    with torch.device("meta"):
        net = actor_action.paper()
        films = torch.empty(1, 16, 3, 512, 512)
        maps = net.maps(films)
    assert (net.trunk.channels, net.trunk.stride) == (832, 16)
    assert net.trunk.frames(16) == 4
    assert [m.shape[1:] for m in maps] == [
        (834, 32, 32),
        (256, 128, 128),
        (128, 512, 512),
    ]
    assert [count(head) for head in net.heads] == [n * 301 for n in (834, 256, 128)]
    up = 834 * 256 * 64 + 256 + 9 * 256 * 256 + 256
    up += 256 * 128 * 64 + 128 + 9 * 128 * 128 + 128
    pairs = 2 * 300 * 300 + 300
    assert count(net.ups) == up == 16_499_456
    assert count(net.text) == pairs, "word vectors are frozen"
    assert net.text.words.shape == (1226, 300)


def test_the_trunk_knows_how_many_frames_are_left() -> None:
    for plan in (actor_action.I3D, actor_action.tiny().trunk.plan):
        trunk = actor_action.Trunk(plan).eval()
        for frames in (5, 8, 9):
            made = trunk(torch.rand(1, 3, frames, 32, 32))
            assert made.shape[1:3] == (trunk.channels, trunk.frames(frames))


def test_a_dynamic_filter_is_a_convolution_of_each_sentences_own() -> None:
    torch.manual_seed(0)
    head = actor_action.Filter(6, 5)
    maps, said = torch.randn(3, 6, 4, 7), torch.randn(3, 2, 5)
    filters = torch.tanh(said @ head.make.weight.T + head.make.bias)
    by_group = functional.conv2d(
        maps.reshape(1, 18, 4, 7), filters.reshape(6, 6, 1, 1), groups=3
    )
    found = head(maps, said)
    torch.testing.assert_close(found, by_group.view(3, 2, 4, 7))


def test_a_filter_by_hand() -> None:
    head = actor_action.Filter(2, 1)
    with torch.no_grad():
        head.make.weight.copy_(torch.tensor([[1.0], [-50]]))
        head.make.bias.zero_()
    maps = torch.tensor([[3.0, 0], [1, 2]]).view(1, 2, 1, 2)
    found = head(maps, torch.ones(1, 1, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor([3 * 0.761594 - 1, -2.0]))


def test_beside_equals_a_convolution_of_what_is_laid_side_by_side() -> None:
    torch.manual_seed(0)
    head = actor_action.Beside(6, 5)
    maps, said = torch.randn(3, 6, 4, 7), torch.randn(3, 1, 5)
    spread = said[:, 0, :, None, None].expand(-1, -1, 4, 7)
    weight = torch.cat([head.seen.weight, head.said.weight[..., None, None]], 1)
    hidden = functional.conv2d(torch.cat([maps, spread], 1), weight, head.seen.bias)
    score = head.score.weight[..., None, None]
    expected = functional.conv2d(hidden.relu(), score, head.score.bias)
    torch.testing.assert_close(head(maps, said), expected)


def test_beside_has_as_many_parameters_as_the_filter() -> None:
    for channels, text in ((66, 64), (24, 64), (834, 300), (128, 300)):
        dynamic = count(actor_action.Filter(channels, text))
        beside = count(actor_action.Beside(channels, text))
        assert abs(beside - dynamic) < channels + text + 2, "one hidden unit"


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    text = actor_action.Sentence(num_words=9, dim=4, channels=50).eval()
    short = text(words([3, 5]))
    torch.testing.assert_close(text(words([3, 5, 0, 0, 0])), short)
    torch.testing.assert_close(
        text(words([3, 5, 0], [3, 5, 7]))[:1], short, msg="nor a longer neighbour"
    )
    assert text(words([4])).shape == (1, 50), "one word is enough"
    assert not torch.allclose(text(words([5, 3])), short), "pairs know their order"


def test_a_sentence_by_hand() -> None:
    """One channel that answers to word 1 before word 2."""
    text = actor_action.Sentence(num_words=3, dim=2, channels=1)
    with torch.no_grad():
        text.words.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 1]]))
        text.pairs.weight.zero_()
        text.pairs.weight[0, 0, 0] = 1
        text.pairs.weight[0, 1, 1] = 2
        text.pairs.bias.fill_(0.5)
    found = text(words([1, 2, 1], [2, 1, 0], [2, 2, 2]))
    assert found[:, 0].tolist() == [3.5, 1.5, 2.5]


def test_coordinates_run_from_the_top_left_to_the_bottom_right() -> None:
    maps = actor_action.locate(torch.zeros(2, 1, 2, 3))
    assert maps[1, 1].tolist() == [[-1, 0, 1], [-1, 0, 1]]
    assert maps[1, 2].tolist() == [[-1, -1, -1], [1, 1, 1]]


def test_features_have_the_length_of_the_gain_everywhere() -> None:
    torch.manual_seed(0)
    net = actor_action.tiny(gain=3.0).eval()
    coarse = net.maps(torch.rand(2, 5, 3, 32, 32))[0]
    torch.testing.assert_close(
        coarse[:, :-2].norm(dim=1), torch.full((2, 8, 8), 3.0), rtol=1e-4, atol=1e-4
    )


def test_the_decoder_starts_as_bilinear_enlarging() -> None:
    torch.manual_seed(0)
    up = actor_action.enlarge(3, 2)[0]
    with torch.no_grad():
        up.bias.zero_()
        maps = torch.rand(1, 3, 6, 5)
        mix = up.weight[..., 3, 3] / 0.875**2
        mixed = torch.einsum("bchw,co->bohw", maps, mix)
        expected = functional.interpolate(mixed, scale_factor=4, mode="bilinear")
        found = up(maps)
    assert found.shape == (1, 2, 24, 20)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inside], expected[inside])


def test_the_loss_is_binary_cross_entropy() -> None:
    torch.manual_seed(0)
    masks = torch.rand(2, 3, 8, 8) > 0.5
    outputs = [torch.randn(2, 3, 2, 2), 5 * torch.randn(2, 3, 8, 8)]
    found = actor_action.loss(outputs, {"masks": masks})
    logistic = functional.binary_cross_entropy_with_logits
    fine = logistic(outputs[1], masks.float())
    shares = masks.float().view(2, 3, 2, 4, 2, 4).mean((3, 5))
    coarse = logistic(outputs[0], (shares >= 0.5).float())
    torch.testing.assert_close(found["at_8"], fine)
    torch.testing.assert_close(found["at_2"], coarse)
    torch.testing.assert_close(found["loss"], fine + coarse)
    alone = actor_action.loss(outputs, {"masks": masks}, weights=(0, 1))
    torch.testing.assert_close(alone["loss"], fine)


def test_the_loss_by_hand() -> None:
    """log(1 + exp(-S Y)) of S = 2 inside and outside."""
    outputs = [torch.full((1, 1, 1, 2), 2.0)]
    masks = torch.tensor([True, False]).view(1, 1, 1, 2)
    found = actor_action.loss(outputs, {"masks": masks})["loss"].item()
    assert found == pytest.approx((0.126928 + 2.126928) / 2, abs=1e-6)


def test_half_a_cell_is_object() -> None:
    masks = torch.zeros(1, 1, 4, 4)
    masks[0, 0, :2, 1] = 1  # half of the first cell
    masks[0, 0, 0, 2] = 1  # a quarter of the second
    assert actor_action.targets(masks, (2, 2)).tolist() == [[[[1, -1], [-1, -1]]]]


def test_decode_takes_the_finest() -> None:
    outputs = [torch.ones(1, 1, 1, 1), torch.tensor([-1.0, 0, 0.5]).view(1, 1, 1, 3)]
    assert actor_action.decode(outputs).flatten().tolist() == [False, False, True]
    low = actor_action.decode(outputs, threshold=-0.5)
    assert low.flatten().tolist() == [False, True, True]


def test_sentences_are_answered_one_by_one() -> None:
    torch.manual_seed(0)
    net = actor_action.tiny().eval()
    films, tokens = torch.rand(2, 5, 3, 32, 32), words([3, 4, 5], [6, 7, 0])
    both = net(films, tokens.expand(2, -1, -1))
    for k in range(2):
        alone = net(films, tokens[k].expand(2, 1, -1))
        for many, one in zip(both, alone, strict=True):
            torch.testing.assert_close(many[:, k : k + 1], one)


@pytest.mark.parametrize("head", [actor_action.Filter, actor_action.Beside])
def test_a_few_steps_fit_a_few_films(head: Callable[[int, int], nn.Module]) -> None:
    """Two films in which one sentence means the left half, the other the right."""
    torch.manual_seed(0)
    net = actor_action.tiny(head=head)
    films = torch.rand(2, 5, 3, 32, 32)
    tokens = words([3, 4], [5, 6]).expand(2, -1, -1)
    masks = torch.zeros(2, 2, 32, 32, dtype=torch.bool)
    masks[:, 0, :, :16] = True
    masks[:, 1, :, 16:] = True

    def value() -> Tensor:
        return actor_action.loss(net(films, tokens), {"masks": masks})["loss"]

    values = fit(value, torch.optim.Adam(net.parameters(), 5e-3), 60)
    assert values[-1] < 0.3 * values[0]
    right = actor_action.decode(net(films, tokens)) == masks
    assert right.float().mean() > 0.95


def ask(*size: int, words: int = 1, films: int = 1) -> Callable[[], object]:
    tokens = torch.full((films, 1, 2), words)
    return lambda: actor_action.tiny()(torch.rand(size), tokens)


RESPONSES = [torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 8, 8)]
MASKS = {"masks": torch.zeros(1, 1, 8, 8)}


@pytest.mark.parametrize(
    "wrong",
    [
        ask(1, 4, 3, 32, 32),
        ask(1, 3, 32, 32),
        ask(1, 5, 1, 32, 32),
        ask(1, 5, 3, 32, 30),
        ask(0, 5, 3, 32, 32, films=0),
        ask(2, 5, 3, 32, 32),
        ask(1, 5, 3, 32, 32, words=15),
        ask(1, 5, 3, 32, 32, words=0),
        lambda: actor_action.tiny()(
            torch.rand(1, 5, 3, 32, 32), torch.ones(1, 0, 2).long()
        ),
        lambda: actor_action.tiny()(torch.rand(1, 5, 3, 32, 32), torch.ones(1, 1, 2)),
        lambda: actor_action.tiny()(
            torch.rand(1, 5, 3, 32, 32).double(), torch.ones(1, 1, 2).long()
        ),
        lambda: actor_action.tiny(plan=()),
        lambda: actor_action.tiny(gain=0.0),
        lambda: actor_action.tiny(gain=float("nan")),
        lambda: actor_action.tiny(widths=(0,)),
        lambda: actor_action.tiny(num_words=0),
        lambda: actor_action.loss(RESPONSES, {}),
        lambda: actor_action.loss(RESPONSES, {"masks": torch.zeros(1, 2, 8, 8)}),
        lambda: actor_action.loss(RESPONSES, {"masks": MASKS["masks"] + 0.5}),
        lambda: actor_action.loss(RESPONSES, MASKS, weights=(1.0,)),
        lambda: actor_action.targets(torch.zeros(1, 8, 8), (2, 2)),
        lambda: actor_action.decode([torch.full((1, 1, 2, 2), float("nan"))]),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with unchecked(), pytest.raises(ValueError, match="expected"):
        wrong()


def test_masks_of_any_kind_of_number_give_the_same_loss() -> None:
    masks = torch.rand(1, 1, 8, 8) > 0.5
    score = partial(actor_action.loss, RESPONSES)
    found = [score({"masks": masks.to(kind)}) for kind in (torch.bool, torch.uint8)]
    assert found[0]["loss"] == found[1]["loss"]
