"""taskonomy: TODO parameter counts at the paper's scale, hand-computed cases, bad input."""

from papernets_lite.transfer import taskonomy


def test_parameters_equal_the_paper():
    assert sum(p.numel() for p in taskonomy.paper().parameters()) == "TODO"
