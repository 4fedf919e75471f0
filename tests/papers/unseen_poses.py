"""How the contract test runs it."""

from torch import Tensor, nn

from papernets_lite.people import unseen_poses
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    side = 6 * model.segment.multiple  # 48 for the tiny net
    pictures = images(count, side, seed, model)
    numbers = side * images(28, 1, seed + 1, model)[:, :2, 0, 0]
    joints = numbers.reshape(1, 28, 2).repeat(count, 1, 1)
    answer = model(pictures, joints[:, :14], joints[:, 14:])
    return unseen_poses.loss(answer, {"truth": pictures})["loss"]
