"""Papers about language answer different questions: what their nets cost, and what each
chapter asked."""

from collections.abc import Callable

import torch
from torch import nn

from papernets_lite.language import bottom_up_top_down, embodied_qa

NETS: dict[str, Callable[[], nn.Module]] = {
    "bottom_up_top_down": bottom_up_top_down.tiny,
    "embodied_qa": embodied_qa.tiny,
}


def answer(net: nn.Module, count: int) -> object:
    """Look at three regions of a picture and answer a question of four words."""
    boxes = torch.tensor([[0.0, 0, 12, 12], [8, 8, 40, 40], [20, 4, 44, 30]])
    vectors = net.features(torch.rand(count, 3, 48, 48), boxes.expand(count, 3, 4))
    valid = torch.ones(count, 3, dtype=torch.bool)
    return net.answerer(vectors, torch.full((count, 4), 3), valid)


def explore(net: nn.Module, count: int) -> object:
    """Walk eight steps with a question of five words, and answer it."""
    actions = torch.zeros(count, 8, dtype=torch.long)
    fresh = torch.ones(count, 8, dtype=torch.bool)
    words = torch.ones(count, 5, dtype=torch.long)
    return net(torch.rand(count, 8, 3, 16, 32), words, actions, fresh)


RUN: dict[str, Callable[[nn.Module, int], object]] = {
    "bottom_up_top_down": answer,
    "embodied_qa": explore,
}
CLAIMS = {"bottom_up_top_down": "vqa-grid", "embodied_qa": "memory"}
SAID = (
    "Each paper is asked its own question, in its own world; the last two columns are"
    " one of its chapter's claims, over five seeds. An example is a picture of 48 x 48"
    " with three regions and a question of four words for Bottom-Up and Top-Down, a"
    " question of five words and a walk of eight frames of 16 x 32 for Embodied"
    " Question Answering."
)
