"""two_stream_viz: TODO counts at the paper's scale, cases computed by hand, bad input."""

import torch

from papernets_lite.video import two_stream_viz


def test_parameters_equal_the_papers():
    with torch.device("meta"):
        net = two_stream_viz.paper()
    assert sum(p.numel() for p in net.parameters()) == "TODO, from its Table TODO"
