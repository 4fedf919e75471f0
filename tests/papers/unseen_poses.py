"""How the contract test runs it."""

from torch import Tensor, nn

from papernets_lite.people import unseen_poses
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    pictures = images(count, 48, seed, model)
    numbers = 48 * images(28, 1, seed + 1, model)[:, :2, 0, 0]
    joints = numbers.reshape(1, 28, 2).repeat(count, 1, 1)
    answer = model(pictures, joints[:, :14], joints[:, 14:])
    return unseen_poses.loss(answer, {"truth": pictures})["loss"]
