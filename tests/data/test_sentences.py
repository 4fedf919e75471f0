from collections import Counter
from dataclasses import replace

import pytest
import torch

from papernets_lite.data import sentences, shapes


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def scene() -> shapes.Scene:
    return sentences.scenes(1500, seeded(3))


def test_objects_differ_in_shape_and_colour_and_do_not_hide_each_other(scene):
    for found in sentences.names(scene):
        assert 2 <= len(found) <= 4
        assert (
            len({colour for colour, _ in found})
            == len({shape for _, shape in found})
            == len(found)
        )
    truth = shapes.annotate(scene[:300], 48)
    seen = truth["masks"].sum((2, 3)) / truth["areas"]
    assert seen[truth["valid"]].min() > 0.7
    assert (seen[truth["valid"]] == 1).float().mean() > 0.98


def test_the_new_options_change_nothing_else_of_a_scene():
    settings = {
        "objects": (2, 4),
        "classes": sentences.SHAPES,
        "colours": sentences.COLOURS,
    }
    plain = shapes.sample(20, seeded(), **settings)
    special = shapes.sample(20, seeded(), **settings, distinct=True, apart=True)
    for name, values in vars(plain).items():
        if name not in ("labels", "colours", "centres"):
            assert torch.equal(values, getattr(special, name)), name
    assert (special.radii[..., None] <= special.centres + 1e-6).all()
    assert (special.centres <= 1 - special.radii[..., None] + 1e-6).all()


def test_too_few_names_for_distinct_objects_are_refused():
    for wrong in ({"colours": ["red"]}, {"held_out": [("star", "red")]}):
        with pytest.raises(ValueError, match="expected 4 classes and colours"):
            shapes.sample(2, seeded(), distinct=True, **wrong)


def test_every_shape_and_colour_is_equally_frequent(scene):
    drawn = torch.cat([x[scene.valid][:, None] for x in sentences.factors(scene)], 1)
    for column in drawn.T:
        share = column.bincount(minlength=6) / len(column)
        assert (share - 1 / 6).abs().max() < 0.02


def test_words_and_tokens_are_inverse():
    text = ["a red circle and a blue star", "is the star red", ""]
    tokens = sentences.encode(text, 8)
    assert tokens.shape == (3, 8)
    assert tokens[0].tolist() == [sentences.WORDS.index(w) for w in text[0].split()] + [
        sentences.PAD
    ]
    assert sentences.decode(tokens) == text
    assert len(set(sentences.WORDS)) == len(sentences.WORDS)
    assert sentences.WORDS[: sentences.END + 1] == ("<pad>", "<start>", "<end>")
    # What follows the end is not read.
    ended = sentences.encode(["a star <end> and a heart"], 8)
    assert sentences.decode(ended) == ["a star"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: sentences.encode(["a pink star"], 5), "pink"),
        (lambda: sentences.encode(["a red star"], 2), "at most 2 words"),
        (
            lambda: sentences.decode(torch.tensor([[len(sentences.WORDS)]])),
            "expected tokens",
        ),
        (
            lambda: sentences.questions(
                sentences.scenes(2, seeded()), seeded(), kinds=["why"]
            ),
            "expected each",
        ),
        (
            lambda: sentences.questions(
                sentences.scenes(2, seeded()), seeded(), each=0
            ),
            "expected each",
        ),
        (
            lambda: sentences.questions(
                sentences.scenes(2, seeded(), objects=(1, 1)), seeded()
            ),
            "at least two",
        ),
    ],
)
def test_bad_requests_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_a_caption_by_hand():
    scene = sentences.scenes(1, seeded(), objects=(3, 3))
    labels = torch.tensor(
        [[shapes.CLASSES.index(x) for x in ("star", "circle", "heart")]]
    )
    colours = torch.tensor(
        [[shapes.COLOURS.index(x) for x in ("white", "red", "blue")]]
    )
    found = sentences.captions(replace(scene, labels=labels, colours=colours))
    assert found.text == ["a red circle and a blue heart and a white star"]
    assert found.objects.tolist() == [
        [1, 1, 1, -1, 2, 2, 2, -1, 0, 0, 0, -1, -1, -1, -1, -1]
    ]
    assert found.tokens[0, 11] == sentences.END
    assert (found.tokens[0, 12:] == sentences.PAD).all()
    assert sentences.decode(found.tokens) == found.text


