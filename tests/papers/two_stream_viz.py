"""How the contract test runs it."""

from torch import Tensor, nn

from papernets_lite.video import two_stream_viz
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    batch: dict[str, Tensor] = {}  # TODO what the loss reads
    return two_stream_viz.loss(model(images(count, 32, seed, model)), batch)["loss"]
