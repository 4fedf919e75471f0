"""Differences and details inside masks, by hand."""

import pytest
import torch

from papernets_lite.metrics.images import detail_correlation, masked_l1


def test_differences_count_inside_the_mask_alone():
    first, second = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    first[0, :, 0, 0], first[0, 0, 0, 1], first[0, :, 1] = 0.5, 0.3, 9
    masks = torch.tensor([[[True, True], [False, False]], [[False, False], [False, False]]])
    found = masked_l1(first, second, masks)
    assert found[0].item() == pytest.approx((0.5 + 0.1) / 2)
    assert found[1].isnan(), "an empty mask"


def test_detail_ignores_brightness_and_sees_shifts():
    stripes = (torch.arange(16) // 2 % 2).float().expand(1, 3, 16, 16)
    everywhere = torch.ones(1, 16, 16, dtype=torch.bool)
    assert detail_correlation(stripes, 0.3 * stripes + 0.5, everywhere) == pytest.approx(1)
    inside = everywhere.clone()
    inside[:, :, :4], inside[:, :, -4:] = False, False
    assert detail_correlation(stripes, stripes.roll(2, -1), inside) == pytest.approx(-1)
    spoilt = stripes.clone()
    spoilt[:, :, 0] = 7
    low = everywhere.clone()
    low[:, :4] = False
    assert detail_correlation(stripes, spoilt, low) == pytest.approx(1), "what lies outside does not count"


def test_detail_needs_pixels():
    with pytest.raises(ValueError, match="at least two masked pixels, got 0"):
        detail_correlation(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool))
