"""The world `people`: dressed figures in articulated poses, several in a picture, with every joint known.

A body is a small 3-D skeleton, turned and projected, so that left and right, front and back, and what hides what are
decided by geometry. Joints and limbs come in OpenPose's COCO-18 order.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import OVER, SHIFT, check_request, check_size, fixed, integers, uniform
from papernets_lite.data.shapes import mask_boxes

JOINTS = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee"
    " right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear"
).split()
# The limbs as released, joints counted from 1.
_PAIRS = "2-9 9-10 10-11 2-12 12-13 13-14 2-3 3-4 4-5 3-17 2-6 6-7 7-8 6-18 2-1 1-15 1-16 15-17 16-18"
LIMBS = tuple((int(a) - 1, int(b) - 1) for a, b in (pair.split("-") for pair in _PAIRS.split()))
FLIP = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
PARTS = (
    "background head torso right_upper_arm right_forearm left_upper_arm left_forearm right_thigh right_shank"
    " left_thigh left_shank"
).split()
DOMAINS = ("daylight", "tungsten", "overcast", "night")
_GAIN = torch.tensor([[1.0, 1.0, 1.0], [1.12, 0.98, 0.8], [0.92, 1.0, 1.06], [0.62, 0.7, 0.95]])
_CONTRAST = torch.tensor([1.05, 1.0, 0.8, 0.9])

# Two ends and half-width (in body heights) of each part that is a capsule, in the order of PARTS[3:].
_CAPSULES = ((2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13))
_COVERS = ("upper_arm", "forearm", "upper_arm", "forearm", "thigh", "shank", "thigh", "shank")
_ONE = 1 << SHIFT  # a fine pixel in OpenCV's fixed point
_WIDTHS = (0.034, 0.028, 0.034, 0.028, 0.046, 0.036, 0.046, 0.036)

_SKIN = ((255, 219, 190), (238, 190, 150), (205, 150, 110), (150, 100, 70), (100, 66, 48))
_HAIR = ((35, 28, 26), (80, 50, 32), (150, 100, 50), (215, 180, 110), (120, 120, 122), (165, 70, 40))
_CLOTH = (
    *canvas.PALETTE.values(),
    (45, 48, 60),
    (120, 110, 95),
    (200, 120, 140),
    (95, 120, 85),
)


@dataclass(frozen=True)
class Scene:
    """The factors of n images with up to p people; a later person stands in front of an earlier one."""

    joints: Float[Tensor, "n p 18 2"]  # (x, y), in units of the image's side
    depths: Float[Tensor, "n p 18"]  # towards the camera, in body heights
    feet: Float[Tensor, "n p 2 2"]  # toes
    heights: Float[Tensor, "n p"]  # in units of the image's side
    facing: Float[Tensor, "n p 2"]  # (right, towards the camera): where the face looks
    valid: Bool[Tensor, "n p"]
    identity: Int[Tensor, "n p"]  # fixes skin, hair and clothes
    domain: Int[Tensor, " n"]  # camera, an index into DOMAINS
    backgrounds: Float[Tensor, "n 4"]
    seed: int  # of the sensor's noise

    def __len__(self) -> int:
        return len(self.joints)


def _appearance(identity: Tensor) -> dict[str, np.ndarray]:
    """The same look for the same identity, everywhere and always."""
    i = identity.numpy().astype(np.int64)

    def draw(salt: int, choices: int) -> np.ndarray:
        # A multiplicative hash: neighbours in identity look unrelated.
        return ((i * 2654435761 + salt * 40503) % 2**32 // 977 + i * salt) % choices

    shirt = draw(3, len(_CLOTH))
    trousers = draw(5, len(_CLOTH))
    return {
        "skin": draw(1, len(_SKIN)),
        "hair": draw(2, len(_HAIR)),
        "shirt": shirt,
        "trousers": np.where(trousers == shirt, (trousers + 3) % len(_CLOTH), trousers),
        "texture": draw(7, 5),
        "sleeves": draw(11, 3),  # none, to the elbow, to the wrist
        "legs": draw(13, 3),  # shorts, trousers, skirt
        "long_hair": draw(17, 2),
        "shoes": draw(19, len(_CLOTH)),
    }


def sample(
    n: int,
    generator: torch.Generator,
    *,
    people: tuple[int, int] = (2, 4),
    spacing: tuple[float, float] = (0.15, 0.35),
    height: tuple[float, float] = (0.62, 0.85),
    identities: tuple[int, int] = (0, 1000),
    domains: tuple[int, ...] = (0, 1, 2, 3),
) -> Scene:
    """Draw the factors of ``n`` images.

    Args:
        n: how many images.
        generator: CPU generator; the same seed gives the same scene on every machine.
        people: fewest and most people in an image.
        spacing: distance between neighbours, in units of the image's side; small values make crowds.
        height: of a standing person, in units of the image's side.
        identities: range of identities that may occur (hold some out for testing).
        domains: cameras that may occur, indices into ``DOMAINS``.

    Raises:
        ValueError: for an empty or inverted range.
    """
    check_request(n, generator)
    low, high = people
    if not 1 <= low <= high:
        raise ValueError(f"expected people=(low, high) with 1 <= low <= high, got {people}")
    for name, (a, b) in {"spacing": spacing, "height": height, "identities": identities}.items():
        if not 0 <= a <= b:
            raise ValueError(f"expected {name}=(low, high) with 0 <= low <= high, got {(a, b)}")
    if not domains or not set(domains) <= set(range(len(DOMAINS))):
        raise ValueError(f"expected domains from {tuple(range(len(DOMAINS)))}, got {domains}")

    body, toes, yaw = _bodies((n, high), generator)
    size = uniform(generator, *height, n, high)
    count = integers(generator, low, high + 1, n, 1)
    # People stand side by side, `spacing` apart, the row centred in the image; some lean out of the frame.
    gap = uniform(generator, *spacing, n, high)
    across = gap.cumsum(1)
    last = across.gather(1, count - 1)
    across = 0.5 + across - (across[:, :1] + last) / 2 + uniform(generator, -0.06, 0.06, n, 1)
    # Front to back: a permutation of the places, so that the one in front is anywhere in the row.
    valid = torch.arange(high) < count
    order = torch.where(valid, torch.rand(n, high, generator=generator), 2.0).argsort(1)
    across = across.gather(1, order)
    down = uniform(generator, 0.5, 0.56, n, high)
    where = torch.stack([across, down], -1)
    flip = torch.tensor([1.0, -1.0])
    scale = size[..., None, None]
    return Scene(
        joints=where[:, :, None] + scale * body[..., :2] * flip,
        depths=body[..., 2],
        feet=where[:, :, None] + scale * toes[..., :2] * flip,
        heights=size,
        facing=torch.stack([yaw.sin(), yaw.cos()], -1),
        valid=valid,
        identity=integers(generator, identities[0], max(identities[1], identities[0] + 1), n, high),
        domain=torch.tensor(domains)[integers(generator, 0, len(domains), n)],
        backgrounds=torch.rand(n, 4, generator=generator),
        seed=int(integers(generator, 0, 2**31 - 1, 1)),
    )


def _bodies(shape: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Poses: joints (n, p, 18, 3) and toes (n, p, 2, 3) as (right, up, towards camera) in heights, and yaw."""

    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, low, high, *shape)

    def swing(up: Tensor, side: Tensor, forward: Tensor, length: float) -> Tensor:
        """A bone that hangs down, swung by ``forward`` about the side axis, then sideways."""
        return length * torch.stack(
            [side.sin() * torch.ones_like(up), -side.cos() * forward.cos(), side.cos() * forward.sin()], -1
        )

    def point(x: float, y: float, z: float) -> Tensor:
        return torch.tensor([x, y, z]).expand(*shape, 3)

    lean, tilt = draw(-0.15, 0.15), draw(-0.12, 0.12)
    spine = torch.stack([tilt, torch.full(shape, 0.29), lean], -1) * torch.tensor([0.29, 1.0, 0.29])
    neck = spine
    joints: dict[int, Tensor] = {1: neck}
    toes = []
    # Seen from the front the right side is at the image's left: -x.
    for side, (shoulder, hip) in ((-1, (2, 8)), (1, (5, 11))):
        joints[shoulder] = neck + point(side * 0.1, -0.03, 0.0)
        # Mostly hanging or half raised arms, sometimes high up.
        raise_ = torch.where(torch.rand(shape, generator=generator) < 0.3, draw(1.2, 2.7), draw(0.05, 1.1))
        front = draw(-0.5, 0.9)
        bend = draw(0.0, 1.9)
        inward = draw(-0.7, 0.5)
        joints[shoulder + 1] = joints[shoulder] + swing(bend, side * raise_, front, 0.155)
        joints[shoulder + 2] = joints[shoulder + 1] + swing(bend, side * (raise_ + inward), front + bend, 0.15)
        joints[hip] = point(side * 0.06, 0.0, 0.0)
        stride, spread, knee = draw(-0.5, 0.9), draw(0.0, 0.3), draw(0.0, 0.9)
        joints[hip + 1] = joints[hip] + swing(knee, side * spread, stride, 0.225)
        joints[hip + 2] = joints[hip + 1] + swing(knee, side * spread * 0.5, stride - knee, 0.22)
        toes.append(joints[hip + 2] + point(side * 0.015, -0.025, 0.06))
    head = neck + torch.stack([0.3 * tilt, torch.full(shape, 0.115), 0.04 + 0.3 * lean], -1)
    joints[0] = head + point(0, -0.012, 0.062)
    for side, (eye, ear) in ((-1, (14, 16)), (1, (15, 17))):
        joints[eye] = head + point(side * 0.026, 0.016, 0.054)
        joints[ear] = head + point(side * 0.056, 0.002, 0.0)
    body = torch.stack([joints[k] for k in range(18)], -2)

    # Mostly towards the camera, some from behind, some sideways.
    yaw = torch.where(torch.rand(shape, generator=generator) < 0.72, draw(-1.0, 1.0), draw(-math.pi, math.pi))
    cos, sin = yaw.cos(), yaw.sin()
    zero, one = torch.zeros(shape), torch.ones(shape)
    turn = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).reshape(*shape, 1, 3, 3)

    def rotate(points: Tensor) -> Tensor:
        return (turn @ points[..., None])[..., 0]

    return rotate(body), rotate(torch.stack(toes, -2)), yaw


