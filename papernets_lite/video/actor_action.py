"""Actor and Action Video Segmentation from a Sentence.

Kirill Gavrilyuk, Amir Ghodrati, Zhenyang Li, Cees G. M. Snoek. CVPR 2018, arXiv
1803.07485.
Official code: none found; the authors' page has the sentences. The video encoder is
I3D, arXiv 1705.07750.

Idea: a sentence makes the weights of a 1x1 convolution, and this convolution, run over
the features of a film, answers to the one object that the sentence names.

Differs:
    1. A film is asked several sentences at once: its features are computed once, and
       the loss is a mean over sentences, too. With one sentence it is the paper's.
    2. ``gain``: features of length 1 in 66 channels, filtered by numbers of tanh, learn
       slowly. The book's nets lengthen them; 1 is the paper's.
    3. Words behind the end of a sentence are masked, so that padding changes nothing.
    4. ``head=Beside`` lays the sentence beside the features and lets a small network
       judge both: a control, not in the paper.
    5. I3D's poolings keep what is left over instead of padding, and convolutions pad
       evenly, as torchvision's GoogLeNet does. Sides divisible by 16 give equal sizes.

Guessed:
    Coordinates are appended to the coarsest features alone. A ReLU ends each step of
    the decoder; its transposed convolutions start as bilinear enlarging (FCN) of a
    random mix of channels. Where half of a coarse cell is object, the cell is object.

Example:
    >>> from papernets_lite.video import actor_action
    >>> films, tokens = torch.rand(2, 5, 3, 32, 32), torch.ones(2, 7, 4).long()
    >>> [tuple(maps.shape) for maps in actor_action.tiny()(films, tokens)]
    [(2, 7, 8, 8), (2, 7, 32, 32)]
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.ops.checks import (
    at_least,
    check_finite,
    check_inputs,
    check_keys,
    check_mask,
    expect,
)
from papernets_lite.ops.tokens import PAD, check_filled, check_tokens
from papernets_lite.segmentation.fcn import bilinear_kernel

WORDS = 811 + 225 + 189  # nouns, verbs and adjectives of A2D Sentences
WORD2VEC = 300  # numbers of a word, and of a sentence
WIDTHS = (256, 128)  # of the decoder's two maps
KERNEL, FACTOR = 8, 4  # of the transposed convolutions
EPS = 1e-3  # of I3D's batch normalisation


class Conv(NamedTuple):
    """A 3-D convolution, batch normalisation and a ReLU."""

    channels: int
    kernel: tuple[int, int]  # in time, in space
    stride: tuple[int, int] = (1, 1)
    valid: bool = False  # no frames of zeros around the film: it loses some

    def build(self, channels: int) -> nn.Module:
        """The layers, for maps of that many channels."""
        kernel, stride = _cube(self.kernel), _cube(self.stride)
        around = (0 if self.valid else kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        conv = nn.Conv3d(channels, self.channels, kernel, stride, around, bias=False)
        norm = nn.BatchNorm3d(self.channels, eps=EPS)
        return nn.Sequential(conv, norm, nn.ReLU(inplace=True))

    def after(self, channels: int) -> int:
        """How many channels come out."""
        return self.channels

    def frames(self, count: int) -> int:
        """How many frames come out of so many."""
        kernel, step = self.kernel[0], self.stride[0]
        around = 0 if self.valid else 2 * (kernel // 2)
        return (count + around - kernel) // step + 1


class Pool(NamedTuple):
    """A max-pooling; ``kernel`` and ``stride`` in time and in space."""

    kernel: tuple[int, int]
    stride: tuple[int, int]

    def build(self, channels: int) -> nn.Module:
        """The layer; what is left over at the end of a row is pooled, too."""
        kernel, stride = _cube(self.kernel), _cube(self.stride)
        return nn.MaxPool3d(kernel, stride, ceil_mode=True)

    def after(self, channels: int) -> int:
        """As many channels as come in."""
        return channels

    def frames(self, count: int) -> int:
        """How many frames come out of so many."""
        return math.ceil((count - self.kernel[0]) / self.stride[0]) + 1


class Mixed(NamedTuple):
    """I3D's inception block: four ways side by side."""

    point: int  # channels of the 1x1x1 way
    wide: tuple[int, int]  # of a 1x1x1 and a 3x3x3 behind it
    thin: tuple[int, int]  # the same again
    pooled: int  # of a 1x1x1 behind a pooling
    stride: tuple[int, int] = (1, 1)

    def build(self, channels: int) -> nn.Module:
        """The block, for maps of that many channels."""
        ways: list[nn.Module] = [Conv(self.point, (1, 1)).build(channels)]
        for narrow, width in (self.wide, self.thin):
            squeeze = Conv(narrow, (1, 1)).build(channels)
            ways.append(nn.Sequential(squeeze, Conv(width, (3, 3)).build(narrow)))
        pool = nn.MaxPool3d(3, 1, 1)
        ways.append(nn.Sequential(pool, Conv(self.pooled, (1, 1)).build(channels)))
        return Beam(ways)

    def after(self, channels: int) -> int:
        """The four ways' channels together."""
        return self.point + self.wide[1] + self.thin[1] + self.pooled

    def frames(self, count: int) -> int:
        """As many frames as come in."""
        return count


