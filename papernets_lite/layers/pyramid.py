"""A feature pyramid, and how many pixels one step on a map takes."""

import math
from collections.abc import Iterable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.ops.checks import expect


def stride(layer: nn.Module) -> int:
    """How many steps of its input one step of its output takes, on both axes: what the
    convolutions do, whatever the size of an image.

    Args:
        layer: a convolution, a pooling, layers in a row, or a residual unit, whose
            ``branch`` counts.
    """
    if isinstance(layer, nn.Sequential):
        return math.prod(stride(part) for part in layer)
    if isinstance(branch := getattr(layer, "branch", None), nn.Module):
        return stride(branch)
    own = getattr(layer, "stride", 1)
    return own[0] if isinstance(own, tuple) else own


def strides(stem: nn.Module, stages: Iterable[nn.Module]) -> list[int]:
    """The stride of the map at the end of each stage, in pixels of the image.

    Args:
        stem: what comes before the first stage.
        stages: one after the other.
    """
    found, total = [], stride(stem)
    for stage in stages:
        total *= stride(stage)
        found.append(total)
    return found


class FPN(nn.Module):
    """Feature pyramid (Lin et al., CVPR 2017): what a coarse map knows is added to
    every finer one.

    Args:
        in_channels: of the trunk's maps, the finest first.
        channels: of every level.
        extra: one more level, every second pixel of the coarsest.

    Raises:
        ValueError: for no maps.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, *, extra: bool = True
    ) -> None:
        super().__init__()
        expect(in_channels, "at least one map", in_channels)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )
        self.extra = extra

    def forward(self, maps: Sequence[Tensor]) -> list[Float[Tensor, "b c _ _"]]:
        """The levels, the finest first.

        Raises:
            ValueError: for another number of maps.
        """
        expect(len(maps) == len(self.lateral), f"{len(self.lateral)} maps", len(maps))
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for k in reversed(range(len(levels) - 1)):
            size = levels[k].shape[-2:]
            coarse = functional.interpolate(levels[k + 1], size=size, mode="nearest")
            levels[k] = levels[k] + coarse
        levels = [conv(x) for conv, x in zip(self.output, levels, strict=True)]
        return [*levels, levels[-1][:, :, ::2, ::2]] if self.extra else levels
