"""Bottom-Up and Top-Down Attention for Image Captioning and Visual Question Answering.

Peter Anderson, Xiaodong He, Chris Buehler, Damien Teney, Mark Johnson, Stephen Gould,
Lei Zhang. CVPR 2018, arXiv 1707.07998. Official code:
peteanderson80/bottom-up-attention (features), peteanderson80/Up-Down-Captioner.

Idea: a detector proposes regions, one vector each (bottom-up); the sentence so far, or
the question, weighs them (top-down). The vectors are trained to say attributes too, so
that a region knows "blue" as well as "mug".

Differs:
    1. Boxes are given: a detector that proposes them is in ``faster_rcnn``. Here is
       what this paper adds.
    2. Regions are read by RoIAlign (``faster_rcnn.align``); the paper's code uses RoI
       pooling.
    3. ``tiny`` has three convolutions instead of ResNet-101, learns its word vectors
       from scratch instead of starting from GloVe, and knows a few dozen words.
    4. ``top_down=False`` weighs all vectors alike: the control without attention.

Guessed:
    Whether res5 strides after the pooling (here it does, 14x14 to 7x7; the mean
    follows). Which states the LSTMs start from (zeros), and that the released embedding
    has no bias.

Contract:
    Three nets learn one after another, each on what the one before it gives, hence
    three losses: ``region_loss``, ``loss`` of captions, ``answer_loss``. ``decode``
    takes the captioner's ``start``, which knows how to take a step.

Example:
    >>> from papernets_lite.language import bottom_up_top_down as updown
    >>> start = updown.tiny().captioner.start(torch.rand(2, 5, 64))
    >>> updown.decode(start, length=7, beams=3)[0].shape
    torch.Size([2, 3, 7])
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Integer, Real, Shaped
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.backbones import resnet
from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import he_init_
from papernets_lite.ops import checks
from papernets_lite.ops.boxes import floating
from papernets_lite.ops.checks import expect
from papernets_lite.ops.labels import NOTHING, cross_entropy
from papernets_lite.ops.pooling import align
from papernets_lite.ops.tokens import PAD, START, check_filled, check_tokens, ended

ATTRIBUTE_WEIGHT = 0.5  # of the attribute head's loss
FORGET_BIAS = 1.0
CLIP = 10.0  # longest gradient

Step = Callable[[Tensor, "State"], tuple[Tensor, Tensor, "State"]]


class Described(NamedTuple):
    """What the features say of each region, as logits."""

    objects: Tensor  # (..., o), the background first
    attributes: Tensor  # (..., a)


class Attended(NamedTuple):
    """What was said, as logits, and the regions' weights meanwhile; one row a word for
    the captioner, one row in all for the answerer."""

    logits: Tensor  # (b, t, w) or (b, n)
    weights: Tensor  # (b, t, k) or (b, k)


class Drawn(NamedTuple):
    """Sentences that the captioner drew by chance, n for each picture."""

    log_probs: Tensor  # (b, n)
    tokens: Tensor  # (b, n, t)


class BottomUp(nn.Module):
    """Region vectors, and the two heads that give them their meaning.

    Args:
        trunk: images -> map.
        tail: applied to each patch of the map before it is averaged.
        channels: of the tail's output, a region's vector.
        stride: of the trunk, in pixels.
        patch: side of a patch, in cells.
        num_objects: classes; class 0 of the head is the background, so that object k is
            number k + 1.
        num_attributes: attributes.
        embed: length of a class's vector in the attribute head.
        hidden: width of the attribute head.
    """

    def __init__(
        self,
        trunk: nn.Module,
        tail: nn.Module,
        *,
        channels: int,
        stride: int,
        patch: int,
        num_objects: int,
        num_attributes: int,
        embed: int,
        hidden: int,
    ) -> None:
        super().__init__()
        sizes = (num_objects, num_attributes, stride, patch)
        expect(min(sizes) >= 1, "objects, attributes, a stride and a patch", sizes)
        self.trunk, self.tail = trunk, tail
        self.channels, self.stride, self.patch = channels, stride, patch
        self.objects = nn.Linear(channels, num_objects + 1)
        self.embedding = nn.Embedding(num_objects + 1, embed)
        self.attributes = nn.Sequential(
            nn.Linear(channels + embed, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_attributes),
        )
        he_init_(self)

    def forward(
        self, images: Float[Tensor, "b 3 h w"], boxes: Real[Tensor, "b k 4"]
    ) -> Float[Tensor, "b k d"]:
        """The vector of every box: its patch of the map, through the tail, averaged.

        Args:
            images: in [0, 1], of the weights' type.
            boxes: xyxy in pixels.

        Raises:
            ValueError: for images that ``check_images`` refuses, no boxes, or boxes
                that ``ops.pooling.align`` refuses.
        """
        convs = (m for m in self.trunk.modules() if isinstance(m, nn.Conv2d))
        checks.check_images(images, next(convs, None))
        some = boxes.numel() and len(boxes) == len(images)
        came = tuple(images.shape), tuple(boxes.shape)
        expect(some, "at least one image, and boxes in each", *came)
        maps = self.trunk(images)
        patches = align(maps, [*boxes], self.patch, spatial_scale=1 / self.stride)
        return self.tail(patches).mean((2, 3)).unflatten(0, boxes.shape[:2])

    def describe(
        self,
        vectors: Float[Tensor, "*b d"],
        labels: Integer[Tensor, "*b"] | None = None,
    ) -> Described:
        """Logits of objects and of attributes.

        Args:
            vectors: of regions.
            labels: the true classes, 0 for background, or ``NOTHING``, which the
                attribute head is told in training; else it takes the likeliest.

        Raises:
            ValueError: for labels that are no classes.
        """
        fits = vectors.shape[-1] == self.channels
        expect(fits, f"vectors of {self.channels} numbers", vectors.shape)
        objects = self.objects(vectors)
        if labels is None:
            known = objects.argmax(-1)
        else:
            shape, count = vectors.shape[:-1], objects.shape[-1]
            labels = checks.check_labels(labels, count, shape=shape, unknown=NOTHING)
            known = labels.clamp(min=0)
        told = torch.cat([vectors, self.embedding(known)], -1)
        return Described(objects, self.attributes(told))


def describe_batch(features: BottomUp, batch: Mapping[str, Tensor]) -> Described:
    """What ``region_loss`` judges.

    Args:
        features: in training.
        batch: ``images``, ``boxes`` (b, k, 4) in pixels, and ``labels`` (b, k), see
            ``region_loss``.
    """
    checks.check_keys(batch, "images", "boxes", "labels")
    vectors = features(batch["images"], batch["boxes"])
    return features.describe(vectors, batch["labels"])


def region_loss(
    outputs: Described,
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """What is it, and what is it like: two cross-entropies, each 0 where nothing is
    asked.

    Args:
        outputs: of ``BottomUp.describe``.
        batch: ``labels`` (b, k): true classes, 0 for background, ``NOTHING`` where the
            box is neither. ``attributes`` (b, k): true ones from 0, ``NOTHING`` where
            there is none.
        generator: not used.

    Returns:
        ``loss``, its parts ``object`` and ``attribute``.

    Raises:
        ValueError: for labels or attributes that the net does not know, or of another
            shape.
    """
    checks.check_keys(batch, "labels", "attributes")
    named = cross_entropy(outputs.objects, batch["labels"])
    like = cross_entropy(outputs.attributes, batch["attributes"])
    return {"loss": named + ATTRIBUTE_WEIGHT * like, "object": named, "attribute": like}


def check_regions(
    regions: Float[Tensor, "b k d"],
    valid: Shaped[Tensor, "b k"] | None,
    channels: int,
    like: Tensor,
) -> tuple[Float[Tensor, "b k d"], Bool[Tensor, "b k"]]:
    """The regions that both tasks read, with zeros where there is none.

    Args:
        regions: their vectors.
        valid: which regions are there, bool or 0 and 1; None: all.
        channels: of a vector.
        like: weights, whose type the vectors get.

    Raises:
        ValueError: for a batch without pictures, a picture without regions, vectors of
            another length or not finite, or a mask that is none.
    """
    fits = regions.ndim == 3 and len(regions) and regions.shape[2] == channels
    expect(fits, f"vectors of {channels} numbers, (b, k, d)", regions.shape)
    if valid is None:
        valid = torch.ones(regions.shape[:2], dtype=torch.bool, device=regions.device)
    valid = checks.check_mask(valid, "`valid`", shape=regions.shape[:2])
    counts = valid.sum(1)
    expect((counts > 0).all(), "at least one region in each picture", counts.tolist())
    regions = regions.masked_fill(~valid[..., None], 0.0).to(like.dtype)
    checks.check_finite(regions, "vectors of regions")
    return regions, valid


def softmax(
    scores: Float[Tensor, "*b k"], valid: Bool[Tensor, "*b k"]
) -> Float[Tensor, "*b k"]:
    """Softmax over the vectors that are there, at least one; padding gets weight 0."""
    return scores.masked_fill(~valid, -torch.inf).softmax(-1)


def uniform(valid: Bool[Tensor, "*b k"], like: Tensor) -> Float[Tensor, "*b k"]:
    """Equal weights for the vectors that are there, at least one."""
    return valid.to(like.dtype) / valid.sum(-1, keepdim=True)


def mix(
    weights: Float[Tensor, "b k"], regions: Float[Tensor, "b k d"]
) -> Float[Tensor, "b d"]:
    """The weighted sum of the vectors."""
    return torch.bmm(weights[:, None], regions)[:, 0]


class LSTMCell(nn.Module):
    """One step of an LSTM, with one bias (Caffe's; torch's has two) and a forget gate
    that starts open."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(in_features + hidden, 4 * hidden)
        nn.init.zeros_(self.gates.bias)
        nn.init.constant_(self.gates.bias[hidden : 2 * hidden], FORGET_BIAS)

    def forward(
        self, x: Float[Tensor, "b i"], h: Float[Tensor, "b d"], c: Float[Tensor, "b d"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """The new output h and memory c."""
        write, forget, new, read = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = forget.sigmoid() * c + write.sigmoid() * new.tanh()
        return read.sigmoid() * c.tanh(), c


@dataclass(frozen=True)
class State:
    """What the captioner carries from word to word; the picture's part never changes,
    nor does the step that turns a word and a state into the next."""

    regions: Float[Tensor, "b k d"]
    valid: Bool[Tensor, "b k"]
    keys: Float[Tensor, "b k a"]  # W_va v_i
    mean: Float[Tensor, "b d"]  # of the regions
    h1: Float[Tensor, "b h"]
    c1: Float[Tensor, "b h"]
    h2: Float[Tensor, "b h"]
    c2: Float[Tensor, "b h"]
    step: Step = field(repr=False)

    def take(self, rows: Int[Tensor, " n"]) -> "State":
        """Some of the batch's rows, in any order, as often as wished."""
        parts = vars(self).items()
        taken: dict = {name: x[rows] for name, x in parts if isinstance(x, Tensor)}
        return replace(self, **taken)


class Captioner(nn.Module):
    """Two LSTMs: the first decides where to look, the second what to say.

    Args:
        num_words: of the vocabulary.
        channels: of a region's vector.
        embed: length of a word's vector.
        hidden: width of both LSTMs.
        attention: width of the attention.
        top_down: weigh the regions by what the first LSTM asks for, else all alike.
    """

    def __init__(
        self,
        *,
        num_words: int,
        channels: int,
        embed: int,
        hidden: int,
        attention: int,
        top_down: bool = True,
    ) -> None:
        super().__init__()
        expect(num_words > START, "at least the words PAD and START", num_words)
        self.embedding = nn.Embedding(num_words, embed)
        self.first = LSTMCell(hidden + channels + embed, hidden)
        self.second = LSTMCell(channels + hidden, hidden)
        self.key = nn.Linear(channels, attention, bias=False)  # W_va
        self.query = nn.Linear(hidden, attention, bias=False)  # W_ha
        self.score = nn.Linear(attention, 1, bias=False)  # w_a
        self.word = nn.Linear(hidden, num_words)
        self.hidden, self.top_down = hidden, top_down

    def start(
        self,
        regions: Float[Tensor, "b k d"],
        valid: Shaped[Tensor, "b k"] | None = None,
    ) -> State:
        """Before the first word.

        Args:
            regions: their vectors.
            valid: which regions are there; None: all.

        Raises:
            ValueError: for regions that ``check_regions`` refuses.
        """
        key = self.key
        regions, valid = check_regions(regions, valid, key.in_features, key.weight)
        keys, mean = self.key(regions), mix(uniform(valid, regions), regions)
        zero = regions.new_zeros(len(regions), self.hidden)
        return State(regions, valid, keys, mean, zero, zero, zero, zero, self.step)

    def step(
        self, tokens: Integer[Tensor, " b"], state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Hear a word, look, say the next.

        Args:
            tokens: the word before, ``START`` at first.
            state: from ``start`` or the last step.

        Returns:
            Logits of the next word (b, w), the regions' weights (b, k), and the new
            state.

        Raises:
            ValueError: for numbers that are no words.
        """
        count = len(state.h1)
        expect(tokens.shape == (count,), f"{count} words", tokens.shape)
        words = self.embedding(check_tokens(tokens, self.embedding.num_embeddings))
        heard = torch.cat([state.h2, state.mean, words], 1)
        h1, c1 = self.first(heard, state.h1, state.c1)
        scores = self.score((state.keys + self.query(h1)[:, None]).tanh())[..., 0]
        if self.top_down:
            weights = softmax(scores, state.valid)
        else:
            weights = uniform(state.valid, scores)
        seen = mix(weights, state.regions)
        h2, c2 = self.second(torch.cat([seen, h1], 1), state.h2, state.c2)
        return self.word(h2), weights, replace(state, h1=h1, c1=c1, h2=h2, c2=c2)

    def forward(
        self,
        regions: Float[Tensor, "b k d"],
        tokens: Integer[Tensor, "b t"],
        valid: Shaped[Tensor, "b k"] | None = None,
    ) -> Attended:
        """All steps, each after the *true* words before it ("teacher forcing").

        Args:
            regions: their vectors.
            tokens: the true sentence, without ``START``.
            valid: which regions are there; None: all.

        Returns:
            Logits (b, t, w) and weights (b, t, k); the logits at place t are those of
            ``tokens[:, t]``.

        Raises:
            ValueError: for no tokens, or what ``start`` and ``step`` refuse.
        """
        right = tokens.ndim == 2 and tokens.shape[1] and len(tokens) == len(regions)
        expect(right, f"tokens of {len(regions)} sentences", tokens.shape)
        state = self.start(regions, valid)
        said, looked = [], []
        for before in functional.pad(tokens, (1, -1), value=START).unbind(1):
            logits, weights, state = self.step(before, state)
            said.append(logits)
            looked.append(weights)
        return Attended(torch.stack(said, 1), torch.stack(looked, 1))


def loss(
    outputs: Attended,
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy of the true words, the mean over words, and the share that is
    right; padding does not count, and without words both are 0.

    Args:
        outputs: of the ``Captioner``, after the same tokens.
        batch: ``tokens`` (b, t), the true sentences with their ends, filled up with
            ``PAD``.
        generator: not used.

    Returns:
        ``loss`` and ``accuracy``.

    Raises:
        ValueError: for tokens outside the vocabulary, or of another shape.
    """
    checks.check_keys(batch, "tokens")
    tokens = batch["tokens"]
    value = cross_entropy(outputs.logits, tokens, unknown=PAD)
    words = tokens != PAD
    right = (outputs.logits.detach().argmax(2) == tokens) & words
    return {"loss": value, "accuracy": right.sum() / words.sum().clamp(min=1)}


@torch.no_grad()
def write(
    outputs: State, *, length: int, generator: torch.Generator | None = None
) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t k"]]:
    """A sentence, word by word: the likeliest word each time, or one drawn by chance.

    Args:
        outputs: of ``Captioner.start``.
        length: at most so many words.
        generator: draws the words; None takes the likeliest.

    Returns:
        Tokens, ``PAD`` after the end, and the regions' weights at each word.

    Raises:
        ValueError: for a length of 0.
    """
    expect(length >= 1, "at least one word", length)
    state, words, looked = outputs, [], []
    tokens = torch.full((len(state.regions),), START, device=state.regions.device)
    for _ in range(length):
        logits, weights, state = state.step(tokens, state)
        if generator is None:
            drawn = logits.argmax(1)
        else:
            chances = floating(logits).softmax(1).cpu()
            drawn = torch.multinomial(chances, 1, generator=generator)[:, 0].to(tokens)
        tokens = drawn.masked_fill(ended(tokens), PAD)
        words.append(tokens)
        looked.append(weights)
    return torch.stack(words, 1), torch.stack(looked, 1)


@torch.no_grad()
def decode(
    outputs: State, *, length: int, beams: int = 5
) -> tuple[Int[Tensor, "b n t"], Float[Tensor, "b n"]]:
    """Beam search: keep the likeliest ``beams`` beginnings of each sentence and extend
    them all by a word.

    Args:
        outputs: of ``Captioner.start``.
        length: at most so many words.
        beams: beginnings kept.

    Returns:
        For each picture ``beams`` sentences, the likeliest first, and their
        log-probabilities.

    Raises:
        ValueError: for no words or beams.
    """
    expect(length >= 1 and beams >= 1, "words and beams", length, beams)
    count, device = len(outputs.regions), outputs.regions.device
    picture = torch.arange(count, device=device)
    state = outputs.take(picture.repeat_interleave(beams))
    tokens = torch.full((count, beams, 1), START, device=device)
    scores = floating(outputs.regions).new_full((count, beams), -torch.inf)
    scores[:, 0] = 0  # one beginning at first: the beams must differ
    for _ in range(length):
        last = tokens[..., -1]
        logits, _, state = state.step(last.flatten(), state)
        gain = floating(logits).log_softmax(1).unflatten(0, (-1, beams))
        over = ended(last)
        gain = gain.masked_fill(over[..., None], -torch.inf)
        # what has ended goes on for free
        gain[..., PAD] = torch.where(over, 0.0, gain[..., PAD])
        scores, best = (scores[..., None] + gain).flatten(1).topk(beams, 1)
        rows = beams * picture[:, None] + best // gain.shape[2]
        word = best % gain.shape[2]
        state = state.take(rows.flatten())
        tokens = torch.cat([tokens.flatten(0, 1)[rows], word[..., None]], 2)
    return tokens[..., 1:], scores


def self_critical_loss(
    log_probs: Float[Tensor, "b n"],
    rewards: Real[Tensor, "b n"],
    baseline: Real[Tensor, "b 1"] | None = None,
) -> Tensor:
    """Its gradient is that of the expected reward, with the sign turned: -(r - b) grad
    log p.

    Args:
        log_probs: of n sentences that the model drew for each picture.
        rewards: of these sentences.
        baseline: what is ordinary for the picture; by default the mean reward of its n
            sentences, as in the official code, else for instance the reward of the
            likeliest sentence.

    Raises:
        ValueError: for no sentences, unequal shapes, or rewards that are not finite.
    """
    same = log_probs.shape == rewards.shape and log_probs.numel()
    expect(same, "a reward for each sentence", log_probs.shape, rewards.shape)
    ordinary = floating(rewards).mean(1, keepdim=True) if baseline is None else baseline
    single = ordinary.shape == (len(rewards), 1)
    expect(single, f"a baseline ({len(rewards)}, 1)", ordinary.shape)
    checks.check_finite(floating(rewards) - ordinary, "rewards and baselines")
    return -((rewards - ordinary).detach() * log_probs).mean()


def pictures(batch: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
    """Which pictures a batch of sentences belongs to.

    Args:
        batch: numbers of pictures, ``images`` (b,), and ``tokens`` (b, t).
        vectors: of all pictures' regions.

    Raises:
        ValueError: for another batch, or numbers of pictures that are not there.
    """
    checks.check_keys(batch, "images", "tokens")
    return checks.check_labels(batch["images"], len(vectors))


def draw_batch(
    captioner: Captioner,
    batch: Mapping[str, Tensor],
    *,
    vectors: Float[Tensor, "n k d"],
    valid: Shaped[Tensor, "n k"],
    samples: int,
    generator: torch.Generator,
) -> Drawn:
    """Sentences drawn by chance, with gradients: what ``reward_loss`` judges.

    Args:
        captioner: the model.
        batch: numbers of pictures, ``images``, and their true sentences, ``tokens``,
            which say how long the drawn ones may get.
        vectors: of all pictures' regions.
        valid: which of them are there.
        samples: sentences for each picture.
        generator: draws the words, on the CPU.
    """
    expect(samples >= 1, "samples >= 1", samples)
    rows = pictures(batch, vectors).repeat_interleave(samples, 0)
    length = batch["tokens"].shape[1]
    start = captioner.start(vectors[rows], valid[rows])
    tokens, _ = write(start, length=length, generator=generator)
    logits, _ = captioner(vectors[rows], tokens, valid[rows])
    chosen = floating(logits).log_softmax(2).gather(2, tokens[..., None])[..., 0]
    log_probs = chosen.masked_fill(tokens == PAD, 0.0).sum(1)
    each = (-1, samples)
    return Drawn(log_probs.unflatten(0, each), tokens.unflatten(0, each))


def reward_loss(
    outputs: Drawn,
    batch: Mapping[str, Tensor],
    *,
    reward: Callable[[Tensor, Tensor], Tensor],
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Have drawn sentences judged, and make the better ones likelier.

    Args:
        outputs: of ``draw_batch``.
        batch: ``tokens`` (b, t), the true sentences.
        reward: (drawn, true) tokens, (m, t) each -> m rewards, which need no gradient.
        generator: not used.

    Returns:
        ``loss`` and the mean ``reward``.

    Raises:
        ValueError: for a number of rewards other than that of sentences, or what
            ``self_critical_loss`` refuses.
    """
    count, samples = outputs.log_probs.shape
    checks.check_keys(batch, "tokens")
    true = batch["tokens"].repeat_interleave(samples, 0)
    rewards = reward(outputs.tokens.flatten(0, 1), true).to(outputs.log_probs)
    expect(rewards.shape == (len(true),), f"{len(true)} rewards", rewards.shape)
    value = self_critical_loss(outputs.log_probs, rewards.view(count, samples))
    return {"loss": value, "reward": rewards.mean()}


class GatedTanh(nn.Module):
    r"""The paper's non-linear layer, :math:`\tanh(Wx + b) \circ \sigma(W'x + b')`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.value = nn.Linear(in_features, out_features)
        self.gate = nn.Linear(in_features, out_features)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Values, each let through as far as its gate is open."""
        return self.value(x).tanh() * self.gate(x).sigmoid()


class Answerer(nn.Module):
    """Question answering: the question weighs the regions, then question and picture
    are multiplied.

    Args:
        num_words: of the vocabulary.
        num_answers: that can be given, at least two.
        channels: of a region's vector.
        embed: length of a word's vector.
        hidden: of the question and of all layers.
        top_down: weigh the regions by the question, else all alike.
    """

    def __init__(
        self,
        *,
        num_words: int,
        num_answers: int,
        channels: int,
        embed: int,
        hidden: int,
        top_down: bool = True,
    ) -> None:
        super().__init__()
        expect(num_words >= 1, "num_words >= 1", num_words)
        expect(num_answers >= 2, "num_answers >= 2", num_answers)
        self.embedding = nn.Embedding(num_words, embed)
        self.gru = nn.GRU(embed, hidden, batch_first=True)
        self.attend = GatedTanh(channels + hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.question = GatedTanh(hidden, hidden)
        self.vision = GatedTanh(channels, hidden)
        self.joint = GatedTanh(hidden, hidden)
        self.answer = nn.Linear(hidden, num_answers)
        # Few of many answers are right: begin with all of them unlikely.
        nn.init.constant_(self.answer.bias, -math.log(num_answers - 1))
        self.channels, self.top_down = channels, top_down

    def forward(
        self,
        regions: Float[Tensor, "b k d"],
        tokens: Integer[Tensor, "b t"],
        valid: Shaped[Tensor, "b k"] | None = None,
    ) -> Attended:
        """Logits of the answers (b, n), and the regions' weights (b, k).

        Args:
            regions: their vectors.
            tokens: the questions, filled up with ``PAD``.
            valid: which regions are there; None: all.

        Raises:
            ValueError: for a batch without questions, an empty question, a number that
                is no word, or regions that ``check_regions`` refuses.
        """
        asked = tokens.ndim == 2 and tokens.numel() and len(tokens) == len(regions)
        expect(asked, f"questions about {len(regions)} pictures", tokens.shape)
        tokens = check_tokens(tokens, self.embedding.num_embeddings)
        regions, valid = check_regions(
            regions, valid, self.channels, self.answer.weight
        )
        states, _ = self.gru(self.embedding(tokens))
        last = check_filled(tokens).sum(1) - 1
        q = states[torch.arange(len(last), device=last.device), last]
        pairs = torch.cat([regions, q[:, None].expand(-1, regions.shape[1], -1)], 2)
        scores = self.score(self.attend(pairs))[..., 0]
        weights = softmax(scores, valid) if self.top_down else uniform(valid, scores)
        joint = self.question(q) * self.vision(mix(weights, regions))
        return Attended(self.answer(self.joint(joint)), weights)


def answer_loss(
    outputs: Attended,
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Binary cross-entropy, summed over answers: each may be right to a degree between
    0 and 1.

    Args:
        outputs: of the ``Answerer``.
        batch: ``answers``: the number of each right one (b,), or how right each answer
            is (b, n), such as the share of people who gave it.
        generator: not used.

    Returns:
        ``loss``, and ``accuracy``: how right the likeliest answers are.

    Raises:
        ValueError: for no answers, answers that the net does not know, degrees outside
            [0, 1], or another shape.
    """
    checks.check_keys(batch, "answers")
    logits, truth = floating(outputs.logits), batch["answers"]
    count, num_answers = logits.shape
    expect(count, "at least one question", logits.shape)
    if truth.is_floating_point():
        wanted = f"degrees {tuple(logits.shape)}"
        expect(truth.shape == logits.shape, wanted, truth.shape)
        expect(((truth >= 0) & (truth <= 1)).all(), "degrees in [0, 1]", truth)
        degrees = truth.to(logits)
    else:
        numbers = checks.check_labels(truth, num_answers, shape=(count,))
        degrees = functional.one_hot(numbers, num_answers).to(logits)
    total = functional.binary_cross_entropy_with_logits(
        logits, degrees, reduction="sum"
    )
    best = logits.detach().argmax(1, keepdim=True)
    return {"loss": total / count, "accuracy": degrees.gather(1, best).mean()}


def attend_batch(
    net: Captioner | Answerer,
    batch: Mapping[str, Tensor],
    *,
    vectors: Float[Tensor, "n k d"],
    valid: Shaped[Tensor, "n k"],
) -> Attended:
    """What ``loss`` or ``answer_loss`` judges, for batches that name their pictures by
    number.

    Args:
        net: of captions or of answers.
        batch: ``images`` (b,), numbers of pictures, and ``tokens`` (b, t), sentences or
            questions.
        vectors: of all pictures' regions, which stay as they are.
        valid: which of them are there.

    Raises:
        ValueError: for numbers of pictures that are not there, or what the net refuses.
    """
    rows = pictures(batch, vectors)
    return net(vectors[rows], batch["tokens"], valid[rows])


class UpDown(nn.Module):
    """Both tasks on the same regions.

    Args:
        features: give the regions' vectors.
        num_words: of the vocabulary.
        num_answers: that can be given.
        attention: width of the captioner's attention.
        embed: length of a word's vector, in captions and in questions.
        hidden: width of the captioner and of the answerer.
        top_down: weigh the regions, else all alike.
    """

    def __init__(
        self,
        features: BottomUp,
        *,
        num_words: int,
        num_answers: int,
        attention: int,
        embed: tuple[int, int],
        hidden: tuple[int, int],
        top_down: bool = True,
    ) -> None:
        super().__init__()
        both: dict = {"num_words": num_words, "channels": features.channels}
        both["top_down"] = top_down
        self.features = features
        self.captioner = Captioner(
            embed=embed[0], hidden=hidden[0], attention=attention, **both
        )
        self.answerer = Answerer(
            embed=embed[1], hidden=hidden[1], num_answers=num_answers, **both
        )


# How the map of the net calls its parts.
BLOCKS = {
    "embedding": "words",
    "first": "LSTM 1",
    "key query score": "attention",
    "second": "LSTM 2",
    "word": "next word",
}


def tiny(**overrides: object) -> UpDown:
    """The book's scale: pictures of 48x48, a map of 24x24, six shapes and six colours.

    Args:
        overrides: of ``UpDown``'s sizes.
    """
    trunk = nn.Sequential(
        *conv_norm_act(nn.Conv2d(3, 24, 3, 2, 1, bias=False)),
        *conv_norm_act(nn.Conv2d(24, 24, 3, 1, 1, bias=False)),
    )
    squeeze = nn.Linear(32 * 6**2, 64, bias=False)
    tail = nn.Sequential(
        *conv_norm_act(nn.Conv2d(24, 32, 3, 1, 1, bias=False)),
        nn.Flatten(),
        squeeze,
        nn.Unflatten(1, (64, 1, 1)),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    )
    heads: dict = {"num_objects": 6, "num_attributes": 6, "embed": 8, "hidden": 32}
    features = BottomUp(trunk, tail, channels=64, stride=2, patch=6, **heads)
    sizes: dict = {"num_words": 28, "num_answers": 17, "attention": 64}
    sizes |= {"embed": (32, 32), "hidden": (96, 96)}
    return UpDown(features, **(sizes | overrides))


def paper(**overrides: object) -> UpDown:
    """The paper's scale: ResNet-101 to res4, res5 on patches of 14x14, 1,600 objects
    and 400 attributes.

    Args:
        overrides: of ``UpDown``'s sizes.
    """
    net = resnet.Stages(resnet.imagenet(101), resnet.IMAGENET[101])
    trunk, tail = nn.Sequential(net.stem), net.stages[-1]
    for stage in net.stages[:-1]:
        trunk.extend(stage.children())
    heads: dict = {"num_objects": 1600, "num_attributes": 401}
    heads |= {"embed": 256, "hidden": 512}
    features = BottomUp(trunk, tail, channels=2048, stride=16, patch=14, **heads)
    sizes: dict = {"num_words": 10010, "num_answers": 3129, "attention": 512}
    sizes |= {"embed": (1000, 300), "hidden": (1000, 512)}
    return UpDown(features, **(sizes | overrides))
