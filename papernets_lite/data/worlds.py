"""What every world gives: factors that are drawn, pictures of them, and their truth."""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

S = TypeVar("S")


class World(Protocol[S]):
    """A module that draws pictures whose every factor is known.

    Factors are a frozen dataclass of tensors with the pictures along the first axis
    (``canvas.Factors``): picture i does not depend on how many are drawn, so the first
    pictures of a larger request are those of a smaller one. A few pictures are taken
    with ``scene[:5]``, and ``dataclasses.replace`` changes one factor and nothing else.
    """

    def sample(self, n: int, generator: torch.Generator) -> S:
        """Draw the factors of ``n`` pictures. A world's own keywords narrow, fix or
        hold out factors.

        Args:
            n: how many, at least 1; NumPy's whole numbers will do.
            generator: CPU generator; the same seed gives the same factors on every
                machine.

        Raises:
            ValueError: for what the world cannot draw.
        """

    def render(self, scene: S, size: int, /) -> Float[Tensor, "n *t 3 h w"]:
        """The pictures, float32 in [0, 1]; films have their frames t before the
        colours.

        Args:
            scene: what ``sample`` gave.
            size: side of a picture in pixels, at least 16.

        Raises:
            ValueError: for a size that is too small or no whole number.
        """

    def annotate(self, scene: S, size: int, /) -> dict[str, Tensor]:
        """The truth of ``render(scene, size)``, by name, each with the pictures along
        the first axis.

        ``boxes`` are xyxy in pixels and lie in the frame, zeros for what ``valid``
        calls absent; ``masks`` and ``valid`` are bool; maps have the pictures' size.

        Args:
            scene: what ``sample`` gave.
            size: side of a picture in pixels, at least 16.

        Raises:
            ValueError: for a size that is too small or no whole number.
        """


NAMES = (
    "cells",
    "coasts",
    "faces",
    "motion",
    "people",
    "rooms",
    "shapes",
    "streets",
    "toys",
)

if TYPE_CHECKING:
    # mypy compares each world with the protocol
    from . import cells, coasts, faces, motion, people, rooms, shapes, streets, toys

    _CELLS: World[cells.Scene] = cells
    _COASTS: World[coasts.Scene] = coasts
    _FACES: World[faces.Scene] = faces
    _MOTION: World[motion.Film] = motion
    _PEOPLE: World[Any] = people
    _ROOMS: World[rooms.Scene] = rooms
    _SHAPES: World[shapes.Scene] = shapes
    _STREETS: World[streets.Scene] = streets
    _TOYS: World[toys.Scene] = toys