class Beam(nn.ModuleList):
    """Modules that read the same maps; their outputs are laid side by side."""

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        """All ways, their channels in order."""
        return torch.cat([way(x) for way in self], 1)


Plan = Sequence[Conv | Pool | Mixed]

# I3D up to Mixed_4f, and the two blocks that follow it.
I3D: Plan = (
    Conv(64, (7, 7), (2, 2)),
    Pool((1, 3), (1, 2)),
    Conv(64, (1, 1)),
    Conv(192, (3, 3)),
    Pool((1, 3), (1, 2)),
    Mixed(64, (96, 128), (16, 32), 32),
    Mixed(128, (128, 192), (32, 96), 64),
    Pool((3, 3), (2, 2)),
    Mixed(192, (96, 208), (16, 48), 64),
    Mixed(160, (112, 224), (24, 64), 64),
    Mixed(128, (128, 256), (24, 64), 64),
    Mixed(112, (144, 288), (32, 64), 64),
    Mixed(256, (160, 320), (32, 128), 128),
)
I3D_END: Plan = (
    Pool((2, 2), (2, 2)),
    Mixed(256, (160, 320), (32, 128), 128),
    Mixed(384, (192, 384), (48, 128), 128),
)


def _cube(sides: tuple[int, int]) -> tuple[int, int, int]:
    return sides[0], sides[1], sides[1]


class Trunk(nn.Sequential):
    """A plan's layers in order; they read films (b, 3, t, h, w).

    Args:
        plan: of the layers.

    Raises:
        ValueError: for no layers.
    """

    def __init__(self, plan: Plan) -> None:
        expect(plan, "at least one layer", plan)
        layers, channels = [], 3
        for step in plan:
            layers.append(step.build(channels))
            channels = step.after(channels)
        super().__init__(*layers)
        self.plan, self.channels = plan, channels
        self.stride = math.prod(step.stride[1] for step in plan)

    def frames(self, count: int) -> int:
        """How many frames are left of so many; below 1 where it reads longer films."""
        for step in self.plan:
            count = step.frames(count)
        return count


class Sentence(nn.Module):
    """Words to a vector: pairs of neighbours are convolved, and each channel keeps its
    largest answer.

    Args:
        num_words: of the vocabulary, ``PAD`` included.
        dim: numbers of a word.
        channels: of the sentence's vector.
        frozen: word vectors stay what they are, as the paper's word2vec.

    Raises:
        ValueError: for sizes below 1.
    """

    def __init__(
        self, *, num_words: int, dim: int, channels: int, frozen: bool = False
    ) -> None:
        super().__init__()
        at_least(1, num_words=num_words, dim=dim, channels=channels)
        vectors = torch.randn(num_words, dim)
        vectors[PAD] = 0
        self.words: Tensor
        if frozen:
            self.register_buffer("words", vectors)
        else:
            self.words = nn.Parameter(vectors)
        self.pairs = nn.Conv1d(dim, channels, 2)

    def forward(self, tokens: Integer[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """The vectors of sentences.

        Args:
            tokens: words, filled up with ``PAD``, which changes nothing.

        Raises:
            ValueError: for what are no words, and as ``check_filled``.
        """
        words = check_tokens(tokens, len(self.words))
        spoken = check_filled(words)
        # a zero behind the last word: so each word begins a pair
        looked_up = functional.embedding(words, self.words, PAD)
        vectors = functional.pad(looked_up.mT, (0, 1))
        answers = self.pairs(vectors).relu()
        return (answers * spoken[:, None]).amax(2)


def locate(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """Append two channels that say where a cell is: x and y, from -1 at the left and
    the top to 1."""
    rows, columns = maps.shape[-2:]
    y, x = (torch.linspace(-1, 1, side).to(maps) for side in (rows, columns))
    place = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)])
    return torch.cat([maps, place.expand(len(maps), -1, -1, -1)], 1)


