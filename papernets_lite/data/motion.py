"""The world `motion`: films of the objects of `shapes`, which drift, turn, swell, hide
each other, come and go.

The camera stands still; some frames are out of focus. Objects are plain: a pattern
would stay behind when they move.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

import cv2
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, shapes
from papernets_lite.data.canvas import (
    Draws,
    Range,
    check_range,
    check_size,
    is_whole,
    one_thread,
)
from papernets_lite.ops.checks import expect


@dataclass(frozen=True)
class Film(canvas.Factors):
    """The factors of n films of t frames with up to m objects; an object keeps its
    place m, which is its identity."""

    scene: shapes.Scene  # what does not change
    # (x, y), in units of the image's side; outside [0, 1] out of view
    centres: Float[Tensor, "n t m 2"]
    radii: Float[Tensor, "n t m"]  # same units
    angles: Float[Tensor, "n t m"]  # radians
    blur: Float[Tensor, "n t"]  # standard deviation, same units; 0 is in focus
    grain: Int[Tensor, "n t 2"]  # which piece of the sensor's noise


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    frames: int = 8,
    objects: tuple[int, int] = (2, 4),
    radius: Range = (0.12, 0.2),
    speed: Range = (0.01, 0.1),
    zoom: float = 0.2,
    spin: float = 0.15,
    leaving: float = 0.3,
    unclear: float = 0.2,
    blur: Range = (0.02, 0.045),
    **looks: Any,
) -> Film:
    """Draw the factors of ``n`` films; film i does not depend on ``n``.

    Args:
        n: how many films.
        generator: CPU generator; the same seed gives the same films on every machine.
        frames: of each film, at least two.
        objects: fewest and most objects in a film.
        radius: smallest and largest mean radius, in units of the image's side.
        speed: slowest and fastest, in units of the side per frame; an object keeps its
            speed.
        zoom: radii swing by at most this share around their mean, once in 8 to 24
            frames.
        spin: fastest turn, in radians per frame.
        leaving: share of the objects that cross the image's edge; the others turn back
            there.
        unclear: share of the frames that are out of focus.
        blur: least and most standard deviation of their blur, in units of the side.
        looks: for ``shapes.sample``: ``classes``, ``colours``, ``held_out``,
            ``grounds``, ``clutter``, ``noise``.

    Raises:
        ValueError: for fewer than two frames, an inverted range, a share outside [0,
            1], or what ``shapes.sample`` refuses.
    """
    ranges = {
        "speed": speed,
        "blur": blur,
        "zoom": (0, zoom),
        "leaving": (0, leaving),
        "unclear": (0, unclear),
    }
    for name, bounds in ranges.items():
        check_range(name, bounds, 0, 1)
    enough = is_whole(frames) and frames >= 2
    expect(enough, "at least two frames", frames)
    taken = {"textures"} & looks.keys()
    expect(not taken, "looks other than textures: objects that move are plain", taken)
    plain = {"textures": ("plain",), **looks}
    scene = shapes.sample(n, generator, objects=objects, radius=radius, **plain)
    # One seed for each film, from what it has drawn already: so it does not depend on
    # the others.
    drawn = (scene.backgrounds[:, :2] * 2**24).long()
    draws = Draws(drawn @ torch.tensor([2**24, 1]))
    m = objects[1]
    time = torch.arange(frames)[None, :, None]

    way = draws.uniform(-math.pi, math.pi, m)
    direction = torch.stack([way.cos(), way.sin()], -1)
    step = draws.uniform(*speed, m)[..., None] * direction
    passing = draws.uniform(0, 1, m) < leaving
    # when it is where ``scene`` has it, which is in view
    meet = draws.integers(0, frames, m)
    pace = draws.uniform(1 / 24, 1 / 8, m)[:, None]
    phase = draws.uniform(0, 1, m)[:, None]
    swing = 2 * math.pi * (time * pace + phase)
    swell = zoom * draws.uniform(0, 1, m)[:, None]
    radii = scene.radii[:, None] * (1 + swell * swing.sin())
    since = (time - meet[:, None])[..., None]
    straight = scene.centres[:, None] + step[:, None] * since
    folded = _folded(straight, scene.radii * (1 + zoom))
    turn = draws.uniform(-spin, spin, m)[:, None]
    unsharp = draws.uniform(*blur, frames)
    out_of_focus = draws.uniform(0, 1, frames) < unclear
    return Film(
        scene=scene,
        centres=torch.where(passing[:, None, :, None], straight, folded),
        radii=radii,
        angles=scene.angles[:, None] + turn * time,
        blur=unsharp * out_of_focus,
        grain=draws.integers(0, 64, frames, 2),
    )


def _folded(
    straight: Float[Tensor, "n t m 2"],
    reach: Float[Tensor, "n m"],
) -> Float[Tensor, "n t m 2"]:
    """Ways that turn back where an object of this radius meets the image's edge."""
    wall = reach[:, None, :, None].clamp(max=0.49)
    room = 1 - 2 * wall
    return wall + room - ((straight - wall).remainder(2 * room) - room).abs()


