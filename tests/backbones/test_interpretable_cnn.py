"""Templates and masks by hand, the information and its terms, both gradients, the
metrics on cases computed by hand, and the paper's counts."""

import math
from collections.abc import Callable

import pytest
import torch

from papernets_lite.backbones import interpretable_cnn
from tests.helpers import fit
from tests.papers import images


def one_place(side: int, height: float) -> torch.Tensor:
    """A peak at each cell, then as many silent maps."""
    cells = torch.eye(side**2).double().reshape(-1, side, side)
    return height * torch.cat([cells, torch.zeros_like(cells)])


def test_parameters_by_arithmetic() -> None:
    with torch.device("meta"):
        net = interpretable_cnn.paper()
    pairs, channels = [], 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3), (512, 1)):
        for _ in range(count):
            pairs.append((channels, width))
            channels = width
    convolutions = sum(9 * a * b + b for a, b in pairs)
    head = (49 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 + 1)
    count = sum(p.numel() for p in net.parameters())
    assert count == convolutions + head == 136_624_449


def test_a_template_by_hand() -> None:
    """n = 4 and beta = 4: one less for each step, down to -1."""
    every = interpretable_cnn.positive(4)
    assert len(every) == 16
    expected = [[0, 1, 0, -1], [-1, 0, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, -1]]
    assert every[1].tolist() == expected
    kinds = interpretable_cnn.templates(4)
    assert len(kinds) == 17
    assert kinds[1].max().item() == pytest.approx(0.5 / 16)
    assert (kinds[-1] == -0.5 / 16).all()


@pytest.mark.parametrize("beta", [1.0, 2.0, 4.0, 7.0])
def test_templates_end_where_their_slope_says(beta: float) -> None:
    side = 9
    every = interpretable_cnn.positive(side, beta)
    middle = every[side * 4 + 4]
    rows = (torch.arange(side) - 4).abs()
    steps = rows[:, None] + rows
    assert torch.equal(middle == -1, steps >= 2 * side / beta)
    assert middle[4, 4] == 1


def test_a_mask_keeps_its_peak_and_cuts_what_is_far() -> None:
    torch.manual_seed(0)
    maps = torch.rand(3, 5, 8, 8)
    masked = interpretable_cnn.Mask()(maps)
    assert torch.equal(masked.amax((2, 3)), maps.amax((2, 3)))
    mask = interpretable_cnn.at_peak(maps)
    assert (masked[mask <= 0] == 0).all()
    torch.testing.assert_close(masked[mask > 0], (maps * mask)[mask > 0])


def test_a_mask_is_a_constant_to_the_gradient() -> None:
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 6, 6, requires_grad=True)
    interpretable_cnn.Mask()(maps).sum().backward()
    torch.testing.assert_close(maps.grad, interpretable_cnn.at_peak(maps).clamp(min=0))


@pytest.mark.parametrize("tau", [None, 0.3, 1.0])
def test_information_is_the_sum_of_its_terms(tau: float | None) -> None:
    torch.manual_seed(0)
    maps = 4 * torch.rand(60, 6, 6).double()
    kinds = interpretable_cnn.templates(6, tau=tau)
    terms = interpretable_cnn.entropies(maps, kinds)
    told = interpretable_cnn.mutual_information(maps, kinds)
    rest = terms["prior"] - terms["category"] - terms["place"]
    torch.testing.assert_close(told, rest, rtol=1e-9, atol=1e-12)
    assert terms["prior"].item() == pytest.approx(math.log(37))
    assert min(float(term) for term in terms.values()) >= 0


def test_information_by_the_definition() -> None:
    """Eq. 1 and 2 word for word, in loops."""
    torch.manual_seed(0)
    maps = torch.rand(4, 2, 2).double()
    kinds = interpretable_cnn.templates(2, tau=1.0).double()
    alpha = 4 / 5
    prior = [alpha / 4] * 4 + [1 - alpha]
    fit = [[math.exp(float((x * t).sum())) for x in maps] for t in kinds]
    given = [[one / sum(row) for one in row] for row in fit]
    seen = [
        sum(p * row[k] for p, row in zip(prior, given, strict=True)) for k in range(4)
    ]
    told = 0.0
    for p, row in zip(prior, given, strict=True):
        told += p * sum(g * math.log(g / s) for g, s in zip(row, seen, strict=True))
    assert interpretable_cnn.mutual_information(maps, kinds).item() == pytest.approx(
        told
    )


def test_one_place_tells_more_than_two_or_everywhere() -> None:
    kinds = interpretable_cnn.templates(5, tau=1.0).double()
    once = one_place(5, 6.0)
    twice = torch.cat([(once[:25] + once[:25].flip(0)) / 2, once[25:]])
    spread = torch.cat([torch.full_like(once[:25], 6 / 25), once[25:]])
    told = [
        interpretable_cnn.mutual_information(maps, kinds).item()
        for maps in (once, twice, spread)
    ]
    assert told == sorted(told, reverse=True)
    sharp = interpretable_cnn.mutual_information(one_place(5, 200.0), kinds)
    assert sharp.item() == pytest.approx(math.log(26), rel=0.05)