class Filter(nn.Module):
    r"""The dynamic filter: :math:`f_r = \tanh(W_r T + b_r)`, and :math:`S_r = f_r *
    V_r`.

    Args:
        channels: of the maps :math:`V_r`.
        text: of the sentence's vector T.
    """

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        self.make = nn.Linear(text, channels)

    def forward(
        self, maps: Float[Tensor, "b c h w"], sentences: Float[Tensor, "b q d"]
    ) -> Float[Tensor, "b q h w"]:
        """The answer of each place to each sentence."""
        filters = self.make(sentences).tanh()
        return torch.einsum("bqc,bchw->bqhw", filters, maps)


class Beside(nn.Module):
    """The control: the sentence is laid beside the features at every place, and a
    hidden layer with ReLUs judges both, with as many parameters as ``Filter``. Its
    weights start as He et al. have them, without which it learns far more slowly.

    Args:
        channels: of the maps.
        text: of the sentence's vector.
    """

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        hidden = round((channels * (text + 1) - 1) / (channels + text + 2))
        self.seen = nn.Conv2d(channels, hidden, 1)
        self.said = nn.Linear(text, hidden, bias=False)
        self.score = nn.Linear(hidden, 1)
        for layer in (self.seen, self.said, self.score):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(
        self, maps: Float[Tensor, "b c h w"], sentences: Float[Tensor, "b q d"]
    ) -> Float[Tensor, "b q h w"]:
        """The answer of each place to each sentence. A 1x1 convolution of two things
        side by side is the sum of one of each."""
        said = self.said(sentences)[..., None, None]
        both = (self.seen(maps)[:, None] + said).relu()
        scored = torch.einsum("bqchw,c->bqhw", both, self.score.weight[0])
        return scored + self.score.bias


def enlarge(channels: int, width: int) -> nn.Sequential:
    """A step of the decoder: an 8x8 transposed convolution of stride 4, a 3x3
    convolution and a ReLU.

    Args:
        channels: of the coarse map.
        width: of the fine one, four times as fine.
    """
    margin = (KERNEL - FACTOR) // 2
    up = nn.ConvTranspose2d(channels, width, KERNEL, FACTOR, margin)
    mix = torch.empty(width, channels, device=up.weight.device)
    nn.init.kaiming_normal_(mix)
    with torch.no_grad():
        kernel = bilinear_kernel(KERNEL).to(up.weight)
        up.weight.copy_(mix.T[..., None, None] * kernel)
    return nn.Sequential(up, nn.Conv2d(width, width, 3, padding=1), nn.ReLU())


