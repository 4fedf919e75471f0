"""One step against the formulas written out, masks, beam search against all sentences,
the score-function gradient."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from papernets_lite.language import bottom_up_top_down as updown
from papernets_lite.ops.labels import NOTHING
from papernets_lite.ops.regions import windows
from papernets_lite.ops.tokens import END, PAD, START
from tests.unchecked import unchecked


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def captioner(words: int = 7, **changes) -> updown.Captioner:
    torch.manual_seed(0)
    sizes = {"num_words": words, "channels": 5, "embed": 4, "hidden": 6, "attention": 3}
    return updown.Captioner(**(sizes | changes)).double()


def pictures(count: int = 2) -> tuple[Tensor, Tensor]:
    """Four regions each, of which the last picture lacks one."""
    regions = torch.randn(
        count, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    valid = torch.ones(count, 4, dtype=torch.bool)
    valid[-1, 2] = False
    return regions, valid


def test_parameters_at_the_papers_scale():
    with torch.device("meta"):
        net = updown.paper()
    # words, embedding, LSTMs, attention, region vector
    v, e, m, a, d = 10_010, 1000, 1000, 512, 2048
    embedding = v * e
    first = 4 * m * ((m + d + e) + m) + 4 * m
    second = 4 * m * ((d + m) + m) + 4 * m
    attention = a * d + a * m + a
    output = v * m + v
    assert [embedding, first, second, attention, output] == [
        10_010_000,
        20_196_000,
        16_196_000,
        1_561_088,
        10_020_010,
    ]
    assert (
        embedding + first + second + attention + output
        == 57_983_098
        == count(net.captioner)
    )

    def gated(i: int, o: int) -> int:
        return 2 * (i + 1) * o

    gru = 3 * 512 * (300 + 512) + 6 * 512  # torch's GRU has two biases
    answerer = (
        v * 300
        + gru
        + gated(d + 512, 512)
        + 512
        + gated(512, 512)
        + gated(d, 512)
        + gated(512, 512)
        + 3129 * 513
    )
    assert count(net.answerer) == answerer
    features = net.features
    assert count(features.objects) == 1601 * 2049
    assert count(features.attributes) == (2048 + 256 + 1) * 512 + 513 * 401
    assert (
        count(features.trunk) + count(features.tail) == 44_549_160 - 1000 * 2049
    )  # ResNet-101 without its classifier


def test_papers_features_have_2048_numbers_each():
    with torch.device("meta"):
        net = updown.paper().features
        assert net.tail(net.trunk(torch.empty(1, 3, 64, 64))).shape[1] == 2048
        assert net.trunk(torch.empty(1, 3, 64, 96)).shape == (1, 1024, 4, 6)


def test_an_lstm_step_by_the_formula_and_by_torch():
    torch.manual_seed(0)
    cell = updown.LSTMCell(3, 2)
    x, h, c = torch.randn(4, 3), torch.randn(4, 2), torch.randn(4, 2)
    found = cell(x, h, c)
    w, b = cell.gates.weight, cell.gates.bias
    i, f, g, o = (torch.cat([x, h], 1) @ w.T + b).split(2, 1)
    memory = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    torch.testing.assert_close(found, (torch.sigmoid(o) * torch.tanh(memory), memory))
    theirs = nn.LSTMCell(3, 2)
    theirs.load_state_dict(
        {
            "weight_ih": w[:, :3],
            "weight_hh": w[:, 3:],
            "bias_ih": b,
            "bias_hh": torch.zeros(8),
        }
    )
    torch.testing.assert_close(found, theirs(x, (h, c)))


def test_the_forget_gate_starts_open():
    bias = updown.LSTMCell(3, 2).gates.bias
    assert bias.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_a_captioners_step_is_the_papers_equations():
    net = captioner()
    regions, valid = pictures()
    state = net.start(regions, valid)
    state = replace(
        state, **{k: torch.randn_like(state.h1) for k in ("h1", "c1", "h2", "c2")}
    )
    tokens = torch.tensor([3, 5])
    logits, weights, after = net.step(tokens, state)
    for row in range(2):
        there = regions[row][valid[row]]
        x1 = torch.cat(
            [state.h2[row], there.mean(0), net.embedding.weight[tokens[row]]]
        )
        h1, c1 = net.first(x1[None], state.h1[row : row + 1], state.c1[row : row + 1])
        a = torch.stack(
            [
                net.score.weight[0]
                @ torch.tanh(net.key.weight @ v + net.query.weight @ h1[0])
                for v in there
            ]
        )
        alpha = a.exp() / a.exp().sum()
        seen = sum(weight * v for weight, v in zip(alpha, there, strict=True))
        h2, c2 = net.second(
            torch.cat([seen, h1[0]])[None],
            state.h2[row : row + 1],
            state.c2[row : row + 1],
        )
        torch.testing.assert_close(weights[row][valid[row]], alpha)
        torch.testing.assert_close(logits[row], net.word.weight @ h2[0] + net.word.bias)
        for name, value in (("h1", h1), ("c1", c1), ("h2", h2), ("c2", c2)):
            torch.testing.assert_close(getattr(after, name)[row], value[0])
    assert weights[1, 2] == 0


@pytest.mark.parametrize("top_down", [True, False])
def test_padding_and_order_of_the_regions_do_not_matter(top_down: bool):
    torch.manual_seed(0)
    speak = captioner(top_down=top_down)
    answer = updown.Answerer(
        num_words=7, num_answers=3, channels=5, embed=4, hidden=6, top_down=top_down
    ).double()
    regions, valid = pictures()
    order = torch.tensor([2, 0, 3, 1])
    dirty = regions.masked_fill(~valid[..., None], 1e3)
    words = torch.tensor([[3, 4, 2], [5, 2, 0]])
    for net in (speak, answer):
        found, weights = net(regions, words, valid)
        other, moved = net(dirty[:, order], words, valid[:, order])
        torch.testing.assert_close(found, other)
        torch.testing.assert_close(weights[..., order], moved)
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
        if not top_down:
            torch.testing.assert_close(
                weights[0].flatten(), torch.full_like(weights[0].flatten(), 0.25)
            )


def test_masked_softmax_by_hand():
    weights = updown.softmax(
        torch.tensor([[0.0, 5.0, 3.0**0.5]]), torch.tensor([[True, False, True]])
    )
    e = torch.tensor(3.0**0.5).exp().item()
    assert weights[0].tolist() == pytest.approx([1 / (1 + e), 0, e / (1 + e)])


def test_teacher_forcing_shows_each_step_the_true_words_before_it():
    net, (regions, valid) = captioner(), pictures()
    first, second = (
        torch.tensor([[3, 4, 2], [5, 6, 2]]),
        torch.tensor([[3, 5, 2], [5, 6, 2]]),
    )
    a, b = (net(regions, tokens, valid)[0] for tokens in (first, second))
    assert torch.equal(a[:, :2], b[:, :2])
    assert not torch.equal(a[0, 2], b[0, 2])
    assert torch.equal(a[1], b[1])
    state = net.start(regions, valid)
    logits, _, state = net.step(torch.full((2,), START), state)
    torch.testing.assert_close(a[:, 0], logits)
    torch.testing.assert_close(a[:, 1], net.step(first[:, 0], state)[0])


def test_loss_of_words_does_not_count_padding():
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 3] = torch.tensor(3.0).log()
    said = updown.Attended(logits, torch.ones(1, 3, 1))
    found = updown.loss(said, {"tokens": torch.tensor([[3, END, PAD]])})
    assert found["loss"].item() == pytest.approx(
        (torch.tensor(2.0).log() + torch.tensor(4.0).log()).item() / 2
    )
    assert found["accuracy"] == 0.5


def sentences_and_scores(
    net: updown.Captioner, regions: Tensor, valid: Tensor, words: int, length: int
) -> dict:
    """The log-probability of every sentence, by teacher forcing."""
    found = {}
    for tokens in itertools.product(range(words), repeat=length):
        over = [t in (END, PAD) for t in tokens]
        if any(o and after for o, after in zip(over, tokens[1:], strict=False)):
            continue
        logits = net(regions, torch.tensor([tokens]), valid)[0].log_softmax(2)[0]
        before = [False, *over[:-1]]
        found[tokens] = sum(
            logits[k, t].item() for k, t in enumerate(tokens) if not before[k]
        )
    return found


def test_wide_beams_find_the_likeliest_of_all_sentences():
    net, (regions, valid) = captioner(words=5), pictures()
    tokens, scores = updown.decode(net.start(regions, valid), length=3, beams=40)
    for row in range(2):
        one = slice(row, row + 1)
        everything = sentences_and_scores(net, regions[one], valid[one], 5, 3)
        assert sum(2.718281828459045**s for s in everything.values()) == pytest.approx(
            1
        )
        best = sorted(everything, key=everything.get, reverse=True)[:10]
        assert [tuple(t) for t in tokens[row, :10].tolist()] == best
        assert scores[row, :10].tolist() == pytest.approx([everything[t] for t in best])


def test_one_beam_is_the_greedy_sentence():
    net, (regions, valid) = captioner(words=9), pictures(6)
    start = net.start(regions, valid)
    greedy, weights = updown.write(start, length=5)
    beams, _ = updown.decode(start, length=5, beams=1)
    assert torch.equal(greedy, beams[:, 0])
    assert weights.shape == (6, 5, 4)


def test_drawn_sentences_follow_the_models_chances_and_stop_at_their_end():
    net, (regions, valid) = captioner(words=4), pictures(1)
    valid[:] = True
    n = 4000
    start = net.start(regions.expand(n, -1, -1), valid.expand(n, -1))
    tokens, _ = updown.write(
        start, length=2, generator=torch.Generator().manual_seed(0)
    )
    for sentence, score in sentences_and_scores(net, regions, valid, 4, 2).items():
        share = (tokens == torch.tensor(sentence)).all(1).float().mean().item()
        assert share == pytest.approx(2.718281828459045**score, abs=0.03)


def test_the_score_function_gradient_on_two_words():
    """E[(r - b) grad log p] is the gradient of the expected reward; the baseline
    changes the spread only."""
    rewards = torch.tensor([1.0, 0.2], dtype=torch.float64)
    logit = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def chances() -> Tensor:
        return torch.stack([logit.sigmoid(), 1 - logit.sigmoid()])

    (true,) = torch.autograd.grad((chances() * rewards).sum(), logit)
    p = chances().detach()
    assert true.item() == pytest.approx((p[0] * p[1] * 0.8).item())
    spreads = []
    for baseline in (0.0, 0.7):
        slopes = []
        for word in range(2):
            log_prob = chances()[word].log().reshape(1, 1)
            value = updown.self_critical_loss(
                log_prob, rewards[word].reshape(1, 1), torch.tensor([[baseline]])
            )
            slopes.append(-torch.autograd.grad(value, logit)[0])
        mean = sum(chance * slope for chance, slope in zip(p, slopes, strict=True))
        assert mean.item() == pytest.approx(true.item())
        spreads.append(
            sum(
                chance * (s - mean) ** 2 for chance, s in zip(p, slopes, strict=True)
            ).item()
        )
    assert spreads[1] < spreads[0] / 3
    # The mean of n rewards holds the sentence's own, which shrinks the step by (n - 1)
    # / n and turns nothing.
    for n in (2, 3):
        mean = torch.zeros((), dtype=torch.float64)
        for drawn in itertools.product(range(2), repeat=n):
            index = torch.tensor(drawn)
            value = updown.self_critical_loss(
                chances()[index].log()[None], rewards[index][None]
            )
            mean -= p[index].prod() * torch.autograd.grad(value, logit)[0]
        assert mean.item() == pytest.approx(true.item() * (n - 1) / n)


def learn(model: nn.Module, inputs, loss, batch: dict, rate: float) -> list[dict]:
    """What each of sixty steps of Adam on one batch says."""
    optimizer, found = torch.optim.Adam(model.parameters(), rate), []
    for _ in range(60):
        losses = loss(inputs(model, batch), batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        found.append({name: value.item() for name, value in losses.items()})
    return found


def test_self_critical_steps_make_what_is_rewarded_likelier():
    net, (regions, valid) = captioner(words=6), pictures(4)
    inputs = partial(
        updown.draw_batch,
        vectors=regions,
        valid=valid,
        samples=6,
        generator=torch.Generator().manual_seed(0),
    )
    judge = partial(
        updown.reward_loss, reward=lambda drawn, true: (drawn == true).double().mean(1)
    )
    batch = {"images": torch.arange(4), "tokens": torch.full((4, 4), 4)}
    found = learn(net, inputs, judge, batch, 0.02)
    assert found[-1]["reward"] > 0.9 > 0.5 > found[0]["reward"]


@pytest.mark.parametrize("task", ["caption", "answer"])
def test_a_few_steps_fit_a_few_sentences(task: str):
    torch.manual_seed(0)
    net = updown.tiny()
    vectors, valid = torch.randn(8, 3, 64), torch.ones(8, 3, dtype=torch.bool)
    tokens = torch.randint(3, 28, (8, 5), generator=torch.Generator().manual_seed(0))
    batch = {"images": torch.arange(8), "tokens": tokens, "answers": torch.arange(8)}
    loss = updown.loss if task == "caption" else updown.answer_loss
    model = net.captioner if task == "caption" else net.answerer
    inputs = partial(updown.attend_batch, vectors=vectors, valid=valid)
    found = learn(model, inputs, loss, batch, 0.01)
    assert found[-1]["loss"] < 0.2 * found[0]["loss"]


def test_a_batch_of_regions_is_described_under_its_true_classes():
    torch.manual_seed(0)
    net, images = updown.tiny().features.eval(), torch.rand(2, 3, 48, 48)
    boxes = windows(2, 48, 30).expand(2, -1, -1)
    labels = torch.tensor([[1, 0, NOTHING, 6], [2, 3, 4, 5]])
    batch = {"images": images, "boxes": boxes, "labels": labels}
    found = updown.describe_batch(net, batch)
    expected = net.describe(net(images, boxes), labels)
    assert torch.equal(found.objects, expected.objects)
    assert torch.equal(found.attributes, expected.attributes)


def test_gated_tanh_by_hand():
    layer = updown.GatedTanh(1, 1)
    for linear, (weight, bias) in (
        (layer.value, (2.0, -1.0)),
        (layer.gate, (0.5, 0.25)),
    ):
        nn.init.constant_(linear.weight, weight)
        nn.init.constant_(linear.bias, bias)
    x = torch.tensor([[0.3]])
    torch.testing.assert_close(
        layer(x), torch.tanh(2 * x - 1) * torch.sigmoid(0.5 * x + 0.25)
    )


def test_an_answer_is_the_papers_formula():
    torch.manual_seed(0)
    net = updown.Answerer(
        num_words=7, num_answers=3, channels=5, embed=4, hidden=6
    ).double()
    regions, valid = pictures()
    words = torch.tensor([[3, 4, 6], [5, 3, PAD]])
    logits, weights = net(regions, words, valid)
    for row, length in enumerate((3, 2)):
        _, q = net.gru(net.embedding(words[row : row + 1, :length]))
        q, there = q[0, 0], regions[row][valid[row]]
        a = torch.stack([net.score(net.attend(torch.cat([v, q])))[0] for v in there])
        alpha = a.softmax(0)
        h = net.question(q) * net.vision(alpha @ there)
        torch.testing.assert_close(weights[row][valid[row]], alpha)
        torch.testing.assert_close(logits[row], net.answer(net.joint(h)))


def test_answers_start_unlikely_and_their_loss_is_summed():
    net = updown.Answerer(num_words=7, num_answers=5, channels=5, embed=4, hidden=6)
    assert net.answer.bias.sigmoid().tolist() == pytest.approx([0.2] * 5)
    logits, targets = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.6, 0.0, 1.0]])
    p = logits.sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum()
    said = updown.Attended(logits, torch.ones(1, 1))
    found = updown.answer_loss(said, {"answers": targets})
    assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert found["accuracy"].item() == pytest.approx(0.6)


def test_regions_are_read_where_their_boxes_are():
    torch.manual_seed(0)
    trunk = nn.AvgPool2d(2)
    net = updown.BottomUp(
        trunk,
        nn.Identity(),
        channels=3,
        stride=2,
        patch=2,
        num_objects=2,
        num_attributes=2,
        embed=2,
        hidden=4,
    )
    images = torch.rand(1, 3, 16, 16)
    found = net(images, torch.tensor([[[4.0, 8.0, 12.0, 16.0], [0.0, 0.0, 8.0, 8.0]]]))
    assert found.shape == (1, 2, 3)
    # Two samples a bin of two cells lie on the cells' centres, so that this is a plain
    # mean.
    torch.testing.assert_close(found[0, 0], images[0, :, 8:16, 4:12].mean((1, 2)))
    torch.testing.assert_close(found[0, 1], images[0, :, :8, :8].mean((1, 2)))


def test_the_attribute_head_is_told_the_class_in_training_and_guesses_it_later():
    net = updown.tiny().features
    vectors = torch.randn(3, 64)
    objects, told = net.describe(vectors, torch.tensor([2, 2, 2]))
    assert torch.equal(objects, net.objects(vectors))
    joined = torch.cat([vectors, net.embedding.weight[2].expand(3, -1)], 1)
    torch.testing.assert_close(told, net.attributes(joined))
    _, guessed = net.describe(vectors)
    torch.testing.assert_close(guessed, net.describe(vectors, objects.argmax(1))[1])


def test_region_loss_weighs_attributes_by_half_and_asks_only_where_there_is_one():
    objects, attributes = torch.zeros(1, 3, 4), torch.zeros(1, 3, 2)
    labels = torch.tensor([[1, 0, NOTHING]])
    wanted = torch.tensor([[1, NOTHING, NOTHING]])
    attributes[0, 1:] = 50.0
    described = updown.Described(objects, attributes)
    batch = {"labels": labels, "attributes": wanted}
    found = updown.region_loss(described, batch)
    assert found["object"].item() == pytest.approx(1.386294, abs=1e-5)
    assert found["loss"].item() == pytest.approx(1.386294 + 0.5 * 0.693147, abs=1e-5)


def test_beams_of_a_state_can_be_taken():
    net, (regions, valid) = captioner(), pictures()
    start = net.start(regions, valid)
    state = start.take(torch.tensor([1, 1, 0]))
    assert state.regions.shape == (3, 4, 5)
    assert torch.equal(state.regions[0], start.regions[1])
    assert torch.equal(state.regions[2], regions[0])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: captioner().start(
            torch.zeros(0, 4, 5), torch.zeros(0, 4, dtype=torch.bool)
        ),
        lambda: captioner().start(
            torch.zeros(1, 4, 5), torch.zeros(1, 4, dtype=torch.bool)
        ),
        lambda: updown.tiny().features(torch.zeros(0, 3, 48, 48), torch.zeros(0, 2, 4)),
        lambda: updown.tiny().features(torch.zeros(1, 3, 48, 48), torch.zeros(1, 0, 4)),
        lambda: updown.tiny().answerer(
            torch.zeros(0, 4, 64),
            torch.zeros(0, 3, dtype=torch.long),
            torch.zeros(0, 4, dtype=torch.bool),
        ),
    ],
)
def test_empty_pictures_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        wrong()


def described(count: int) -> updown.Described:
    objects = torch.randn(1, count, 7, requires_grad=True)
    return updown.Described(objects, torch.randn(1, count, 6, requires_grad=True))


def test_nothing_to_learn_is_a_loss_of_zero_with_a_gradient_of_zero():
    nothing, outputs = torch.full((1, 3), NOTHING), described(3)
    found = updown.region_loss(outputs, {"labels": nothing, "attributes": nothing})
    assert {name: value.item() for name, value in found.items()} == {
        "loss": 0,
        "object": 0,
        "attribute": 0,
    }
    found["loss"].backward()
    for logits in outputs:
        assert (logits.grad == 0).all()
    # a picture of background only
    background = {"labels": torch.zeros(1, 3).long(), "attributes": nothing}
    found = updown.region_loss(described(3), background)
    assert found["loss"].isfinite()
    assert found["attribute"] == 0
    said = updown.Attended(torch.randn(1, 4, 28, requires_grad=True), torch.ones(1, 4))
    found = updown.loss(said, {"tokens": torch.zeros(1, 4).long()})
    assert (found["loss"].item(), found["accuracy"].item()) == (0, 0)


def test_integers_of_other_sizes_say_the_same():
    labels, attributes = (
        torch.tensor([[1, 0, NOTHING]]),
        torch.tensor([[1, 2, NOTHING]]),
    )
    outputs = described(3)
    for kind in (torch.int64, torch.int32):
        batch = {"labels": labels.to(kind), "attributes": attributes.to(kind)}
        found = updown.region_loss(outputs, batch)["loss"]
        expected = updown.region_loss(
            outputs, {"labels": labels, "attributes": attributes}
        )
        assert torch.equal(found, expected["loss"])
    torch.manual_seed(0)
    net = updown.tiny().eval()
    regions, words = torch.rand(2, 4, 64), torch.tensor([[3, 4, 2], [5, 2, 0]])
    valid = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]])
    for model in (net.captioner, net.answerer):
        expected = model(regions, words, valid.bool())
        found = model(regions, words.int(), valid)
        assert torch.equal(found.logits, expected.logits)
        double = model(regions.double(), words, valid)
        assert torch.equal(double.logits, expected.logits)
    answers = torch.tensor([3, 16])
    said = net.answerer(regions, words)
    expected = updown.answer_loss(said, {"answers": torch.eye(17)[answers]})
    assert updown.answer_loss(said, {"answers": answers.int()}) == expected


def test_boxes_as_numpy_delivers_them():
    torch.manual_seed(0)
    net, images = updown.tiny().features.eval(), torch.rand(1, 3, 48, 48)
    boxes = torch.tensor([[[4.0, 4.0, 20.0, 30.0]]])
    expected = net(images, boxes)
    for other in (boxes.double(), boxes.int(), boxes.long()):
        assert torch.equal(net(images, other), expected)
    odd = torch.rand(1, 3, 48, 96)
    odd[..., ::2] = images
    for same in (images.to(memory_format=torch.channels_last), odd[..., ::2]):
        torch.testing.assert_close(net(same, boxes), expected)
    assert net(images[..., :45, :37], boxes).shape == (1, 1, 64)


def test_what_is_not_there_may_hold_anything():
    regions, valid = pictures()
    dirty = regions.masked_fill(~valid[..., None], torch.nan)
    speak, words = captioner(), torch.tensor([[3, 4, 2], [5, 2, 0]])
    expected = speak(regions, words, valid)
    assert torch.equal(speak(dirty, words, valid).logits, expected.logits)


def test_half_precision_learns_and_speaks():
    torch.manual_seed(0)
    net = updown.tiny().bfloat16()
    images, boxes = torch.rand(2, 3, 48, 48).bfloat16(), windows(2, 48, 30)
    vectors = net.features(images, boxes.expand(2, -1, -1))
    assert vectors.dtype == torch.bfloat16
    words = torch.tensor([[3, 4, 2], [5, 2, 0]])
    batch = {"tokens": words, "answers": torch.tensor([0, 16])}
    batch["labels"] = batch["attributes"] = torch.arange(8).view(2, 4) % 6
    losses = [
        updown.region_loss(net.features.describe(vectors), batch),
        updown.loss(net.captioner(vectors, words), batch),
        updown.answer_loss(net.answerer(vectors, words), batch),
    ]
    for found in losses:
        assert found["loss"].dtype == torch.float32
        found["loss"].backward(retain_graph=True)
    start = net.captioner.start(vectors)
    assert updown.decode(start, length=4, beams=3)[1].dtype == torch.float32
    drawn = updown.write(start, length=4, generator=torch.Generator().manual_seed(0))
    assert drawn[0].shape == (2, 4)


def one_answerer() -> updown.Answerer:
    return updown.Answerer(num_words=7, num_answers=3, channels=5, embed=4, hidden=6)


def said(count: int = 2) -> updown.Attended:
    return updown.Attended(torch.zeros(count, 3), torch.ones(count, 1))


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_boxes_that_end_the_process_are_refused_before(wrong: float):
    net, images = updown.tiny().features.eval(), torch.rand(1, 3, 48, 48)
    with pytest.raises(ValueError, match="expected finite boxes"):
        net(images, torch.tensor([[[wrong, 5.0, 5.0, 5.0]]]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: updown.tiny().features(
                torch.zeros(2, 3, 48, 48), torch.ones(1, 2, 4)
            ),
            r"boxes in each, got \(2, 3, 48, 48\), \(1, 2, 4\)",
        ),
        (
            lambda: updown.tiny().features(
                torch.zeros(1, 3, 48, 48).double(), torch.ones(1, 2, 4)
            ),
            "images of torch.float32, got torch.float64",
        ),
        (
            lambda: one_answerer()(
                torch.zeros(1, 3, 5), torch.tensor([[3]]), torch.zeros(1, 3).bool()
            ),
            r"one region in each picture, got \[0\]",
        ),
        (
            lambda: one_answerer()(torch.zeros(1, 3, 5), torch.tensor([[0, 0]])),
            r"one word in each row, got \[0\]",
        ),
        (
            lambda: one_answerer()(torch.zeros(1, 3, 5), torch.tensor([[3, 0, 4]])),
            "no word behind a PAD",
        ),
        (
            lambda: one_answerer()(torch.zeros(1, 3, 5), torch.tensor([[7]])),
            r"tokens from 0 to 6, got \[7\]",
        ),
        (
            lambda: one_answerer()(
                torch.zeros(2, 3, 5), torch.tensor([[3], [3]]), torch.ones(1, 3).bool()
            ),
            r"`valid` \(2, 3\), got \(1, 3\)",
        ),
        (
            lambda: one_answerer()(torch.zeros(1, 3, 4), torch.tensor([[3]])),
            r"vectors of 5 numbers, \(b, k, d\), got \(1, 3, 4\)",
        ),
        (
            lambda: one_answerer()(torch.zeros(2, 3, 5), torch.tensor([[3]])),
            "questions about 2 pictures",
        ),
        (
            lambda: captioner()(torch.ones(1, 3, 5).double() / 0, torch.tensor([[3]])),
            "finite vectors",
        ),
        (
            lambda: captioner()(torch.ones(1, 3, 5).double(), torch.tensor([[9, 3]])),
            r"tokens from 0 to 6, got \[9\]",
        ),
        (
            lambda: captioner()(torch.ones(2, 3, 5).double(), torch.tensor([[3]])),
            "tokens of 2 sentences",
        ),
        (
            lambda: updown.region_loss(
                described(1),
                {"labels": torch.tensor([[7]]), "attributes": torch.tensor([[0]])},
            ),
            r"labels from 0 to 6 or -100, got .*7",
        ),
        (
            lambda: updown.tiny().features.describe(
                torch.zeros(1, 64), torch.tensor([7])
            ),
            r"labels from 0 to 6 or -100, got .*7",
        ),
        (
            lambda: updown.loss(
                updown.Attended(torch.zeros(2, 3, 5), torch.ones(2, 3, 1)),
                {"tokens": torch.tensor([[3, 2, 0]])},
            ),
            r"labels \(2, 3\), got \(1, 3\)",
        ),
        (
            lambda: updown.answer_loss(said(), {"answers": torch.tensor([0, 3])}),
            r"labels from 0 to 2, got .*3",
        ),
        (
            lambda: updown.answer_loss(said(), {"answers": torch.ones(1, 3)}),
            r"degrees \(2, 3\), got \(1, 3\)",
        ),
        (
            lambda: updown.answer_loss(said(), {"answers": torch.full((2, 3), 2.0)}),
            r"degrees in \[0, 1\]",
        ),
        (
            lambda: updown.answer_loss(said(0), {"answers": torch.zeros(0).long()}),
            "at least one question",
        ),
        (
            lambda: updown.attend_batch(
                captioner(),
                {"images": torch.tensor([2]), "tokens": torch.tensor([[3]])},
                vectors=torch.ones(2, 3, 5).double(),
                valid=torch.ones(2, 3).bool(),
            ),
            r"labels from 0 to 1, got .*2",
        ),
        (
            lambda: updown.self_critical_loss(torch.zeros(2, 3), torch.zeros(1, 3)),
            "a reward for each sentence",
        ),
        (
            lambda: updown.self_critical_loss(torch.zeros(1, 1), torch.ones(1, 1) / 0),
            "finite rewards",
        ),
        (
            lambda: updown.write(captioner().start(pictures()[0]), length=0),
            "at least one word",
        ),
        (
            lambda: updown.decode(captioner().start(pictures()[0]), length=2, beams=0),
            "words and beams",
        ),
        (lambda: captioner(words=1), "PAD and START"),
        (lambda: updown.tiny(num_answers=1), "num_answers >= 2"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        wrong()


def test_both_scales_take_the_same_sizes():
    sizes = {"num_words": 9, "num_answers": 4, "hidden": (5, 6)}
    with torch.device("meta"):
        nets = [build(**sizes, top_down=False) for build in (updown.tiny, updown.paper)]
    for net in nets:
        assert net.captioner.word.weight.shape == (9, 5)
        assert net.answerer.answer.weight.shape == (4, 6)
        assert not net.captioner.top_down
        assert not net.answerer.top_down
    with pytest.raises(TypeError, match="hiden"):
        updown.tiny(hiden=3)
