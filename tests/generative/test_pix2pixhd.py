"""pix2pixhd: TODO parameter counts at the paper's scale, hand-computed cases, bad input."""

from papernets_lite.generative import pix2pixhd


def test_parameters_equal_the_paper():
    assert sum(p.numel() for p in pix2pixhd.paper().parameters()) == "TODO"
