"""The world `motion`: films of the objects of `shapes`, which drift, turn, swell, hide
each other, come and go.

The camera stands still; some frames are out of focus. Objects are plain: a pattern
would stay behind when they move.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import torch
from jaxtyping import Float, Int
from torch import Tensor

from papernets_lite.data import canvas, shapes
from papernets_lite.data.canvas import Draws, Range, check_range
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
    n: int,
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
        frames: of each film.
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
    expect(frames >= 2, "at least two frames", frames)
    scene = shapes.sample(
        n, generator, objects=objects, radius=radius, textures=("plain",), **looks
    )
    # One seed for each film, from what it has drawn already: so it does not depend on
    # the others.
    draws = Draws((scene.backgrounds[:, :2] * 2**24).long() @ torch.tensor([2**24, 1]))
    m, time = objects[1], torch.arange(frames)[None, :, None]
    way = draws.uniform(-math.pi, math.pi, m)
    step = draws.uniform(*speed, m)[..., None] * torch.stack([way.cos(), way.sin()], -1)
    passing = draws.uniform(0, 1, m) < leaving
    # when it is where ``scene`` has it, which is in view
    meet = draws.integers(0, frames, m)
    swing = (
        2
        * math.pi
        * (
            time * draws.uniform(1 / 24, 1 / 8, m)[:, None]
            + draws.uniform(0, 1, m)[:, None]
        )
    )
    radii = scene.radii[:, None] * (
        1 + zoom * draws.uniform(0, 1, m)[:, None] * swing.sin()
    )
    straight = (
        scene.centres[:, None] + step[:, None] * (time - meet[:, None])[..., None]
    )
    wall = (scene.radii * (1 + zoom))[:, None, :, None].clamp(max=0.49)
    room = 1 - 2 * wall
    folded = wall + room - ((straight - wall).remainder(2 * room) - room).abs()
    return Film(
        scene=scene,
        centres=torch.where(passing[:, None, :, None], straight, folded),
        radii=radii,
        angles=scene.angles[:, None] + draws.uniform(-spin, spin, m)[:, None] * time,
        blur=draws.uniform(*blur, frames) * (draws.uniform(0, 1, frames) < unclear),
        grain=draws.integers(0, 64, frames, 2),
    )


def stills(film: Film) -> shapes.Scene:
    """The frames of all films as scenes of ``shapes``, film after film."""
    frames = film.blur.shape[1]
    moving = {
        name: getattr(film, name).flatten(0, 1)
        for name in ("centres", "radii", "angles", "grain")
    }
    return replace(
        film.scene[torch.arange(len(film)).repeat_interleave(frames)], **moving
    )


def render(film: Film, size: int) -> Float[Tensor, "n t 3 size size"]:
    """Draw the films."""
    images = shapes.render(stills(film), size)
    for place in film.blur.flatten().nonzero()[:, 0].tolist():
        sigma = film.blur.flatten()[place].item() * size
        for channel in images[place].numpy():
            cv2.GaussianBlur(channel, (0, 0), sigma, dst=channel)
    return images.unflatten(0, film.blur.shape)


def annotate(film: Film, size: int) -> dict[str, Tensor]:
    """The ground truth of ``render(film, size)``.

    Returns:
        ``boxes`` (n, t, m, 4) xyxy around what lies in the image, hidden or not;
        ``labels`` (n, t, m); ``valid`` (n, t, m): some of it lies in the image;
        ``visible`` (n, t, m): the share of the whole object that is seen, in [0, 1];
        ``flow`` (n, t - 1, 2, size, size): (dx, dy) in pixels from each pixel of a
        frame to where the same point is in the next, seen there or not; 0 for the
        ground and its shadows. An object is its place m.
    """
    n, t, _ = film.radii.shape
    scene = stills(film)
    truth = shapes.annotate(scene, size)
    corners = shapes.outlines(scene, size)
    turned = corners.roll(-1, 2)
    whole = (corners[..., 0] * turned[..., 1] - corners[..., 1] * turned[..., 0]).sum(
        2
    ).abs() / 2
    visible = (truth["masks"].sum((2, 3)) / whole).clamp(max=1).unflatten(0, (n, t))
    boxes, labels, masks, areas = (
        truth[name].unflatten(0, (n, t))
        for name in ("boxes", "labels", "masks", "areas")
    )
    # p -> c' + r' / r R(a' - a) (p - c), written as p + M p + shift for each object.
    turn = film.angles.diff(dim=1)
    grow = film.radii[:, 1:] / film.radii[:, :-1]
    a, b = grow * turn.cos() - 1, grow * turn.sin()
    x, y = (film.centres[:, :-1] * size).unbind(-1)
    shift = film.centres.diff(dim=1) * size - torch.stack(
        [a * x - b * y, b * x + a * y], -1
    )
    numbers = torch.cat([a[..., None], b[..., None], shift], -1)  # (n, t - 1, m, 4)
    flow = torch.zeros(n, t - 1, 2, size, size)
    column, row = (
        (torch.arange(size) + 0.5)[None, :],
        (torch.arange(size) + 0.5)[:, None],
    )
    for i, j, k in (areas[:, :-1] > 0).nonzero().tolist():
        a, b, right, down = numbers[i, j, k].tolist()
        mask = masks[i, j, k]
        flow[i, j][:, mask] = torch.stack(
            [a * column - b * row + right, b * column + a * row + down]
        )[:, mask]
    return {
        "boxes": boxes,
        "labels": labels,
        "valid": areas > 0,
        "visible": visible,
        "flow": flow,
    }
