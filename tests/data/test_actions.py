"""The clips do what their numbers say."""

import pytest
import torch

from papernets_lite.data import actions


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_seed_same_clips_whatever_their_number() -> None:
    one, other = actions.sample(9, seeded()), actions.sample(4, seeded())
    for name, values in actions.annotate(other, 24).items():
        assert torch.equal(actions.annotate(one, 24)[name][:4], values), name
    assert torch.equal(actions.render(one, 24)[:4], actions.render(other, 24))
    assert torch.equal(actions.render(one[:4], 24), actions.render(other, 24))
    second = actions.sample(4, seeded(1))
    assert not torch.equal(second.film.centres, other.film.centres)


def test_every_action_occurs_about_as_often() -> None:
    clips = actions.sample(1600, seeded())
    number = clips.colours * 8 + clips.ways * 2 + clips.tempos
    counts = torch.bincount(number, minlength=16)
    assert len(actions.ACTIONS) == 16
    assert counts.min() > 60
    assert actions.ACTIONS[11] == "red, up and down, fast"


def test_shapes_ranges_and_numbers() -> None:
    clips = actions.sample(40, seeded())
    truth = actions.annotate(clips, 24)
    assert truth["flow"].shape == (40, actions.FLOWS, 2, 24, 24)
    assert truth["flow"].norm(dim=2).max() <= 1.1
    again = truth["colours"] * 8 + truth["ways"] * 2 + truth["tempos"]
    assert torch.equal(truth["actions"], again)
    pictures = actions.render(clips, 24)
    assert pictures.shape == (40, 3, 24, 24)
    assert pictures.min() >= 0
    assert pictures.max() <= 1


def test_ways_move_as_they_are_called() -> None:
    clips = actions.sample(200, seeded())
    centre = clips.film.centres[:, :, 0]
    spread = centre.amax(1) - centre.amin(1)
    radius = clips.film.radii[..., 0]
    swell = radius.amax(1) - radius.amin(1)
    for way, moves in enumerate(((1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1))):
        those = clips.ways == way
        sizes = torch.stack([*spread[those].T, swell[those]])
        for found, does in zip(sizes, moves, strict=True):
            assert (found > 0.02).all() if does else (found < 1e-6).all(), way
    # round: a circle
    turning = centre[clips.ways == 2]
    middle = turning[:, :-1].mean(1, keepdim=True)
    reach = (turning - middle).norm(dim=2)
    assert (reach.amax(1) - reach.amin(1)).max() < 1e-5


def test_a_tempo_is_its_turns_a_frame_and_no_longer_step() -> None:
    clips = actions.sample(300, seeded())
    across = clips.ways == 0
    x = clips.film.centres[across, :-1, 0, 0]
    strongest = torch.fft.rfft(x - x.mean(1, keepdim=True), dim=1).abs().argmax(1)
    expected = torch.tensor([1, 3])[clips.tempos[across]]
    assert torch.equal(strongest, expected)
    steps = clips.film.centres.diff(dim=1).norm(dim=-1)[..., 0].amax(1)
    longest = [steps[(clips.tempos == k) & (clips.ways == 2)] for k in (0, 1)]
    for found in longest:
        assert found.min() >= actions.REACH[0] - 1e-5
        assert found.max() <= actions.REACH[1] + 1e-5
    assert (longest[0].mean() - longest[1].mean()).abs() < 0.01


def test_the_picture_tells_the_colour_and_the_flow_does_not() -> None:
    clips = actions.sample(60, seeded())
    pictures, flow = actions.render(clips, 24), actions.annotate(clips, 24)["flow"]
    inside = flow.norm(dim=2).amax(1) > 0.05
    redder = pictures[:, 0] - pictures[:, 2]
    shares = torch.stack([r[m].mean() for r, m in zip(redder, inside, strict=True)])
    assert shares[clips.colours == 1].mean() > shares[clips.colours == 0].mean() + 0.2


def test_tints_by_hand() -> None:
    flow = torch.tensor([[1.0, 0.0, 0.5, -9.0], [0.0, 0.0, 0.0, 0.0]])[:, None]
    found = actions.tints(flow)[:, 0]
    expected = [[1, 0.25, 0.25], [1, 1, 1], [1, 0.625, 0.625], [0, 0.75, 0.75]]
    torch.testing.assert_close(found.T, torch.tensor(expected))
    disc = actions.wheel(24)
    assert disc.shape == (3, 24, 24)
    assert (disc[:, 0, 0] == 1).all()


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        actions.sample(0, seeded())
    with pytest.raises(ValueError, match="expected"):
        actions.render(actions.sample(2, seeded()), 8)
