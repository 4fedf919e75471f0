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
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.backbones import resnet
from papernets_lite.detection.faster_rcnn import align
from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import expect

PAD, START, END = 0, 1, 2  # tokens
ATTRIBUTE_WEIGHT = 0.5  # of the attribute head's loss
FORGET_BIAS = 1.0
CLIP = 10.0  # longest gradient
NOTHING = -100  # a class or attribute that is not asked for


class BottomUp(nn.Module):
    """Region vectors, and the two heads that give them their meaning.

    Args:
        trunk: images -> map.
        tail: applied to each patch of the map before it is averaged.
        channels: of the tail's output, a region's vector.
        stride: of the trunk.
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
        self.trunk, self.tail, self.stride, self.patch = trunk, tail, stride, patch
        self.objects = nn.Linear(channels, num_objects + 1)
        self.embedding = nn.Embedding(num_objects + 1, embed)
        told = nn.Linear(channels + embed, hidden)
        self.attributes = nn.Sequential(
            told, nn.ReLU(), nn.Linear(hidden, num_attributes)
        )
        he_init_(self)

    def forward(
        self, images: Float[Tensor, "b 3 h w"], boxes: Float[Tensor, "b k 4"]
    ) -> Float[Tensor, "b k d"]:
        """The vector of every box (xyxy, pixels): its patch of the map, through the
        tail, averaged.

        Raises:
            ValueError: for a batch without images or boxes.
        """
        expect(boxes.numel(), "at least one image and box", boxes.shape[:2])
        patches = align(
            self.trunk(images), [*boxes], self.patch, spatial_scale=1 / self.stride
        )
        return self.tail(patches).mean((2, 3)).unflatten(0, boxes.shape[:2])

    def describe(
        self, vectors: Float[Tensor, "*b d"], labels: Int[Tensor, "*b"] | None = None
    ) -> tuple[Float[Tensor, "*b o"], Float[Tensor, "*b a"]]:
        """Logits of objects and of attributes.

        Args:
            vectors: of regions.
            labels: the true classes, which the attribute head is told in training; else
                it takes the likeliest.
        """
        objects = self.objects(vectors)
        known = self.embedding(
            objects.argmax(-1) if labels is None else labels.clamp(min=0)
        )
        return objects, self.attributes(torch.cat([vectors, known], -1))


def region_loss(
    objects: Float[Tensor, "*b o"],
    attributes: Float[Tensor, "*b a"],
    labels: Int[Tensor, "*b"],
    wanted: Int[Tensor, "*b"],
) -> dict[str, Tensor]:
    """What is it, and what is it like: two cross-entropies.

    Args:
        objects, attributes: logits of ``BottomUp.describe``.
        labels: true classes, 0 for background, ``NOTHING`` where the box is neither.
        wanted: true attributes, ``NOTHING`` where there is none.

    Returns:
        ``loss``, its parts ``object`` and ``attribute``.
    """
    named = functional.cross_entropy(
        objects.flatten(0, -2), labels.flatten(), ignore_index=NOTHING
    )
    like = functional.cross_entropy(
        attributes.flatten(0, -2), wanted.flatten(), ignore_index=NOTHING
    )
    return {"loss": named + ATTRIBUTE_WEIGHT * like, "object": named, "attribute": like}


def conv(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution, normalised.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        stride: 2 halves the size.
    """
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def softmax(
    scores: Float[Tensor, "*b k"], valid: Bool[Tensor, "*b k"]
) -> Float[Tensor, "*b k"]:
    """Softmax over the vectors that are there; padding gets weight 0."""
    return scores.masked_fill(~valid, -torch.inf).softmax(-1)


def uniform(valid: Bool[Tensor, "*b k"], like: Tensor) -> Float[Tensor, "*b k"]:
    """Equal weights for the vectors that are there."""
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
    ) -> tuple:
        """The new output h and memory c."""
        write, forget, new, read = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = forget.sigmoid() * c + write.sigmoid() * new.tanh()
        return read.sigmoid() * c.tanh(), c


