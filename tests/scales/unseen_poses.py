"""Pictures whose sides 32 divides."""

from torch import Tensor, nn

from papernets_lite.people import unseen_poses
from tests.papers import images


def run(model: nn.Module) -> Tensor:
    pictures = images(1, 64, 0, model)
    numbers = 64 * images(28, 1, 1, model)[:, :2, 0, 0]
    joints = numbers.reshape(1, 28, 2)
    answer = model(pictures, joints[:, :14], joints[:, 14:])
    return unseen_poses.loss(answer, {"truth": pictures})["loss"]