def test_the_gradient_descends_on_the_loss_and_not_on_its_opposite() -> None:
    kinds = interpretable_cnn.templates(5, tau=1.0).double()
    maps = one_place(5, 3.0).requires_grad_()
    told = -interpretable_cnn.mutual_information(maps, kinds)
    (exact,) = torch.autograd.grad(told, maps)
    chosen = torch.cat([torch.arange(25), torch.full((25,), 25)])
    for only in (None, chosen):
        near = interpretable_cnn.gradient(maps.detach(), kinds, only)
        alike = torch.cosine_similarity(exact.flatten(), near.flatten(), 0)
        assert alike > 0.6


def test_the_gradient_with_constant_partition_functions() -> None:
    """Autograd with each Z_T held fixed gives the sum over all templates exactly."""
    torch.manual_seed(0)
    kinds = interpretable_cnn.templates(4, tau=0.7).double()
    maps = torch.rand(9, 4, 4).double().requires_grad_()
    fit = torch.einsum("tij,mij->tm", kinds, maps)
    given = fit - fit.logsumexp(1, keepdim=True).detach()
    both = given - math.log(17)
    loss = -(both.exp() * (given - both.logsumexp(0))).sum()
    (exact,) = torch.autograd.grad(loss, maps)
    found = interpretable_cnn.gradient(maps.detach(), kinds)
    torch.testing.assert_close(found, exact)


def test_categories_by_hand() -> None:
    labels = torch.tensor([[True, False], [True, True], [False, True]])
    maps = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 2.0]])[..., None, None]
    assert interpretable_cnn.categories(maps, labels).tolist() == [0, 1]


def test_the_released_pull_raises_the_peak_of_its_category_alone() -> None:
    torch.manual_seed(0)
    maps = torch.rand(6, 2, 5, 5)
    fits = torch.tensor([[True, False]] * 3 + [[False, True]] * 3)
    pull = interpretable_cnn.template_pull(maps, fits)
    peak = interpretable_cnn.strongest(maps)
    at = pull.flatten(2).gather(2, peak[..., None])[..., 0]
    assert (at[fits] < 0).all(), "descent raises it"
    assert (pull[~fits] > 0).all(), "and lowers all cells of the others"
    assert torch.equal(pull[~fits].amin((1, 2)), pull[~fits].amax((1, 2)))
    mask = interpretable_cnn.at_peak(maps)
    torch.testing.assert_close(
        pull[fits] / at[fits][:, None, None], mask[fits], rtol=1e-5, atol=1e-6
    )
    means = [at[:3, 0].mean(), at[3:, 1].mean()]
    torch.testing.assert_close(torch.stack(means), -torch.ones(2))


def test_a_better_fit_is_pulled_more() -> None:
    maps = torch.zeros(2, 1, 5, 5)
    maps[0, 0, 2, 2], maps[1, 0, 2, 2] = 9.0, 3.0
    pull = interpretable_cnn.template_pull(maps, torch.ones(2, 1, dtype=torch.bool))
    assert pull[0, 0, 2, 2] < pull[1, 0, 2, 2] < 0


def test_the_filters_loss_has_the_pulls_gradient() -> None:
    torch.manual_seed(0)
    maps = torch.rand(4, 3, 6, 6, requires_grad=True)
    labels = torch.tensor([[True, False], [False, True]] * 2)
    belongs = torch.tensor([0, 1, 1])
    outputs = interpretable_cnn.Outputs(torch.zeros(4, 2), (maps,))
    for pull in interpretable_cnn.PULLS:
        found = interpretable_cnn.loss(
            outputs, {"labels": labels}, pull=pull, weight=0.5, belongs=[belongs]
        )
        (slope,) = torch.autograd.grad(found["loss"], maps)
        wanted = interpretable_cnn.PULLS[pull](maps.detach(), labels[:, belongs])
        torch.testing.assert_close(slope, 0.5 * wanted / (4 * 36))
    assert found["class"].item() == pytest.approx(math.log(2))


def test_without_a_pull_the_loss_is_the_logistic_one() -> None:
    logits = torch.tensor([[2.0, -1.0]])
    found = interpretable_cnn.loss(
        interpretable_cnn.Outputs(logits, ()), {"labels": torch.tensor([[True, True]])}
    )
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert found["loss"].item() == pytest.approx(expected)
    assert found["accuracy"].item() == 0.5
    assert "filters" not in found


def test_spatial_entropy_by_hand() -> None:
    maps = torch.zeros(1, 4, 2, 2)
    maps[0, 0, 0, 0] = 7
    maps[0, 1, 0] = 3
    maps[0, 2] = 0.1
    found = interpretable_cnn.spatial_entropy(maps)[0]
    expected = torch.tensor([0.0, math.log(2), math.log(4)])
    torch.testing.assert_close(found[:3], expected)
    assert found[3].isnan()


