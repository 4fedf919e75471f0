"""Papers about video answer different questions: what their nets cost, and what each
chapter asked."""

from collections.abc import Callable

import torch
from torch import nn

from papernets_lite.video import detect_to_track, two_stream_viz

NETS: dict[str, Callable[[], nn.Module]] = {
    "detect_to_track": detect_to_track.tiny,
    "two_stream_viz": two_stream_viz.tiny,
}
RUN: dict[str, Callable[[nn.Module, int], object]] = {
    "detect_to_track": lambda net, count: net(torch.rand(count, 2, 3, 64, 64)),
    "two_stream_viz": lambda net, count: net(
        torch.rand(count, 3, 24, 24), torch.rand(count, 8, 2, 24, 24)
    ),
}
CLAIMS = {"detect_to_track": "detect-and-track", "two_stream_viz": "dial-space"}
SAID = (
    "Each paper is asked its own question, in its own world; the last two columns are"
    " one of its chapter's claims, over five seeds. An example is two frames of 64 x 64"
    " for Detect to Track, a picture and eight fields of flow of 24 x 24 for Two-Stream"
    " Insight."
)
