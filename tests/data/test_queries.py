from collections import Counter

import pytest
import torch

from papernets_lite.data import canvas, queries

PAIRS = tuple(zip(queries.COLOURS, queries.ACTIONS, strict=True))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def play() -> queries.Play:
    return queries.sample(400, seeded())


def test_twins_look_alike_and_move_apart(play):
    target, twin, other = range(3)  # places in a film
    for looks in (play.colours, play.shapes):
        assert (looks[:, target] == looks[:, twin]).all()
    assert (play.actions[:, target] != play.actions[:, twin]).all()
    assert (play.actions[:, target] == play.actions[:, other]).all()
    assert (play.colours[:, target] != play.colours[:, other]).all()


def test_no_sentence_names_two_objects(play):
    for film in queries.sentences(play):
        assert len(set(film)) == 3


def test_colours_and_actions_are_equally_frequent(play):
    for factor in (play.colours, play.shapes, play.actions):
        share = factor[:, 0].bincount(minlength=4) / len(factor)
        assert (share - 0.25).abs().max() < 0.08


def test_objects_move_as_their_sentences_say(play):
    step = play.film.centres.diff(dim=1)
    expected = 0.08 * torch.tensor(queries.WAYS)[play.actions]
    torch.testing.assert_close(step, expected[:, None].expand_as(step))
    still = queries.sample(2, seeded(), speed=0.0)
    assert not still.film.centres.diff(dim=1).any()


def test_the_middle_frame_does_not_know_the_motion(play):
    """Places are those that ``shapes`` drew, before any action was."""
    middle = play.film.centres[:, 2]
    torch.testing.assert_close(middle, play.film.scene.centres)
    for axis in range(2):
        means = [middle[play.actions == k][:, axis].mean() for k in range(4)]
        assert max(means) - min(means) < 0.04


def test_film_i_does_not_depend_on_how_many_follow(play):
    few = queries.sample(3, seeded())
    for name in ("colours", "shapes", "actions"):
        assert torch.equal(getattr(few, name), getattr(play, name)[:3])
    assert torch.equal(few.film.centres, play.film.centres[:3])


def test_masks_lie_on_the_middle_frame_of_the_right_colour(play):
    some = play[:20]
    truth = queries.annotate(some, 64)
    frames = queries.render(some, 64)
    assert frames.shape == (20, 5, 3, 64, 64)
    assert truth["masks"].shape == (20, 3, 64, 64)
    palette = torch.tensor([canvas.PALETTE[name] for name in queries.COLOURS]) / 255
    for i in range(20):
        for k in range(3):
            seen = frames[i, 2][:, truth["masks"][i, k]].mean(1)
            near = (palette - seen).norm(dim=1).argmin()
            assert near == some.colours[i, k]


def test_tokens_are_the_sentences(play):
    truth = queries.annotate(play[:5], 32)
    for film, tokens in zip(queries.sentences(play[:5]), truth["tokens"], strict=True):
        for text, row in zip(film, tokens.tolist(), strict=True):
            assert [queries.WORDS[k] for k in row if k] == text.split()
    assert queries.sentence("red", "star", "rising") == "a red star rising"
    assert len(queries.encode(["a red star moving left"])[0]) == queries.LENGTH


def test_held_out_pairs_never_occur_or_alone():
    rest = queries.sample(300, seeded(1), held_out=PAIRS)
    assert not (rest.colours == rest.actions).any()
    alone = queries.sample(300, seeded(2), held_out=PAIRS, only=True)
    unsaid = alone.colours == alone.actions
    assert unsaid[:, 0].all()
    assert not unsaid[:, 1:].any()
    assert len(Counter(alone.colours[:, 0].tolist())) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: queries.sample(0, seeded()),
        lambda: queries.sample(2, seeded(), frames=4),
        lambda: queries.sample(2, seeded(), frames=0),
        lambda: queries.sample(2, seeded(), speed=-0.1),
        lambda: queries.sample(2, seeded(), held_out=[("pink", "rising")]),
        lambda: queries.sample(2, seeded(), held_out=[("red", "turning")]),
        lambda: queries.sample(2, seeded(), only=True),
        lambda: queries.sample(2, seeded(), radius=(0.3, 0.2)),
        lambda: queries.encode("a red star"),
        lambda: queries.encode(["a pink star"]),
        lambda: queries.encode(["a red star moving left left"]),
        lambda: queries.encode(["<pad>"]),
    ],
)
def test_what_cannot_be_drawn_or_said_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        wrong()
