"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.transfer import fatten


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    kind = next(model.parameters()).dtype
    features = torch.randn(2, count, 96, generator=generator).to(kind)
    stops = torch.arange(count)
    batch = {"labels": stops % 3, "poses": stops % 12, "wanted": (stops + 5) % 12}
    batch["truth"] = features[1]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        judges = fatten.Judges(categories=3).to(kind)
    outputs = model(features[0], batch["wanted"])
    return fatten.loss(outputs, batch, judges=judges)["loss"]
