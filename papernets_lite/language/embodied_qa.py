r"""Embodied Question Answering (EQA; its model is PACMAN).

Abhishek Das, Samyak Datta, Georgia Gkioxari, Stefan Lee, Devi Parikh, Dhruv Batra.
CVPR 2018, arXiv 1711.11543.
Official code: facebookresearch/EmbodiedQA (PyTorch).

Idea: an agent that is asked about a house walks to where the answer is seen. A planner
with a memory chooses what to do, a controller how often it is done again; both first
imitate the shortest way and then learn from how near they come.

Differs:
    1. ``tiny`` sees 16 x 32 pixels, turns by a right angle and walks by whole cells;
       the paper's agent sees 224 x 224, turns by 9 degrees and walks half a metre.
    2. In ``tiny`` the question multiplies what is seen, where the paper puts it beside;
       and both are normalised before (``multiply``, ``normal``). Put beside and as it
       comes, the question was not heeded in the few updates of the book.
    3. ``tiny`` has no dropout, whose features are few.
    4. ``tiny`` is rewarded more for coming near, and learns by Adam.

Guessed:
    The weights of the pre-training tasks: a plain sum. The first action that the
    planner is told: the slot of "stop", which never comes before another. The released
    code leaves out the question's last layer when the planner walks, and has it when
    the planner learns; here both have it.

Contract:
    A batch of episodes holds ``states``, ``actions``, ``valid`` (b, t), ``tokens``
    (b, l), ``kind`` and ``answers`` (b,). ``told`` adds what a navigator's loss reads.

Example:
    >>> from papernets_lite.language import embodied_qa
    >>> embodied_qa.coded(torch.tensor([[0, 0, 0, 1, 3]]), most=2).tolist()
    [[True, False, True, True, True]]
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Generator, Tensor, nn
from torch.nn import functional

from papernets_lite.ops.checks import at_least, check_images, check_keys, expect
from papernets_lite.ops.tokens import PAD, check_tokens

ACTIONS = 4  # forward, left, right, stop
STOP = 3
FRAMES = 5  # the last ones, which the answer is read from
# rewards of a step nearer and of the right answer, in the released code
PROGRESS, RIGHT = 0.005, 1.0
DISCOUNT, KEPT = 0.99, 0.95  # of rewards that come later; of the baseline
FIRST, GROWTH, ENOUGH = 0.1, 0.1, 0.35  # share of the path; reward that lengthens it

Tensors = dict[str, Tensor]


class Eyes(nn.Module):
    """The CNN: an encoder that navigation reads, and a head with three decoders that
    only pre-training needs.

    Args:
        size: height and width of a frame, in pixels.
        channels: of the encoder's blocks.
        kernel: of its convolutions.
        padding: around each of them.
        head: channels of the head.
        reach: kernel of the head's first convolution.
        num_classes: of the segmentation.
        dropout: of the head's channels.

    Raises:
        ValueError: for fewer than three blocks, or frames too small for them.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (224, 224),
        channels: Sequence[int] = (8, 16, 32, 32),
        kernel: int = 5,
        padding: int = 0,
        head: int = 512,
        reach: int = 5,
        num_classes: int = 191,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        expect(len(channels) >= 3, "three blocks or more", channels)
        self.blocks = nn.ModuleList()
        sides: tuple[int, ...] = size
        for before, after in pairwise((3, *channels)):
            self.blocks.append(block(before, after, kernel, padding))
            sides = tuple((side + 2 * padding - kernel + 1) // 2 for side in sides)
        expect(min(sides) >= reach, f"frames that leave {reach} pixels", sides)
        self.size, self.num_classes = size, num_classes
        self.num_features = channels[-1] * sides[0] * sides[1]
        outputs = num_classes + 1 + 3
        self.head = nn.Sequential(
            *unit(channels[-1], head, reach, dropout),
            *unit(head, head, 1, dropout),
            nn.Conv2d(head, outputs, 1),
        )
        # Of the two blocks before the last, finest last.
        skips = [nn.Conv2d(channels[i], outputs, 1) for i in (-2, -3)]
        self.skips = nn.ModuleList(skips)

    def maps(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Each block's map."""
        check_images(images)
        expect(images.shape[1:] == (3, *self.size), f"frames {self.size}", images.shape)
        found = [images]
        for one in self.blocks:
            found.append(one(found[-1]))
        return found[1:]

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """What the agent knows of a frame: the last map, in a line."""
        return self.maps(images)[-1].flatten(1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Tensors:
        """The pre-training tasks.

        Returns:
            ``labels`` (b, c, h, w), scores; ``depth`` (b, h, w) and ``images`` (b, 3,
            h, w), in [0, 1].
        """
        *_, third, second, last = self.maps(images)
        scores = self.head(last)
        for skip, finer in zip(self.skips, (second, third), strict=True):
            scores = resized(scores, finer.shape[2:]) + skip(finer)
        scores = resized(scores, images.shape[2:])
        sizes = [self.num_classes, 1, 3]
        labels, depth, colours = scores.split(sizes, 1)
        return {
            "labels": labels,
            "depth": depth[:, 0].sigmoid(),
            "images": colours.sigmoid(),
        }


def block(before: int, after: int, kernel: int, padding: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU, and the maximum of 2 x 2.

    Args:
        before, after: channels.
        kernel, padding: of the convolution.
    """
    conv = nn.Conv2d(before, after, kernel, padding=padding)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))


def unit(before: int, after: int, kernel: int, dropout: float) -> list[nn.Module]:
    """A layer of the head, which drops whole channels.

    Args:
        before, after: channels.
        kernel: of the convolution.
        dropout: share of the channels.
    """
    conv = nn.Conv2d(before, after, kernel)
    return [conv, nn.BatchNorm2d(after), nn.ReLU(), nn.Dropout2d(dropout)]


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear."""
    return functional.interpolate(maps, tuple(size), mode="bilinear")


class Standard(nn.BatchNorm1d):
    """Batch normalisation of vectors on any number of axes, without scale and shift."""

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, values: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Each entry with mean 0 and deviation 1."""
        return super().forward(values.flatten(0, -2)).view(values.shape)


class Question(nn.Module):
    """Two LSTM layers over the words; the state at the last one.

    Args:
        num_words: of the vocabulary.
        width: of the words and of the states.
        dropout: between the layers.
        normal: whether the state is normalised.
    """

    def __init__(
        self, num_words: int, width: int, *, dropout: float, normal: bool
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, width)
        self.lstm = nn.LSTM(width, width, 2, batch_first=True, dropout=dropout)
        self.normal = Standard(width) if normal else nn.Identity()

    def forward(self, tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """One vector a question; ``PAD`` follows its last word.

        Raises:
            ValueError: for words that are not known, or a question without any.
        """
        tokens = check_tokens(tokens, self.words.num_embeddings)
        lengths = (tokens != PAD).sum(1)
        expect(len(tokens) and lengths.min() > 0, "questions with words", tokens.shape)
        different, which = tokens.unique(dim=0, return_inverse=True)
        states, _ = self.lstm(self.words(different))
        return self.normal(states[which, lengths - 1])


class Navigator(nn.Module):
    """Planner and controller.

    Args:
        num_features: of a frame.
        num_words: of the questions.
        image, question, action, hidden, controller: widths.
        most: how often an action is taken in a row before the planner is asked again;
            with 1 there is no controller, and the planner is a flat GRU.
        memory: whether the planner keeps its state from one decision to the next.
        multiply: whether the question multiplies the image, else it stands beside it.
        normal: whether image and question are normalised first.
        dropout: of what is read of image and question.

    Raises:
        ValueError: for a width, or a row of actions, below 1.
    """

    def __init__(
        self,
        *,
        num_features: int,
        num_words: int,
        image: int = 128,
        question: int = 64,
        action: int = 32,
        hidden: int = 1024,
        controller: int = 256,
        most: int = 5,
        memory: bool = True,
        multiply: bool = False,
        normal: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        at_least(1, image=image, question=question, hidden=hidden, most=most)
        self.most, self.memory, self.multiply = most, memory, multiply
        self.question = Question(num_words, question, dropout=dropout, normal=normal)
        words = image if multiply else question
        beside = dense(question, words, dropout)
        self.ask = nn.Linear(question, words) if multiply else beside
        first = Standard(num_features) if normal else nn.Identity()
        self.look = nn.Sequential(first, *dense(num_features, image, dropout))
        self.actions = nn.Embedding(ACTIONS, action)
        self.gru = nn.GRU(image + words + action, hidden, batch_first=True)
        self.planner = nn.Linear(hidden, ACTIONS)
        if most > 1:
            inner = nn.Linear(image + action + hidden, controller)
            last = nn.Linear(controller, 2)
            self.controller = nn.Sequential(inner, nn.ReLU(), last)

    def asked(self, tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b q"]:
        """The question, once an episode."""
        return self.ask(self.question(tokens))

    def plan(
        self, image: Tensor, asked: Tensor, before: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Planner decisions in a row.

        Args:
            image: (b, n, i) of the frames at which they are made.
            asked: (b, q), the question.
            before: (b, n), the action of the decision before; ``STOP`` for none.
            state: (1, b, h), zeros at first.

        Returns:
            Its states (b, n, h), the last of them again, and the actions' scores.
        """
        count = image.shape[1]
        words = asked[:, None].expand(-1, count, -1)
        words = image * words if self.multiply else words
        inputs = torch.cat([image, words, self.actions(before)], -1)
        if self.memory:
            states, state = self.gru(inputs, state)
        else:
            alone, _ = self.gru(inputs.flatten(0, 1)[:, None])
            states = alone.unflatten(0, inputs.shape[:2])[:, :, 0]
        return states, state, self.planner(states)

    def control(self, image: Tensor, action: Tensor, state: Tensor) -> Tensor:
        """Scores of giving back to the planner and of doing it again.

        Args:
            image: (..., i), the frame after the action.
            action: (...), which it was.
            state: (..., h), the planner's when it chose it.
        """
        return self.controller(torch.cat([image, self.actions(action), state], -1))

    def forward(
        self,
        features: Float[Tensor, "b t f"],
        tokens: Int[Tensor, "b l"],
        actions: Int[Tensor, "b t"],
        fresh: Bool[Tensor, "b t"],
    ) -> Tensors:
        """The scores of whole episodes, whose actions are known.

        Args:
            features: of each frame.
            tokens: the question.
            actions: what was done at each frame.
            fresh: where the planner chose it, and not the controller.

        Returns:
            ``planner`` (b, t, a), which mean something at fresh frames, and
            ``controller`` (b, t, 2): whether to do again what was done before.
        """
        image, asked = self.look(features), self.asked(tokens)
        decision = fresh.long().cumsum(1) - 1
        # The fresh frames first: the planner never sees the others.
        order = (~fresh).long().argsort(stable=True, dim=1)
        chosen = actions.gather(1, order)
        begin = torch.full_like(chosen[:, :1], STOP)
        before = torch.cat([begin, chosen[:, :-1]], 1)
        start = image.new_zeros(1, len(image), self.gru.hidden_size)
        states, _, scores = self.plan(of(image, order), asked, before, start)
        outputs = {"planner": of(scores, decision)}
        if self.most > 1:
            earlier = torch.cat([decision[:, :1], decision[:, :-1]], 1)
            done = torch.cat([begin, actions[:, :-1]], 1)
            outputs["controller"] = self.control(image, done, of(states, earlier))
        return outputs


def dense(before: int, after: int, dropout: float) -> nn.Sequential:
    """A layer with ReLU and dropout.

    Args:
        before, after: widths.
        dropout: share of the outputs.
    """
    return nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout))


def of(values: Float[Tensor, "b n d"], index: Int[Tensor, "b t"]) -> Tensor:
    """Each row's values (b, t, d) at an index of its own."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def coded(actions: Int[Tensor, "b t"], *, most: int) -> Bool[Tensor, "b t"]:
    """A path as the planner's decisions: the run-length code of its actions, in runs of
    ``most`` at most.

    Args:
        actions: of each frame; what follows a stop does not count.
        most: of a run.

    Returns:
        Where a run begins.
    """
    at_least(1, most=most)
    run = torch.zeros_like(actions[:, 0])
    fresh = [run == 0]
    for before, now in pairwise(actions.unbind(1)):
        run = torch.where((now == before) & (run + 1 < most), run + 1, 0)
        fresh.append(run == 0)
    return torch.stack(fresh, 1)


def controlled(fresh: Bool[Tensor, "b t"], *, most: int) -> Bool[Tensor, "b t"]:
    """At which frames the controller was asked: after each action, but the ``most``-th
    of a run.

    Args:
        fresh: where runs begin.
        most: of a run.
    """
    at = torch.arange(fresh.shape[1], device=fresh.device)
    begun = torch.where(fresh, at, 0).cummax(1).values
    done = at - begun + 1  # of the run, with this frame's action
    asked = torch.zeros_like(fresh)
    asked[:, 1:] = done[:, :-1] < most
    return asked


class Path(NamedTuple):
    """Episodes that were walked; after its stop an episode stands still."""

    states: Int[Tensor, "b t"]  # where each frame was seen
    actions: Int[Tensor, "b t"]
    fresh: Bool[Tensor, "b t"]
    valid: Bool[Tensor, "b t"]  # up to the stop


@torch.no_grad()
def walk(
    navigator: Navigator,
    world: Mapping[str, Tensor],
    starts: Int[Tensor, " b"],
    tokens: Int[Tensor, "b l"],
    *,
    steps: int,
    generator: Generator | None = None,
) -> Path:
    """Let the agent go. The planner's state rests while the controller repeats.

    Args:
        navigator: in evaluation mode.
        world: ``features`` (s, f) of the view from each state, and ``following`` (s,
            a), the state after each action.
        starts: states.
        tokens: the questions.
        steps: frames at most.
        generator: draws the decisions; without one the best is taken.
    """
    asked = navigator.asked(tokens)
    hidden = asked.new_zeros(1, len(starts), navigator.gru.hidden_size)
    at, action = starts, torch.full_like(starts, STOP)
    going = torch.ones_like(starts, dtype=torch.bool)
    run = torch.zeros_like(starts)
    frames = []
    for step in range(steps):
        image = navigator.look(world["features"][at])
        fresh = torch.ones_like(going)
        if step and navigator.most > 1:
            scores = navigator.control(image, action, hidden[0])
            fresh = (pick(scores, generator) == 0) | (run >= navigator.most)
        before = (action[:, None], hidden)
        _, planned, scores = navigator.plan(image[:, None], asked, *before)
        if navigator.memory:
            hidden = torch.where(fresh[:, None], planned, hidden)
        chosen = pick(scores[:, 0], generator)
        action = torch.where(fresh & going, chosen, action)
        run = torch.where(fresh, 1, run + 1)
        frames.append((at, action, fresh, going))
        at = torch.where(going, world["following"][at, action], at)
        going = going & (action != STOP)
    return Path(*(torch.stack(part, 1) for part in zip(*frames, strict=True)))


def pick(scores: Float[Tensor, "b n"], generator: Generator | None) -> Tensor:
    """The best, or one drawn by its probability."""
    if generator is None:
        return scores.argmax(1)
    return torch.multinomial(scores.softmax(1), 1, generator=generator)[:, 0]


class Answerer(nn.Module):
    """Attention over the last frames, and an answer.

    Args:
        num_features: of a frame.
        num_words: of the questions.
        num_answers: to choose from.
        width: of everything else.
        normal: whether frames and question are normalised first.
        dropout: wherever the paper has it.
    """

    def __init__(
        self,
        *,
        num_features: int,
        width: int = 64,
        num_words: int,
        num_answers: int,
        normal: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        at_least(1, num_answers=num_answers, width=width)
        self.question = Question(num_words, width, dropout=dropout, normal=normal)
        first = Standard(num_features) if normal else nn.Identity()
        self.look = nn.Sequential(first, *dense(num_features, width, dropout))
        drop = nn.Dropout(dropout)
        self.of_image = nn.Sequential(nn.Linear(width, width), drop)
        self.of_question = nn.Sequential(nn.Linear(width, width), drop)
        self.attend = nn.Sequential(nn.Tanh(), drop, nn.Linear(2 * width, 1))
        layers = [drop, nn.Linear(width, width), drop, nn.ReLU()]
        self.answer = nn.Sequential(*layers, nn.Linear(width, num_answers))

    def forward(
        self, frames: Float[Tensor, "b n f"], tokens: Int[Tensor, "b l"]
    ) -> Tensors:
        """Read the answer.

        Args:
            frames: features of the last frames.
            tokens: the question.

        Returns:
            ``answers`` (b, a), scores, and ``attention`` (b, n).
        """
        image, asked = self.look(frames), self.question(tokens)
        words = self.of_question(asked)[:, None].expand(-1, frames.shape[1], -1)
        both = torch.cat([words, self.of_image(image)], -1)
        attention = self.attend(both)[..., 0].softmax(1)
        seen = (attention[..., None] * image).sum(1)
        return {"answers": self.answer(asked * seen), "attention": attention}


class Agent(nn.Module):
    """All of it: eyes, navigator and answerer.

    Args:
        eyes, navigator, answerer: their settings.
        num_words: of the questions.
        num_answers: to choose from.
    """

    def __init__(
        self,
        *,
        eyes: dict[str, Any],
        navigator: dict[str, Any],
        num_words: int,
        answerer: dict[str, Any],
        num_answers: int,
    ) -> None:
        super().__init__()
        self.eyes = Eyes(**eyes)
        sizes: dict[str, Any] = {
            "num_features": self.eyes.num_features,
            "num_words": num_words,
        }
        self.navigator = Navigator(**sizes, **navigator)
        self.answerer = Answerer(**sizes, **answerer, num_answers=num_answers)

    def forward(
        self,
        images: Float[Tensor, "b t 3 h w"],
        tokens: Int[Tensor, "b l"],
        actions: Int[Tensor, "b t"],
        fresh: Bool[Tensor, "b t"],
    ) -> Tensors:
        """Whole episodes, whose actions are known; nothing flows back to the eyes.

        Returns:
            The navigator's ``planner`` and ``controller``, and from the last frames the
            answerer's ``answers`` and ``attention``.
        """
        check_images(images.flatten(0, 1))
        with torch.no_grad():
            features = self.eyes.features(images.flatten(0, 1))
        features = features.unflatten(0, images.shape[:2])
        ways = self.navigator(features, tokens, actions, fresh)
        return ways | self.answerer(features[:, -FRAMES:], tokens)


def last_frames(valid: Bool[Tensor, "b t"]) -> Int[Tensor, "b n"]:
    """The numbers of an episode's last frames; of one that is too short the first is
    taken several times."""
    last = valid.sum(1, keepdim=True) - 1
    back = torch.arange(FRAMES - 1, -1, -1, device=valid.device)
    return (last - back).clamp(min=0)


def told(batch: Tensors, *, most: int) -> Tensors:
    """Episodes whose runs are known (``fresh``), or else found (``coded``), with where
    the controller was ``asked``.

    Args:
        batch: of episodes.
        most: actions of a run.
    """
    check_keys(batch, "actions", "valid")
    known = batch.get("fresh")
    fresh = coded(batch["actions"], most=most) if known is None else known
    asked = controlled(fresh, most=most) & batch["valid"]
    return {**batch, "fresh": fresh, "asked": asked}


def loss(
    outputs: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
) -> Tensors:
    """Imitation: the cross-entropy of what the planner chose, a mean over its
    decisions, and that of what the controller chose, over its own. With advantages it
    is the loss of REINFORCE.

    Args:
        outputs: of the navigator.
        batch: from ``told``; with ``advantage`` (b, t) each decision counts so much.
        generator: nothing is drawn.

    Returns:
        ``loss``, and its terms ``planner`` and, where there is one, ``controller``.

    Raises:
        ValueError: for a batch that lacks something, or no decisions.
    """
    check_keys(batch, "actions", "fresh", "valid", "asked")
    fresh = batch["fresh"]
    weight = batch.get("advantage", torch.ones_like(outputs["planner"][..., 0]))
    mine = fresh & batch["valid"]
    losses = {"planner": surprise(outputs["planner"], batch["actions"], mine, weight)}
    if "controller" in outputs:
        again = (~fresh).long()
        asked = batch["asked"]
        losses["controller"] = surprise(outputs["controller"], again, asked, weight)
    return {"loss": torch.stack([*losses.values()]).sum(), **losses}


def surprise(
    scores: Float[Tensor, "b t n"],
    decisions: Int[Tensor, "b t"],
    made: Bool[Tensor, "b t"],
    weight: Float[Tensor, "b t"],
) -> Float[Tensor, ""]:
    """The weighted cross-entropy of decisions, a mean over those that were made.

    Args:
        scores: of the choices.
        decisions: which was taken.
        made: where there was one.
        weight: of each.

    Raises:
        ValueError: for decisions of another shape, or an empty batch.
    """
    expect(scores.shape[:2] == decisions.shape, "a decision a frame", decisions.shape)
    expect(len(scores), "at least one episode", scores.shape)
    missed = functional.cross_entropy(scores.mT, decisions, reduction="none")
    return (missed * weight * made).sum() / made.sum().clamp(min=1)


def answer_loss(
    outputs: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
) -> Tensors:
    """Cross-entropy of the answers.

    Args:
        outputs: of the answerer.
        batch: ``answers`` (b,).
        generator: nothing is drawn.

    Returns:
        ``loss``, and the share of right answers, ``right``.
    """
    check_keys(batch, "answers")
    scores, answers = outputs["answers"], batch["answers"]
    expect(len(answers) == len(scores) > 0, "an answer for each", answers.shape)
    right = (scores.argmax(1) == answers).to(scores.dtype).mean()
    return {"loss": functional.cross_entropy(scores, answers), "right": right}


def eyes_loss(
    outputs: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
    weights: Tensor | None = None,
) -> Tensors:
    """The pre-training tasks: cross-entropy of the classes, absolute error of the
    depth, squared error of the colours.

    Args:
        outputs: of the eyes.
        batch: ``labels`` (b, h, w), ``depth`` (b, h, w) and ``images`` in [0, 1].
        generator: nothing is drawn.
        weights: of the classes.

    Returns:
        ``loss``, their sum, and its terms.
    """
    check_keys(batch, "labels", "depth", "images")
    truth = batch["labels"].long()
    classes = functional.cross_entropy(outputs["labels"], truth, weights)
    depth = functional.l1_loss(outputs["depth"], batch["depth"])
    colours = functional.mse_loss(outputs["images"], batch["images"])
    total = classes + depth + colours
    return {"loss": total, "labels": classes, "depth": depth, "images": colours}


def returns(
    rewards: Float[Tensor, "b t"], discount: float = DISCOUNT
) -> Float[Tensor, "b t"]:
    """What is still to come at each frame: its reward, and those that follow, each the
    less the later."""
    coming = torch.zeros_like(rewards[:, 0])
    found = []
    for reward in rewards.unbind(1)[::-1]:
        coming = reward + discount * coming
        found.append(coming)
    return torch.stack(found[::-1], 1)


def walked(path: Path, distance: Real[Tensor, "b t"]) -> dict[str, Float[Tensor, " b"]]:
    """The paper's measures of episodes.

    Args:
        path: from ``walk``.
        distance: geodesic, of its states, in steps.

    Returns:
        For each: ``d_T`` where it ends and ``d_min`` at its nearest; ``stopped``;
        ``hit``, stopped at the goal; ``decisions`` of the planner, ``frames``.
    """
    ends = distance[:, -1]
    stopped = (path.valid & (path.actions == STOP)).any(1)
    found = {"d_T": ends, "d_min": distance.amin(1), "stopped": stopped}
    found["hit"] = stopped & (ends == 0)
    found["decisions"] = (path.fresh & path.valid).sum(1)
    found["frames"] = path.valid.sum(1)
    return {name: values.float() for name, values in found.items()}


class Reinforce:
    """The step of REINFORCE, for ``training.train``: walk by drawn decisions, reward
    each, and make those more likely after which more came than usual.

    Episodes begin near the goal, at a share of a shortest path that grows when the
    reward is enough.

    Args:
        navigator: learns.
        answerer: answers from the last frames; it does not learn.
        optimizer: of the navigator.
        world: as for ``walk``, and ``distance`` (k, s) from each state to each thing.
        generator: draws the decisions.
        steps: frames of an episode at most.
        progress, right: rewards of a step nearer and of the right answer.
        enough: the running reward at which episodes become longer.
    """

    def __init__(
        self,
        navigator: Navigator,
        answerer: Answerer,
        optimizer: torch.optim.Optimizer,
        world: Mapping[str, Tensor],
        *,
        generator: Generator,
        steps: int,
        progress: float = PROGRESS,
        right: float = RIGHT,
        enough: float = ENOUGH,
    ) -> None:
        self.navigator, self.answerer = navigator.eval(), answerer.eval()
        self.optimizer, self.world = optimizer, world
        self.walk = partial(walk, navigator, world, steps=steps, generator=generator)
        self.progress, self.right, self.enough = progress, right, enough
        self.share, self.baseline = FIRST, 0.0

    def rewards(self, path: Path, batch: Tensors) -> Float[Tensor, "b t"]:
        """Of each frame's action: the steps that it came nearer; after a stop, too,
        whether the answer is right."""
        distance = self.world["distance"][batch["kind"][:, None], path.states]
        nearer = torch.zeros_like(distance)
        nearer[:, :-1] = distance[:, :-1] - distance[:, 1:]
        seen = path.states.gather(1, last_frames(path.valid))
        with torch.no_grad():
            said = self.answerer(self.world["features"][seen], batch["tokens"])
        right = said["answers"].argmax(1) == batch["answers"]
        stop = path.valid & (path.actions == STOP)
        return self.progress * nearer + self.right * (stop & right[:, None])

    def __call__(self, batch: Tensors) -> Tensors:
        """One update from a batch of shortest paths."""
        length = batch["valid"].sum(1) - 1
        back = (self.share * length).ceil().long().clamp(min=1)
        first = (length - back).clamp(min=0)
        starts = batch["states"].gather(1, first[:, None])[:, 0]
        path = self.walk(starts, batch["tokens"])
        rewards = self.rewards(path, batch)
        advantage = returns(rewards) - self.baseline
        known = {**path._asdict(), "tokens": batch["tokens"]}
        episodes = told(known, most=self.navigator.most)
        episodes["advantage"] = advantage
        losses = loss(imitated(self.navigator, episodes, self.world), episodes)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(self.navigator.parameters(), 2.0)
        self.optimizer.step()
        reward = rewards.sum(1).mean()
        self.baseline = KEPT * self.baseline + (1 - KEPT) * reward.item()
        if self.baseline > self.enough and self.share < 1:
            self.share = min(1.0, self.share + GROWTH)
        stopped = (path.valid & (path.actions == STOP)).any(1).float().mean()
        found: dict[str, Any] = {
            "reward": reward,
            "stopped": stopped,
            "share": self.share,
        }
        return {**losses, **found}


def imitated(
    agent: Agent | Navigator, batch: Tensors, world: Mapping[str, Tensor]
) -> Tensors:
    """What a navigator says of episodes, whose frames are looked up, for ``loss``.

    Args:
        agent: or its navigator.
        batch: from ``told``.
        world: ``features`` of each state.
    """
    navigator = agent.navigator if isinstance(agent, Agent) else agent
    features = world["features"][batch["states"]]
    return navigator(features, batch["tokens"], batch["actions"], batch["fresh"])


def answered(agent: Agent, batch: Tensors, world: Mapping[str, Tensor]) -> Tensors:
    """What an agent's answerer says at the end of episodes, for ``answer_loss``.

    Args:
        agent: whose answerer.
        batch: of episodes.
        world: ``features`` of each state.
    """
    seen = batch["states"].gather(1, last_frames(batch["valid"]))
    return agent.answerer(world["features"][seen], batch["tokens"])


# The book's frames are small.
EYES: dict[str, Any] = {"size": (16, 32), "channels": (8, 16, 32), "kernel": 3}
EYES |= {"padding": 1, "head": 64, "reach": 1, "num_classes": 9, "dropout": 0.0}
NAVIGATOR: dict[str, Any] = {"image": 64, "question": 32, "action": 16, "hidden": 96}
NAVIGATOR |= {"controller": 64, "multiply": True, "normal": True, "dropout": 0.0}
ANSWERER: dict[str, Any] = {"width": 64, "normal": True, "dropout": 0.0}
BLOCKS = {
    "blocks.*": "block *",
    "head": "head",
    "skips.*": "decoder *",
}


def tiny(**overrides: Any) -> Agent:
    """The book's scale: frames of 16 x 32 pixels, a planner of 96. Settings of a part
    that are not given keep their values."""
    parts: dict[str, Any] = {"eyes": EYES, "navigator": NAVIGATOR, "answerer": ANSWERER}
    for name, own in parts.items():
        overrides[name] = {**own, **overrides.get(name, {})}
    return Agent(**{"num_words": 12, "num_answers": 6, **overrides})


def paper(**overrides: Any) -> Agent:
    """The paper's scale: frames of 224 x 224 pixels, a planner of 1024. The words are
    as many as here; of the released code's 172 answers none is known to the houses."""
    parts: dict[str, Any] = {"eyes": {}, "navigator": {}, "answerer": {}}
    return Agent(**{"num_words": 12, "num_answers": 6, **parts, **overrides})
