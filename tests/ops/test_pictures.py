"""Pictures as JPEG: there and back, and what is none."""

import pytest
import torch

from papernets_lite.ops.pictures import from_jpeg, to_jpeg


def ramp(height=48, width=64):
    """Smooth in every channel."""
    down, across = torch.arange(height)[:, None], torch.arange(width)
    channels = [down * 3 + across, down * 2 + across * 2, down + across * 3]
    return torch.stack(channels).remainder(256).clamp(20, 235).byte()


def test_a_smooth_picture_comes_back():
    picture = ramp(32, 40)
    found = from_jpeg(to_jpeg(picture, 95))
    assert found.shape == picture.shape
    assert found.dtype == torch.uint8
    assert (found.float() - picture).abs().mean() < 3


def test_a_lower_quality_takes_fewer_bytes_and_errs_more():
    picture = torch.randint(256, (3, 64, 64), dtype=torch.uint8)
    fine, coarse = to_jpeg(picture, 90), to_jpeg(picture, 20)
    assert len(coarse) < len(fine) / 2
    errors = [
        (from_jpeg(data).float() - picture).abs().mean() for data in (fine, coarse)
    ]
    assert errors[0] < errors[1]


def test_any_layout_in_memory_gives_the_same_file():
    picture = ramp()
    flipped = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert to_jpeg(flipped) == to_jpeg(picture)


@pytest.mark.parametrize("quality", [0, 96, -1])
def test_a_quality_that_does_not_exist_is_refused(quality):
    with pytest.raises(ValueError, match="expected a quality"):
        to_jpeg(ramp(), quality)


def test_an_empty_picture_is_refused():
    with pytest.raises(ValueError, match="expected a picture"):
        to_jpeg(torch.zeros(3, 0, 4, dtype=torch.uint8))


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", to_jpeg(ramp())[:99]]
)
def test_what_is_no_jpeg_is_refused(data):
    with pytest.raises(ValueError, match="expected a JPEG"):
        from_jpeg(data)