class ActorAction(nn.Module):
    """A film and sentences in, the answer of every place to every sentence out.

    Args:
        plan: of the video encoder.
        widths: of the decoder's maps, each four times as fine as the one before.
        num_words: of the vocabulary.
        dim: numbers of a word.
        text: of a sentence.
        gain: length of the features of a place.
        frozen: see ``Sentence``.
        head: ``Filter``, or the control ``Beside``.

    Raises:
        ValueError: for sizes below 1, a gain that is not above 0, or what ``Trunk``
            refuses.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        widths: Sequence[int],
        num_words: int,
        dim: int,
        text: int,
        gain: float = 1.0,
        frozen: bool = False,
        head: Callable[[int, int], nn.Module] = Filter,
    ) -> None:
        super().__init__()
        expect(0 < gain < math.inf, "a gain above 0", gain)
        self.trunk = Trunk(plan)
        self.text = Sentence(num_words=num_words, dim=dim, channels=text, frozen=frozen)
        channels = [self.trunk.channels + 2]
        self.ups = nn.ModuleList()
        for width in widths:
            at_least(1, width=width)
            self.ups.append(enlarge(channels[-1], width))
            channels.append(width)
        self.heads = nn.ModuleList(head(width, text) for width in channels)
        self.gain = gain

    def maps(self, films: Float[Tensor, "b t 3 h w"]) -> list[Tensor]:
        """The features V of the middle frame, from the coarsest to the finest.

        Args:
            films: in [0, 1]; sides divisible by the trunk's stride.

        Raises:
            ValueError: for what are no such films.
        """
        long = films.ndim == 5 and self.trunk.frames(films.shape[1]) > 0
        expect(long, "films (b, t, 3, h, w) of enough frames", films.shape)
        check_inputs(films[:, 0], self, multiple=self.trunk.stride)
        features = self.trunk(films.transpose(1, 2)).mean(2)
        x = locate(self.gain * functional.normalize(features, dim=1))
        found = [x]
        for up in self.ups:
            x = up(x)
            found.append(x)
        return found

    def forward(
        self, films: Float[Tensor, "b t 3 h w"], tokens: Integer[Tensor, "b q n"]
    ) -> list[Float[Tensor, "b q _ _"]]:
        """The responses S, from the coarsest to the finest.

        Args:
            films: see ``maps``.
            tokens: q sentences for each film, of up to n words.

        Raises:
            ValueError: as ``maps`` and ``Sentence``, or for another number of films.
        """
        many = tokens.ndim == 3 and len(tokens) == len(films) and tokens.shape[1] > 0
        expect(many, f"sentences (b, q, n) for {len(films)} films", tokens.shape)
        said = self.text(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        pairs = zip(self.heads, self.maps(films), strict=True)
        return [head(maps, said) for head, maps in pairs]


def targets(
    masks: Shaped[Tensor, "b q h w"], size: Sequence[int]
) -> Float[Tensor, "b q _ _"]:
    """Y of a resolution: 1 where at least half of a cell is object, else -1.

    Args:
        masks: bool, or numbers that are all 0 or 1.
        size: rows and columns of the cells.

    Raises:
        ValueError: for other masks.
    """
    expect(masks.ndim == 4 and masks.numel(), "masks (b, q, h, w)", masks.shape)
    rows, columns = size
    share = functional.adaptive_avg_pool2d(check_mask(masks).float(), (rows, columns))
    return 2.0 * (share >= 0.5) - 1


def loss(
    outputs: Sequence[Float[Tensor, "b q _ _"]],
    batch: Mapping[str, Tensor],
    *,
    weights: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r""":math:`L = \sum_r \alpha_r L_r`, with :math:`L_r` the mean of :math:`\log(1 +
    \exp(-S^r Y^r))` over places and sentences.

    Args:
        outputs: responses, from the coarsest to the finest.
        batch: ``masks`` (b, q, h, w), of the finest's size.
        weights: the :math:`\alpha_r`, 1 each in the paper; zeros and a 1 leave the
            finest alone.
        generator: nothing is drawn.

    Returns:
        ``loss``, and ``at_<side>`` for each resolution.

    Raises:
        ValueError: for masks of another shape, or another number of weights.
    """
    check_keys(batch, "masks")
    masks, alphas = batch["masks"], weights or [1.0] * len(outputs)
    expect(len(alphas) == len(outputs), f"{len(outputs)} weights", weights)
    expect(masks.shape == outputs[-1].shape, f"masks {outputs[-1].shape}", masks.shape)
    terms = {}
    for response in outputs:
        signs = targets(masks, response.shape[-2:])
        missed = functional.softplus(-response * signs)
        terms[f"at_{response.shape[-1]}"] = missed.mean()
    pairs = zip(alphas, terms.values(), strict=True)
    total = torch.stack([alpha * term for alpha, term in pairs]).sum()
    return {"loss": total, **terms}


@torch.no_grad()
def decode(
    outputs: Sequence[Float[Tensor, "b q _ _"]], *, threshold: float = 0.0
) -> Bool[Tensor, "b q h w"]:
    """The masks: where the finest response is above ``threshold``.

    Raises:
        ValueError: for responses that are not finite.
    """
    check_finite(outputs[-1], "responses")
    return outputs[-1] > threshold


# What the map of the net (``show.net``) draws as one block, and its name there.
BLOCKS = {
    "trunk.*": "film *",
    "text": "sentence",
    "ups.*": "up *",
    "heads.*": "filter *",
}


def tiny(**overrides: Any) -> ActorAction:
    """The book's scale: three 3-D convolutions to stride 4, two resolutions.

    Args:
        overrides: of ``ActorAction``.
    """
    settings: dict = {
        "plan": (
            Conv(32, (3, 5), (1, 2), valid=True),
            Conv(64, (3, 3), (1, 2), valid=True),
            Conv(64, (1, 3)),
        ),
        "widths": (24,),
        "num_words": 15,
        "dim": 32,
        "text": 64,
        "gain": 8.0,
    }
    return ActorAction(**(settings | overrides))


def paper(**overrides: Any) -> ActorAction:
    """The paper's scale: I3D to Mixed_4f, three resolutions, frozen words.

    Args:
        overrides: of ``ActorAction``.
    """
    settings: dict = {
        "plan": I3D,
        "widths": WIDTHS,
        "num_words": WORDS + 1,
        "dim": WORD2VEC,
        "text": WORD2VEC,
        "frozen": True,
    }
    return ActorAction(**(settings | overrides))
