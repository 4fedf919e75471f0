"""The moving picture of the first page: people who walk through what the book's papers
ask of a picture.

``make scene`` draws it anew. Nothing in it is learnt: the world ``people`` knows where
everybody is, and ``draw`` shows that truth, band by band.
"""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from papernets_lite import draw
from papernets_lite.data import people
from papernets_lite.ops.skeletons import OPENPOSE

STATIC = Path(__file__).resolve().parents[1] / "_static"
SIDE, SCALE = 720, 3  # of the square that is drawn; of joints against its pixels
TOP, BOTTOM = 378, 618  # the rows of it that are shown
FRAMES, MILLISECONDS = 60, 100
CYCLES = 7  # of everybody's steps in a loop
BANDS = 5  # as the picture, boxes, masks, joints, another light
ROUND = 1.3  # the way around, of which the picture shows 1
IDENTITIES = (21, 4, 33, 47, 8)
DAY, NIGHT = (people.DOMAINS.index(name) for name in ("daylight", "night"))
STILL = 33  # the frame that stands for all
QUALITY = 28


def walkers() -> people.Scene:
    """Five people on a meadow, all turned to the right."""
    count = len(IDENTITIES)
    generator = torch.Generator().manual_seed(10)
    spacing, height = (0.2, 0.2), (0.27, 0.27)
    scene = people.sample(
        1, generator, people=(count, count), spacing=spacing, height=height
    )
    ahead = torch.tensor([1.15, 1.3, 1.0, 1.25, 1.1])
    return replace(
        scene,
        identity=torch.tensor([IDENTITIES]),
        ground=torch.tensor([[0.815, 0.82, 0.826, 0.833, 0.84]]),
        facing=torch.stack([ahead.sin(), ahead.cos()], -1)[None],
        horizon=torch.tensor([0.74]),
        clutter=scene.clutter * torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0]),
    )


def film() -> people.Scene:
    """The frames of a loop: all walk around once, evenly spaced, each in a rhythm of
    their own."""
    still = walkers()
    count = len(IDENTITIES)
    time = torch.arange(FRAMES) / FRAMES
    walk = torch.tensor([people.ACTIONS.index("walk")])
    joints, feet, depths = [], [], []
    for person in range(count):
        moments = CYCLES * time[None] + 0.37 * person
        frames = people.act(still, walk, moments)
        hips = frames.joints[:, person, [8, 11], 0].mean(-1)
        place = (time + person / count) % 1 * ROUND - (ROUND - 1) / 2
        shift = torch.stack([place - hips, torch.zeros(FRAMES)], -1)[:, None]
        joints.append(frames.joints[:, person] + shift)
        feet.append(frames.feet[:, person] + shift)
        depths.append(frames.depths[:, person])
    moved = {
        "joints": torch.stack(joints, 1),
        "feet": torch.stack(feet, 1),
        "depths": torch.stack(depths, 1),
    }
    return replace(frames, **moved)


def shown(frames: people.Scene) -> Float[Tensor, "t 3 h w"]:
    """The frames, in each band what another paper asks for.

    Args:
        frames: of ``film``, or some of them.
    """
    count = len(frames)
    day = replace(frames, domain=torch.full((count,), DAY))
    night = people.render(replace(frames, domain=torch.full((count,), NIGHT)), SIDE)
    pictures, truth = people.render(day, SIDE), people.annotate(day, SIDE)
    small = people.render(day, SIDE // SCALE)
    out = torch.ones_like(pictures)
    for i, picture in enumerate(pictures):
        joints = truth["keypoints"][i] / SCALE, truth["in_frame"][i]
        bands = (
            picture,
            draw.boxes(picture, truth["boxes"][i], scale=1),
            draw.masks(picture, truth["person_masks"][i], scale=1),
            draw.skeleton(small[i], *joints, OPENPOSE.limbs, scale=SCALE),
            night[i],
        )
        for number, band in enumerate(bands):
            left, right = (SIDE * k // BANDS for k in (number, number + 1))
            out[i, :, :, left + (number > 0) : right - 1] = band[
                :, :, left + (number > 0) : right - 1
            ]
    return out[:, :, TOP:BOTTOM]


def images(pictures: Float[Tensor, "t 3 h w"]) -> list[Image.Image]:
    """Pictures for a file."""
    bytes_ = (255 * pictures).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [Image.fromarray(one) for one in bytes_.numpy()]


def main() -> None:
    """Write the moving picture, and the still one for those who want no motion."""
    frames = images(shown(film()))
    frames[STILL].save(STATIC / "scene-still.webp", quality=70, method=6)
    frames[0].save(
        STATIC / "scene.avif",
        save_all=True,
        append_images=frames[1:],
        duration=MILLISECONDS,
        quality=QUALITY,
        speed=4,
    )


if __name__ == "__main__":
    main()