class _Painter:
    """Draws one person at a time, far parts first, into a canvas: in colours, or in part labels."""

    def __init__(self, scene: Scene, size: int, over: int) -> None:
        # Plain lists: OpenCV takes them as they are, and indexing NumPy arrays costs more than the drawing.
        self.joints = fixed((scene.joints * size).numpy(), over).tolist()
        self.toes = fixed((scene.feet * size).numpy(), over).tolist()
        self.units = (scene.heights * size * over).tolist()  # one body height in fine pixels
        self.facing = scene.facing.tolist()
        depths = scene.depths.numpy()
        head, torso = depths[..., :1], depths[..., [2, 5, 8, 11]].mean(-1, keepdims=True)
        self.part_depths = np.concatenate([head, torso, depths[..., np.array(_CAPSULES)].mean(-1)], -1)
        self.order = (self.part_depths.argsort(-1) + 1).tolist()
        self.look = {name: values.tolist() for name, values in _appearance(scene.identity).items()}

    def colours(self, i: int, p: int) -> dict[str, tuple[int, int, int]]:
        """The colour of each piece of the person."""
        look = {name: values[i][p] for name, values in self.look.items()}
        skin, shirt, trousers = _SKIN[look["skin"]], _CLOTH[look["shirt"]], _CLOTH[look["trousers"]]
        red, green, blue = _CLOTH[look["shoes"]]
        return {
            "skin": skin,
            "nose": (int(0.75 * skin[0]), int(0.75 * skin[1]), int(0.75 * skin[2])),
            "hair": _HAIR[look["hair"]],
            "shirt": shirt,
            "trousers": trousers,
            "shoes": (red * 3 // 5, green * 3 // 5, blue * 3 // 5),
            "upper_arm": shirt if look["sleeves"] > 0 else skin,
            "forearm": shirt if look["sleeves"] > 1 else skin,
            "thigh": trousers,
            "shank": trousers if look["legs"] == 1 else skin,
        }

    def person(self, target: np.ndarray, i: int, p: int) -> None:
        """Draw person ``p`` of image ``i``: in colour on three channels, as labels into PARTS on one."""
        joints, unit = self.joints[i][p], self.units[i][p]
        paint: dict | None = self.colours(i, p) if target.ndim == 3 else None
        for part in self.order[i][p]:
            if part == 1:
                self._head(target, i, p, paint)
            elif part == 2:
                self._torso(target, i, p, paint)
            else:
                a, b = _CAPSULES[part - 3]
                if part in (8, 10):
                    _stroke(target, joints[b], self.toes[i][p][part == 10], 0.026 * unit, part, paint, "shoes")
                _stroke(target, joints[a], joints[b], _WIDTHS[part - 3] * unit, part, paint, _COVERS[part - 3])
                if part in (4, 6):
                    _disc(target, joints[b], 0.03 * unit, paint["skin"] if paint else part)

    def _torso(self, target: np.ndarray, i: int, p: int, paint: dict | None) -> None:
        """Hips, for some a skirt, the neck's root and the shirt."""
        joints, unit = self.joints[i][p], self.units[i][p]
        right, left, left_hip, right_hip = (joints[k] for k in (2, 5, 11, 8))
        _stroke(target, right_hip, left_hip, 0.05 * unit, 2, paint, "trousers")
        if self.look["legs"][i][p] == 2:
            a, b = sorted((right_hip, left_hip))
            flare, hem = 0.06 * unit * _ONE, 0.15 * unit * _ONE
            skirt = [
                (a[0] - flare / 2, a[1]),
                (b[0] + flare / 2, b[1]),
                (b[0] + flare, b[1] + hem),
                (a[0] - flare, a[1] + hem),
            ]
            canvas.polygon(target, [np.array(skirt, np.int32)], paint["trousers"] if paint else 2)
        collar = [(right[0] + left[0]) // 2, (right[1] + left[1]) // 2]
        _stroke(target, joints[1], collar, 0.03 * unit, 2, paint, "skin")
        corners = [right, left, left_hip, right_hip]
        for a, b in zip(corners, [*corners[1:], right], strict=True):
            _stroke(target, a, b, 0.036 * unit, 2, paint, "shirt")
        canvas.polygon(target, [np.array(corners, np.int32)], paint["shirt"] if paint else 2)

    def _head(self, target: np.ndarray, i: int, p: int, paint: dict | None) -> None:
        """Neck, hair, and the face when it looks this way."""
        joints, unit = self.joints[i][p], self.units[i][p]
        one = unit * _ONE
        right, towards = self.facing[i][p]
        x, y = (joints[16][0] + joints[17][0]) / 2, (joints[16][1] + joints[17][1]) / 2
        _stroke(target, joints[1], [int(x), int(y)], 0.026 * unit, 1, paint, "skin")
        hair = paint["hair"] if paint else 1
        back = x - 0.02 * right * one
        if self.look["long_hair"][i][p]:
            _disc(target, [back, y + 0.034 * one], 0.062 * unit, hair)
        _disc(target, [back, y - 0.016 * one], 0.072 * unit, hair)
        if towards < -0.25 or not paint:
            return
        face = [x + 0.02 * right * one, y + 0.012 * one]
        _disc(target, face, (0.056 if towards > 0.3 else 0.05) * unit, paint["skin"])
        for eye, side in ((14, -1), (15, 1)):
            if towards + 0.5 * side * right > 0.1:
                _disc(target, joints[eye], 0.0115 * unit, (40, 30, 30))
        nose = joints[0]
        _disc(target, nose, 0.012 * unit, paint["nose"])
        wide, mouth = int(0.014 * one), nose[1] + int(0.026 * one)
        ends = (nose[0] - wide, mouth), (nose[0] + wide, mouth)
        cv2.line(target, *ends, (150, 60, 60), max(1, round(0.012 * unit)), cv2.LINE_8, SHIFT)


def _stroke(
    target: np.ndarray, a: list[int], b: list[int], half: float, part: int, paint: dict | None, cover: str
) -> None:
    """A capsule from ``a`` to ``b``; in colour it is shaded like a cylinder lit from the upper left."""
    wide = max(1, round(2 * half))
    if paint is None:
        cv2.line(target, a, b, part, wide, cv2.LINE_8, SHIFT)
        return
    colour = paint[cover]
    dark = (colour[0] * 0.72, colour[1] * 0.7, colour[2] * 0.72)
    cv2.line(target, a, b, dark, wide, cv2.LINE_8, SHIFT)
    shift = int(half * 0.25 * _ONE)
    lit = (a[0] - shift, a[1] - shift), (b[0] - shift, b[1] - shift)
    cv2.line(target, *lit, colour, max(1, round(1.3 * half)), cv2.LINE_8, SHIFT)


def _disc(target: np.ndarray, at: list, radius: float, colour: tuple | int) -> None:
    """A filled circle; ``radius`` in fine pixels."""
    cv2.circle(target, (int(at[0]), int(at[1])), int(radius * _ONE), colour, -1, cv2.LINE_8, SHIFT)


def render(scene: Scene, size: int) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: photographs behind, shadows on the ground, people from back to front, a camera's look."""
    check_size(size)
    painter = _Painter(scene, size, OVER)
    fine = size * OVER
    floor = np.linspace(0.42, 0.75, size, dtype=np.float32)[:, None, None]  # darker above: it reads as depth
    ground = (photos.crops(photos.SCENERY, scene.backgrounds.numpy(), size) * floor + 40).astype(np.uint8)
    cloth = (255 * np.minimum(canvas.textures(fine), 1)).astype(np.uint8)
    out = np.empty((len(scene), size, size, 3), np.uint8)
    for i, count in enumerate(scene.valid.sum(1).tolist()):
        image = cv2.resize(ground[i], (fine, fine), interpolation=cv2.INTER_LINEAR)
        for p in range(count):
            (x0, y0), (x1, y1) = painter.toes[i][p]
            one = painter.units[i][p] * _ONE
            middle, axes = ((x0 + x1) // 2, (y0 + y1) // 2), (int(0.16 * one), int(0.035 * one))
            cv2.ellipse(image, middle, axes, 0, 0, 360, (48, 46, 50), -1, cv2.LINE_8, SHIFT)
            painter.person(image, i, p)
            if painter.look["texture"][i][p]:
                _weave(image, painter, i, p, cloth)
        out[i] = canvas.shrink(image, size)
    generator = torch.Generator().manual_seed(scene.seed)
    noise = 0.02 * torch.randn(len(scene), size, size, 1, generator=generator)
    return canvas.finish(torch.from_numpy(out) / 255, _GAIN[scene.domain], _CONTRAST[scene.domain], noise)


def _weave(image: np.ndarray, painter: _Painter, i: int, p: int, cloth: np.ndarray) -> None:
    """Multiply the shirt's pixels, found by their colour around the torso, with the person's cloth."""
    corners = np.array([painter.joints[i][p][k] for k in (2, 5, 8, 11)]) >> SHIFT
    pad = int(0.05 * painter.units[i][p])
    (x0, y0), (x1, y1) = np.maximum(corners.min(0) - pad, 0), np.maximum(corners.max(0) + pad, 0)
    window = image[y0:y1, x0:x1]
    if window.size == 0:
        return
    shirt = painter.colours(i, p)["shirt"]
    texture = cloth[painter.look["texture"][i][p]][: window.shape[0], : window.shape[1]]
    woven = cv2.multiply(window, cv2.merge([texture] * 3), scale=1 / 255)
    cv2.copyTo(woven, cv2.inRange(window, shirt, shirt), window)


def annotate(scene: Scene, size: int) -> dict[str, Tensor]:
    """The exact ground truth of ``render(scene, size)``.

    Returns:
        ``keypoints`` (n, p, 18, 2) in pixels; ``visible`` (in the frame and not hidden by anybody's body),
        ``in_frame``, ``valid`` (n, p); ``person_masks`` (n, p, h, w) visible, ``amodal_masks``, ``part_labels``
        (n, h, w) into PARTS; ``boxes`` (n, p, 4) and ``areas`` (n, p) of the amodal masks; ``identity``, ``domain``.
    """
    check_size(size)
    n, people = scene.valid.shape
    painter = _Painter(scene, size, 1)
    drawn = np.zeros((n, people, size, size), np.uint8)
    for i, count in enumerate(scene.valid.sum(1).tolist()):
        for p in range(count):
            painter.person(drawn[i, p], i, p)
    layers = torch.from_numpy(drawn)
    parts, owner = layers[:, 0].clone(), torch.where(layers[:, 0] > 0, 0, -1).to(torch.int8)
    for p in range(1, people):
        here = layers[:, p] > 0
        parts = torch.where(here, layers[:, p], parts)
        owner.masked_fill_(here, p)
    whole = layers > 0
    keypoints = scene.joints * size
    in_frame = ((keypoints >= 0) & (keypoints < size)).all(-1) & scene.valid[..., None]
    return {
        "keypoints": keypoints,
        "visible": in_frame & _unhidden(scene, painter, keypoints, owner, parts, size),
        "in_frame": in_frame,
        "valid": scene.valid,
        "person_masks": owner[:, None] == torch.arange(people, dtype=torch.int8)[:, None, None],
        "amodal_masks": whole,
        "part_labels": parts.long(),
        "boxes": mask_boxes(whole),
        "areas": whole.flatten(-2).count_nonzero(-1).float(),
        "identity": scene.identity,
        "domain": scene.domain,
    }


def _unhidden(
    scene: Scene, painter: _Painter, keypoints: Tensor, owner: Tensor, parts: Tensor, size: int
) -> Bool[Tensor, "n p 18"]:
    """Which joints no other person and no nearer part of the own body covers."""
    n, people = scene.valid.shape
    column, row = keypoints.floor().long().clamp(0, size - 1).unbind(-1)
    image = torch.arange(n)[:, None, None]
    person = torch.arange(people)[None, :, None]
    over, part = owner[image, row, column], parts[image, row, column].long()
    depth = torch.from_numpy(painter.part_depths).float()
    part_depth = depth.gather(2, (part - 1).clamp(min=0))
    covered = (over == person) & (part_depth > scene.depths + 0.06)
    # The head is drawn at the nose's depth: its own points are hidden by where the face looks, not by that.
    right, towards = scene.facing[..., :1], scene.facing[..., 1:]
    seen = torch.ones(n, people, 18, dtype=torch.bool)
    seen[..., 0:1] = towards > 0
    for eye, ear, side in ((14, 16, -1), (15, 17, 1)):
        seen[..., eye : eye + 1] = towards + 0.5 * side * right > 0.1
        seen[..., ear : ear + 1] = side * right < 0.35
    on_head = torch.zeros(18, dtype=torch.bool)
    on_head[[0, 14, 15, 16, 17]] = True
    covered &= ~(on_head & (part == 1))
    behind_other = (over != person) & (over >= 0)
    return seen & ~covered & ~behind_other