def test_captions_state_exactly_what_is_there(scene):
    found = sentences.captions(scene)
    for sentence, tokens, true in zip(
        found.text, found.tokens, sentences.names(scene), strict=True
    ):
        assert sentences.pairs(sentence) == set(true)
        assert sentences.decode(tokens[None]) == [sentence]
    assert (found.tokens == sentences.END).sum(1).eq(1).all()


def test_pairs_need_colour_and_shape_side_by_side():
    assert sentences.pairs("a red and a star") == set()
    assert sentences.pairs("a red red star star") == {("red", "star")}


def test_f1_by_hand():
    found = ["a red star and a blue heart", "a red heart", "", "a red star"]
    true = [
        "a red star and a green heart and a blue cross",
        "a red star",
        "a red star",
        "a red star",
    ]
    scores = sentences.f1(*(sentences.encode(text, 16) for text in (found, true)))
    assert scores.tolist() == pytest.approx([2 / 5, 0, 0, 1])


def test_answers_are_true(scene):
    asked = sentences.questions(scene, seeded(1), each=2)
    everything = sentences.names(scene)
    assert asked.images.tolist() == [k for k in range(len(scene)) for _ in range(2)]
    text = sentences.decode(asked.tokens)
    for sentence, answer, image, kind, about in zip(
        text, *(x.tolist() for x in list(vars(asked).values())[1:]), strict=True
    ):
        found, reply, words = (
            everything[image],
            sentences.ANSWERS[answer],
            sentence.split(),
        )
        if sentences.KINDS[kind] == "colour":
            assert found[about] == (reply, words[-1])
        elif sentences.KINDS[kind] == "shape":
            assert found[about] == (words[-2], reply)
        elif sentences.KINDS[kind] == "check":
            assert found[about][1] == words[2]
            assert (reply == "yes") == ((words[3], words[2]) in found)
            assert words[3] in {colour for colour, _ in found}, (
                "the wrong colour is in the picture"
            )
        else:
            assert (about, reply) == (-1, sentences.COUNTS[len(found) - 2])


def test_answers_of_each_kind_are_balanced_also_for_a_given_question(scene):
    asked = sentences.questions(scene, seeded(2), each=8)
    assert (asked.kinds.bincount() / len(asked) - 0.25).abs().max() < 0.02
    text = sentences.decode(asked.tokens)
    for kind, replies in enumerate((6, 6, 2, 3)):
        here = (asked.kinds == kind).nonzero()[:, 0].tolist()
        share = asked.answers[here].bincount().float()
        share = share[share > 0] / len(here)
        assert len(share) == replies
        assert (share - 1 / replies).abs().max() < 0.04
        # The best that can be done without the picture: the most frequent answer of
        # each question.
        table: dict[str, Counter] = {}
        for k in here:
            table.setdefault(text[k], Counter())[int(asked.answers[k])] += 1
        blind = sum(counts.most_common(1)[0][1] for counts in table.values()) / len(
            here
        )
        assert blind < 1 / replies + 0.08


def test_same_seed_same_sentences_whatever_the_number():
    few, many = (sentences.scenes(n, seeded(5)) for n in (5, 40))
    assert sentences.captions(few).text == sentences.captions(many).text[:5]
    some, more = (
        sentences.questions(scene, seeded(6), each=3) for scene in (few, many)
    )
    assert torch.equal(some.tokens, more.tokens[:15])
    assert torch.equal(some.answers, more.answers[:15])
    other = sentences.questions(few, seeded(7), each=3)
    assert not torch.equal(some.tokens, other.tokens)
