"""bottom_up_top_down: TODO parameter counts at the paper's scale, hand-computed cases, bad input."""

from papernets_lite.language import bottom_up_top_down


def test_parameters_equal_the_paper():
    assert sum(p.numel() for p in bottom_up_top_down.paper().parameters()) == "TODO"
