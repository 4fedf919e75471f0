"""Papers about transfer answer different questions: what their nets cost, and what each
chapter asked."""

from collections.abc import Callable

import torch
from torch import nn

from papernets_lite.transfer import fatten, ldf, maml, siamese, taskonomy

NETS: dict[str, Callable[[], nn.Module]] = {
    "siamese": siamese.tiny,
    "maml": maml.tiny,
    "taskonomy": taskonomy.tiny,
    "fatten": fatten.tiny,
    "ldf": ldf.tiny,
}
RUN: dict[str, Callable[[nn.Module, int], object]] = {
    "siamese": lambda net, count: net(torch.rand(count, 2, 1, 32, 32)),
    "maml": lambda net, count: net(torch.rand(count, 3, 28, 28)),
    "taskonomy": lambda net, count: net(torch.rand(count, 3, 32, 32)),
    "fatten": lambda net, count: net(
        torch.rand(count, 96), torch.zeros(count, dtype=torch.long)
    ),
    "ldf": lambda net, count: net(torch.rand(count, 3, 64, 64)),
}
CLAIMS = {
    "siamese": "classifier",
    "maml": "shots",
    "taskonomy": "choice",
    "fatten": "mean",
    "ldf": "zoom",
}
SAID = (
    "Each paper is asked its own question, in its own world; the last two columns are"
    " one of its chapter's claims, over five seeds. An example is a pair of pictures of"
    " 32 x 32 for Siamese Nets, one of 28 x 28 for MAML, of 32 x 32 for Taskonomy, of"
    " 64 x 64 for Latent Discriminative Features; for FATTEN it is a feature of 96"
    " numbers, without the net that made it."
)