def stills(film: Film) -> shapes.Scene:
    """The frames of all films as scenes of ``shapes``, film after film."""
    frames = film.blur.shape[1]
    every = film.scene[torch.arange(len(film)).repeat_interleave(frames)]
    return replace(
        every,
        centres=film.centres.flatten(0, 1),
        radii=film.radii.flatten(0, 1),
        angles=film.angles.flatten(0, 1),
        grain=film.grain.flatten(0, 1),
    )


def render(film: Film, size: SupportsIndex) -> Float[Tensor, "n t 3 size size"]:
    """Draw the films."""
    side = check_size(size)
    images = shapes.render(stills(film), side)
    blur = film.blur.flatten()
    with one_thread():
        for place in blur.nonzero()[:, 0].tolist():
            sigma = blur[place].item() * side
            for channel in images[place].numpy():
                cv2.GaussianBlur(channel, (0, 0), sigma, dst=channel)
    return images.unflatten(0, film.blur.shape)


def annotate(film: Film, size: SupportsIndex) -> dict[str, Tensor]:
    """The ground truth of ``render(film, size)``.

    Returns:
        ``boxes`` (n, t, m, 4) xyxy around what lies in the image, hidden or not;
        ``labels`` (n, t, m); ``valid`` (n, t, m): some of it lies in the image;
        ``visible`` (n, t, m): the share of the whole object that is seen, in [0, 1];
        ``flow`` (n, t - 1, 2, size, size): (dx, dy) in pixels from each pixel of a
        frame to where the same point is in the next, seen there or not; 0 for the
        ground and its shadows. An object is its place m.
    """
    side = check_size(size)
    n, t, _ = film.radii.shape
    scene = stills(film)
    found = shapes.annotate(scene, side)
    whole = _areas(shapes.outlines(scene, side))
    seen = found["masks"].sum((2, 3))
    truth = {name: values.unflatten(0, (n, t)) for name, values in found.items()}
    valid = truth["areas"] > 0
    return {
        "boxes": truth["boxes"],
        "labels": truth["labels"],
        "valid": valid,
        "visible": (seen / whole).clamp(max=1).unflatten(0, (n, t)),
        "flow": _flow(film, truth["masks"], valid),
    }


def _areas(corners: Float[Tensor, "n m corners 2"]) -> Float[Tensor, "n m"]:
    """Of the polygons, also of what lies outside the image."""
    x, y = corners.unbind(-1)
    next_x, next_y = x.roll(-1, 2), y.roll(-1, 2)
    return (x * next_y - y * next_x).sum(2).abs() / 2


def _flow(
    film: Film,
    masks: Bool[Tensor, "n t m h w"],
    valid: Bool[Tensor, "n t m"],
) -> Float[Tensor, "n s 2 h w"]:
    """From each frame but the last to the next."""
    size = masks.shape[-1]
    # p -> c' + r' / r R(a' - a) (p - c), written as p + M p + shift for each object.
    turn = film.angles.diff(dim=1)
    grow = film.radii[:, 1:] / film.radii[:, :-1]
    a = grow * turn.cos() - 1
    b = grow * turn.sin()
    x, y = (film.centres[:, :-1] * size).unbind(-1)
    of_centre = torch.stack([a * x - b * y, b * x + a * y], -1)
    shift = film.centres.diff(dim=1) * size - of_centre
    numbers = torch.cat([a[..., None], b[..., None], shift], -1)  # (n, t - 1, m, 4)
    axis = torch.arange(size) + 0.5
    column, row = axis[None, :], axis[:, None]
    flow = torch.zeros(len(film), turn.shape[1], 2, size, size)
    for i, j, k in valid[:, :-1].nonzero().tolist():
        m11, m21, right, down = numbers[i, j, k].tolist()
        dx = m11 * column - m21 * row + right
        dy = m21 * column + m11 * row + down
        mask = masks[i, j, k]
        flow[i, j][:, mask] = torch.stack([dx, dy])[:, mask]
    return flow