@dataclass(frozen=True)
class State:
    """What the captioner carries from word to word; the picture's part never
    changes."""

    regions: Float[Tensor, "b k d"]
    valid: Bool[Tensor, "b k"]
    keys: Float[Tensor, "b k a"]  # W_va v_i
    mean: Float[Tensor, "b d"]  # of the regions
    h1: Float[Tensor, "b h"]
    c1: Float[Tensor, "b h"]
    h2: Float[Tensor, "b h"]
    c2: Float[Tensor, "b h"]

    def take(self, rows: Int[Tensor, " n"]) -> "State":
        """Some of the batch's rows, in any order, as often as wished."""
        return State(**{name: value[rows] for name, value in vars(self).items()})


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
        self.embedding = nn.Embedding(num_words, embed)
        self.first = LSTMCell(hidden + channels + embed, hidden)
        self.second = LSTMCell(channels + hidden, hidden)
        self.key = nn.Linear(channels, attention, bias=False)  # W_va
        self.query = nn.Linear(hidden, attention, bias=False)  # W_ha
        self.score = nn.Linear(attention, 1, bias=False)  # w_a
        self.word = nn.Linear(hidden, num_words)
        self.hidden, self.top_down = hidden, top_down

    def start(
        self, regions: Float[Tensor, "b k d"], valid: Bool[Tensor, "b k"]
    ) -> State:
        """Before the first word.

        Raises:
            ValueError: for a batch without pictures, or a picture without regions.
        """
        expect(
            len(regions) and valid.any(1).all(),
            "pictures with at least one region each",
            valid.sum(1).tolist(),
        )
        zero = regions.new_zeros(len(regions), self.hidden)
        return State(
            regions,
            valid,
            self.key(regions),
            mix(uniform(valid, regions), regions),
            *4 * [zero],
        )

    def step(
        self, tokens: Int[Tensor, " b"], state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Hear a word, look, say the next.

        Args:
            tokens: the word before, ``START`` at first.
            state: from ``start`` or the last step.

        Returns:
            Logits of the next word (b, w), the regions' weights (b, k), and the new
            state.
        """
        heard = torch.cat([state.h2, state.mean, self.embedding(tokens)], 1)
        h1, c1 = self.first(heard, state.h1, state.c1)
        scores = self.score((state.keys + self.query(h1)[:, None]).tanh())[..., 0]
        weights = (
            softmax(scores, state.valid)
            if self.top_down
            else uniform(state.valid, scores)
        )
        seen = mix(weights, state.regions)
        h2, c2 = self.second(torch.cat([seen, h1], 1), state.h2, state.c2)
        return self.word(h2), weights, replace(state, h1=h1, c1=c1, h2=h2, c2=c2)

    def forward(
        self,
        regions: Float[Tensor, "b k d"],
        tokens: Int[Tensor, "b t"],
        valid: Bool[Tensor, "b k"],
    ) -> tuple[Float[Tensor, "b t w"], Float[Tensor, "b t k"]]:
        """All steps, each after the *true* words before it ("teacher forcing").

        Args:
            regions: their vectors.
            tokens: the true sentence, without ``START``.
            valid: which regions are there.

        Returns:
            Logits and weights; the logits at place t are those of ``tokens[:, t]``.
        """
        state, said, looked = self.start(regions, valid), [], []
        for before in functional.pad(tokens, (1, -1), value=START).unbind(1):
            logits, weights, state = self.step(before, state)
            said.append(logits)
            looked.append(weights)
        return torch.stack(said, 1), torch.stack(looked, 1)


def loss(
    logits: Float[Tensor, "b t w"], tokens: Int[Tensor, "b t"]
) -> dict[str, Tensor]:
    """Cross-entropy of the true words, the mean over words, and the share that is
    right; padding does not count."""
    right = (logits.detach().argmax(2) == tokens)[tokens != PAD].float().mean()
    value = functional.cross_entropy(
        logits.flatten(0, 1), tokens.flatten(), ignore_index=PAD
    )
    return {"loss": value, "accuracy": right}


@torch.no_grad()
def write(
    captioner: Captioner,
    regions: Float[Tensor, "b k d"],
    valid: Bool[Tensor, "b k"],
    *,
    length: int,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t k"]]:
    """A sentence, word by word: the likeliest word each time, or one drawn by chance.

    Args:
        captioner: the model.
        regions, valid: the pictures.
        length: at most so many words.
        generator: draws the words; None takes the likeliest.

    Returns:
        Tokens, ``PAD`` after the end, and the regions' weights at each word.
    """
    state, words, looked = captioner.start(regions, valid), [], []
    tokens = torch.full((len(regions),), START, device=regions.device)
    for _ in range(length):
        logits, weights, state = captioner.step(tokens, state)
        drawn = logits.argmax(1)
        if generator is not None:
            drawn = torch.multinomial(logits.softmax(1).cpu(), 1, generator=generator)[
                :, 0
            ].to(tokens)
        tokens = drawn.masked_fill((tokens == END) | (tokens == PAD), PAD)
        words.append(tokens)
        looked.append(weights)
    return torch.stack(words, 1), torch.stack(looked, 1)


@torch.no_grad()
def decode(
    captioner: Captioner,
    regions: Float[Tensor, "b k d"],
    valid: Bool[Tensor, "b k"],
    *,
    length: int,
    beams: int = 5,
) -> tuple[Int[Tensor, "b n t"], Float[Tensor, "b n"]]:
    """Beam search: keep the likeliest ``beams`` beginnings of each sentence and extend
    them all by a word.

    Args:
        captioner: the model.
        regions, valid: the pictures.
        length: at most so many words.
        beams: beginnings kept.

    Returns:
        For each picture ``beams`` sentences, the likeliest first, and their
        log-probabilities.
    """
    picture = torch.arange(len(regions), device=regions.device)
    state = captioner.start(regions, valid).take(picture.repeat_interleave(beams))
    tokens = torch.full((len(regions), beams, 1), START, device=regions.device)
    scores = regions.new_full((len(regions), beams), -torch.inf)
    scores[:, 0] = 0  # one beginning at first: the beams must differ
    for _ in range(length):
        last = tokens[..., -1]
        logits, _, state = captioner.step(last.flatten(), state)
        gain = logits.log_softmax(1).unflatten(0, (-1, beams))
        over = (last == END) | (last == PAD)
        gain = gain.masked_fill(over[..., None], -torch.inf)
        # what has ended goes on for free
        gain[..., PAD] = torch.where(over, 0.0, gain[..., PAD])
        scores, best = (scores[..., None] + gain).flatten(1).topk(beams, 1)
        rows, word = (
            beams * picture[:, None] + best // gain.shape[2],
            best % gain.shape[2],
        )
        state = state.take(rows.flatten())
        tokens = torch.cat([tokens.flatten(0, 1)[rows], word[..., None]], 2)
    return tokens[..., 1:], scores


def self_critical_loss(
    log_probs: Float[Tensor, "b n"],
    rewards: Float[Tensor, "b n"],
    baseline: Float[Tensor, "b 1"] | None = None,
) -> Tensor:
    """Its gradient is that of the expected reward, with the sign turned: -(r - b) grad
    log p.

    Args:
        log_probs: of n sentences that the model drew for each picture.
        rewards: of these sentences.
        baseline: what is ordinary for the picture; by default the mean reward of its n
            sentences, as in the official code, else for instance the reward of the
            likeliest sentence.
    """
    ordinary = rewards.mean(1, keepdim=True) if baseline is None else baseline
    return -((rewards - ordinary).detach() * log_probs).mean()


def self_critical(
    captioner: Captioner,
    batch: Mapping[str, Tensor],
    *,
    vectors: Float[Tensor, "n k d"],
    valid: Bool[Tensor, "n k"],
    reward: Callable[[Tensor, Tensor], Tensor],
    samples: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Draw sentences, have them judged, and make the better ones likelier.

    Args:
        captioner: the model.
        batch: numbers of pictures, ``images``, and their true sentences, ``tokens``.
        vectors, valid: the regions of all pictures.
        reward: (drawn, true) tokens, (m, t) each -> m rewards, which need no gradient.
        samples: sentences for each picture.
        generator: draws the words.

    Returns:
        ``loss`` and the mean ``reward``.
    """
    rows, true = (
        batch[name].repeat_interleave(samples, 0) for name in ("images", "tokens")
    )
    tokens, _ = write(
        captioner, vectors[rows], valid[rows], length=true.shape[1], generator=generator
    )
    logits, _ = captioner(vectors[rows], tokens, valid[rows])
    chosen = logits.log_softmax(2).gather(2, tokens[..., None])[..., 0]
    log_probs = chosen.masked_fill(tokens == PAD, 0.0).sum(1)
    rewards = reward(tokens, true).to(log_probs)
    each = (x.unflatten(0, (-1, samples)) for x in (log_probs, rewards))
    return {"loss": self_critical_loss(*each), "reward": rewards.mean()}


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
        num_answers: that can be given.
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
        self.embedding = nn.Embedding(num_words, embed)
        self.gru = nn.GRU(embed, hidden, batch_first=True)
        self.attend = GatedTanh(channels + hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.question, self.vision = (
            GatedTanh(hidden, hidden),
            GatedTanh(channels, hidden),
        )
        self.joint = GatedTanh(hidden, hidden)
        self.answer = nn.Linear(hidden, num_answers)
        # Few of many answers are right: begin with all of them unlikely.
        nn.init.constant_(self.answer.bias, -math.log(num_answers - 1))
        self.top_down = top_down

    def forward(
        self,
        regions: Float[Tensor, "b k d"],
        questions: Int[Tensor, "b t"],
        valid: Bool[Tensor, "b k"],
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b k"]]:
        """Logits of the answers, and the regions' weights.

        Args:
            regions: their vectors.
            questions: tokens, filled up with ``PAD``.
            valid: which regions are there.

        Raises:
            ValueError: for a batch without questions.
        """
        expect(len(questions), "at least one question", questions.shape)
        states, _ = self.gru(self.embedding(questions))
        end = (questions != PAD).sum(1) - 1
        # after the last word
        q = states[torch.arange(len(end), device=end.device), end]
        pairs = torch.cat([regions, q[:, None].expand(-1, regions.shape[1], -1)], 2)
        scores = self.score(self.attend(pairs))[..., 0]
        weights = softmax(scores, valid) if self.top_down else uniform(valid, scores)
        return self.answer(
            self.joint(self.question(q) * self.vision(mix(weights, regions)))
        ), weights


def answer_loss(
    logits: Float[Tensor, "b n"], targets: Float[Tensor, "b n"]
) -> dict[str, Tensor]:
    """Binary cross-entropy, summed over answers: each may be right to a degree between
    0 and 1.

    Args:
        logits: of the answers.
        targets: how right each answer is, such as the share of people who gave it.

    Returns:
        ``loss``, and ``accuracy``: how right the likeliest answers are.
    """
    value = functional.binary_cross_entropy_with_logits(
        logits, targets, reduction="sum"
    ) / len(logits)
    best = logits.detach().argmax(1, keepdim=True)
    return {"loss": value, "accuracy": targets.gather(1, best).mean()}


class UpDown(nn.Module):
    """Both tasks on the same regions."""

    def __init__(
        self, features: BottomUp, captioner: Captioner, answerer: Answerer
    ) -> None:
        super().__init__()
        self.features, self.captioner, self.answerer = features, captioner, answerer


def region_objective(
    features: BottomUp, batch: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """``region_loss`` of a batch with ``images``, ``boxes``, ``labels`` and
    ``attributes``."""
    logits = features.describe(
        features(batch["images"], batch["boxes"]), batch["labels"]
    )
    return region_loss(*logits, batch["labels"], batch["attributes"])


def caption_objective(
    captioner: Captioner,
    batch: Mapping[str, Tensor],
    *,
    vectors: Float[Tensor, "n k d"],
    valid: Bool[Tensor, "n k"],
) -> dict[str, Tensor]:
    """``loss`` of a batch with ``images`` (their numbers) and ``tokens``.

    Args:
        captioner: the model.
        batch: numbers of pictures and their sentences.
        vectors, valid: the regions of all pictures, which stay as they are.
    """
    rows, tokens = batch["images"], batch["tokens"]
    return loss(captioner(vectors[rows], tokens, valid[rows])[0], tokens)


def answer_objective(
    answerer: Answerer,
    batch: Mapping[str, Tensor],
    *,
    vectors: Float[Tensor, "n k d"],
    valid: Bool[Tensor, "n k"],
) -> dict[str, Tensor]:
    """``answer_loss`` of a batch with ``images`` (their numbers), ``tokens`` and
    ``answers``, one right for each.

    Args:
        answerer: the model.
        batch: numbers of pictures, questions, answers.
        vectors, valid: the regions of all pictures, which stay as they are.
    """
    logits, _ = answerer(
        vectors[batch["images"]], batch["tokens"], valid[batch["images"]]
    )
    return answer_loss(
        logits, functional.one_hot(batch["answers"], logits.shape[1]).to(logits)
    )


def make_step(
    model: nn.Module,
    objective: Callable[..., dict[str, Tensor]],
    *,
    steps: int,
    rate: float,
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """One update by Adam; the rate rises for 20 steps and falls to zero in the second
    half.

    Args:
        model: what is trained.
        objective: ``(model, batch) -> dict`` with ``"loss"``.
        steps: how many updates there will be.
        rate: the highest learning rate.
    """
    optimizer = torch.optim.Adam(model.parameters(), rate)
    ramp = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1, (k + 1) / 20, 2 * (1 - k / steps))
    )

    def step(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        optimizer.zero_grad()
        found = objective(model, batch)
        found["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        ramp.step()
        return found

    return step


@torch.no_grad()
def read(
    features: BottomUp,
    images: Float[Tensor, "n 3 h w"],
    boxes: Float[Tensor, "n k 4"],
    *,
    chunk: int = 250,
) -> Float[Tensor, "n k d"]:
    """The vectors of all pictures' boxes, computed once and kept.

    Args:
        features: in evaluation mode.
        images: the pictures.
        boxes: of each.
        chunk: pictures at a time.
    """
    return torch.cat(
        [
            features(*piece)
            for piece in zip(images.split(chunk), boxes.split(chunk), strict=True)
        ]
    )


def tiny(
    *,
    num_words: int = 28,
    num_answers: int = 17,
    hidden: int = 96,
    top_down: bool = True,
) -> UpDown:
    """The book's scale: pictures of 48x48, a map of 24x24, six shapes and six colours.

    Args:
        num_words: of the vocabulary.
        num_answers: that can be given.
        hidden: width of both heads.
        top_down: weigh the regions, else all alike.
    """
    trunk = nn.Sequential(*conv(3, 24, 2), *conv(24, 24))
    squeeze = [
        nn.Flatten(),
        nn.Linear(32 * 6**2, 64, bias=False),
        nn.Unflatten(1, (64, 1, 1)),
    ]
    tail = nn.Sequential(*conv(24, 32), *squeeze, nn.BatchNorm2d(64), nn.ReLU())
    heads: dict = {"num_objects": 6, "num_attributes": 6, "embed": 8, "hidden": 32}
    features = BottomUp(trunk, tail, channels=64, stride=2, patch=6, **heads)
    sizes: dict = {
        "num_words": num_words,
        "channels": 64,
        "embed": 32,
        "hidden": hidden,
        "top_down": top_down,
    }
    return UpDown(
        features,
        Captioner(attention=64, **sizes),
        Answerer(num_answers=num_answers, **sizes),
    )


def paper() -> UpDown:
    """The paper's scale: ResNet-101 to res4, res5 on patches of 14x14, 1,600 objects
    and 400 attributes."""
    net, split = resnet.imagenet(101), sum(resnet.IMAGENET[101][:3])
    trunk, tail = (
        nn.Sequential(net.stem, *net.units[:split]),
        nn.Sequential(*net.units[split:]),
    )
    heads: dict = {
        "num_objects": 1600,
        "num_attributes": 401,
        "embed": 256,
        "hidden": 512,
    }
    features = BottomUp(trunk, tail, channels=2048, stride=16, patch=14, **heads)
    captioner = Captioner(
        num_words=10010, channels=2048, embed=1000, hidden=1000, attention=512
    )
    answerer = Answerer(
        num_words=10010, num_answers=3129, channels=2048, embed=300, hidden=512
    )
    return UpDown(features, captioner, answerer)