def test_deviations_by_hand() -> None:
    """Cells of 4 pixels; a landmark that moves with the peak, and one that stays."""
    maps = torch.zeros(3, 2, 4, 4)
    for k in range(3):
        maps[k, 0, 1, k] = 1 + k
    peaks = torch.tensor([[2.0, 6], [6, 6], [10, 6]])
    still = torch.tensor([2.0, 6]).expand(3, 2)
    found = interpretable_cnn.deviations(
        maps, torch.stack([peaks + 1, still], 1), side=16, top=3
    )
    assert found[0, 0].item() == pytest.approx(0, abs=1e-6)
    assert found[0, 1].item() == pytest.approx(4 / (16 * 2**0.5))
    assert found[1].isnan().all(), "a silent filter is not steady"
    best = interpretable_cnn.deviations(
        maps, torch.stack([still, still], 1), side=16, top=2
    )
    assert best[0, 0].item() == pytest.approx(8**0.5 / (16 * 2**0.5))


def test_a_warm_copy_is_a_copy() -> None:
    torch.manual_seed(0)
    net = interpretable_cnn.tiny(masked=False).eval()
    copy = interpretable_cnn.warm(net, masked=True)
    assert (net.masked, copy.masked) == (False, True)
    x = images(2, 48, 0, net)
    with torch.no_grad():
        assert not torch.equal(net(x), copy(x))
        copy.masked = False
        assert torch.equal(net(x), copy(x))
        copy.added[0].weight.zero_()
        assert not torch.equal(net(x), copy(x))


def test_the_added_layer_reads_masked_maps() -> None:
    torch.manual_seed(0)
    net = interpretable_cnn.tiny().eval()
    with torch.no_grad():
        outputs = interpretable_cnn.observe(net, {"images": images(2, 48, 0, net)})
        top, higher = outputs.maps
        torch.testing.assert_close(net.added(interpretable_cnn.Mask()(top)), higher)
        logits = net.head(interpretable_cnn.Mask()(higher)).flatten(1)
    torch.testing.assert_close(logits, outputs.logits)
    assert top.shape == higher.shape == (2, 32, 12, 12)
    assert top.min() >= 0


def test_a_few_steps_fit_a_few_images() -> None:
    torch.manual_seed(0)
    net = interpretable_cnn.tiny()
    batch = {"images": torch.rand(8, 3, 48, 48)}
    batch["labels"] = torch.rand(8, 4) < 0.5
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.003)
    losses = fit(
        lambda: interpretable_cnn.loss(interpretable_cnn.observe(net, batch), batch)[
            "loss"
        ],
        optimizer,
        40,
    )
    assert losses[-1] < 0.3 * losses[0]


def outputs() -> interpretable_cnn.Outputs:
    return interpretable_cnn.Outputs(torch.zeros(2, 4), (torch.rand(2, 3, 4, 4),))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: interpretable_cnn.positive(0),
        lambda: interpretable_cnn.positive(4, 0.0),
        lambda: interpretable_cnn.positive(4, math.inf),
        lambda: interpretable_cnn.templates(4, tau=-1.0),
        lambda: interpretable_cnn.strongest(torch.rand(2, 3, 4, 5)),
        lambda: interpretable_cnn.strongest(torch.full((1, 1, 2, 2), math.nan)),
        lambda: interpretable_cnn.joint(
            torch.rand(3, 4, 4), interpretable_cnn.templates(5)
        ),
        lambda: interpretable_cnn.joint(
            torch.rand(0, 4, 4), interpretable_cnn.templates(4)
        ),
        lambda: interpretable_cnn.categories(
            torch.rand(2, 3, 4, 4), torch.tensor([[True, False], [True, False]])
        ),
        lambda: interpretable_cnn.categories(
            torch.rand(2, 3, 4, 4), torch.ones(3, 1, dtype=torch.bool)
        ),
        lambda: interpretable_cnn.tiny(side=50),
        lambda: interpretable_cnn.tiny(stages=()),
        lambda: interpretable_cnn.tiny(hidden=0),
        lambda: interpretable_cnn.tiny(num_classes=0),
        lambda: interpretable_cnn.tiny()(torch.rand(1, 3, 40, 40)),
        lambda: interpretable_cnn.tiny()(torch.rand(1, 1, 48, 48)),
        lambda: interpretable_cnn.tiny()(torch.zeros(0, 3, 48, 48)),
        lambda: interpretable_cnn.loss(outputs(), {}),
        lambda: interpretable_cnn.loss(
            outputs(), {"labels": torch.ones(2, 3, dtype=torch.bool)}
        ),
        lambda: interpretable_cnn.loss(
            outputs(), {"labels": torch.ones(2, 4, dtype=torch.bool)}, pull="other"
        ),
        lambda: interpretable_cnn.loss(
            outputs(), {"labels": torch.ones(2, 4, dtype=torch.bool)}, pull="shrink"
        ),
        lambda: interpretable_cnn.deviations(
            torch.rand(3, 1, 4, 4), torch.rand(3, 1, 2), side=16, top=4
        ),
        lambda: interpretable_cnn.deviations(
            torch.rand(3, 1, 4, 4), torch.rand(2, 1, 2), side=16, top=3
        ),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"expected|channels"):
        wrong()
