"""fatten: TODO counts at the paper's scale, cases computed by hand, bad input."""

import torch

from papernets_lite.transfer import fatten


def test_parameters_equal_the_papers():
    with torch.device("meta"):
        net = fatten.paper()
    assert sum(p.numel() for p in net.parameters()) == "TODO, from its Table TODO"
