"""Papers about video answer different questions: what their nets cost, and what each
chapter asked."""

from collections.abc import Callable

import torch
from torch import nn

from papernets_lite.video import (
    actor_action,
    detect_to_track,
    im2flow,
    streaming,
    two_stream_viz,
)

NETS: dict[str, Callable[[], nn.Module]] = {
    "detect_to_track": detect_to_track.tiny,
    "im2flow": im2flow.tiny,
    "two_stream_viz": two_stream_viz.tiny,
    "actor_action": actor_action.tiny,
    "streaming": streaming.tiny,
}
RUN: dict[str, Callable[[nn.Module, int], object]] = {
    "detect_to_track": lambda net, count: net(torch.rand(count, 2, 3, 64, 64)),
    "im2flow": lambda net, count: net(torch.rand(count, 3, 32, 32)),
    "two_stream_viz": lambda net, count: net(
        torch.rand(count, 3, 24, 24), torch.rand(count, 8, 2, 24, 24)
    ),
    "actor_action": lambda net, count: net(
        torch.rand(count, 5, 3, 32, 32), torch.ones(count, 1, 5, dtype=torch.long)
    ),
    "streaming": lambda net, count: net(torch.rand(count, 3, 64, 64)),
}
CLAIMS = {
    "detect_to_track": "detect-and-track",
    "im2flow": "few",
    "two_stream_viz": "dial-space",
    "actor_action": "filter",
    "streaming": "acks",
}
SAID = (
    "Each paper is asked its own question, in its own world; the last two columns are"
    " one of its chapter's claims, over five seeds. An example is two frames of 64 x 64"
    " for Detect to Track, one of 32 x 32 for Im2Flow and of 64 x 64 for the streamed"
    " pose model, a picture and eight fields of flow of 24 x 24 for Two-Stream Insight,"
    " five frames of 32 x 32 and a sentence for Actor and Action."
)
