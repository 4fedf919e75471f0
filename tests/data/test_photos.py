import pytest
import torch

from papernets_lite import data
from papernets_lite.data import photos


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", [*photos.NAMES, *photos.MICROGRAPHS])
def test_every_photograph_ships_with_scikit_image(name):
    picture = photos.load(name)
    assert picture.shape[0] == 3
    assert min(picture.shape[1:]) >= 256
    assert 0 <= picture.min() < picture.max() <= 1


def test_colours_are_red_green_blue():
    cup = photos.load("coffee")[:, 250:300, 150:200].mean((1, 2))  # the red saucer
    assert cup[0] > 1.3 * cup[2]


def test_crops_are_of_the_photographs_that_are_asked_for():
    draws = torch.rand(12, 4, generator=seeded())
    crops = photos.crops(photos.NAMES, draws, 48)
    assert crops.shape == (12, 48, 48, 3)
    assert len({crop.tobytes() for crop in crops}) == 12
    grey = photos.crops(("gravel",), draws, 48).astype(int)
    assert abs(grey[..., 0] - grey[..., 2]).max() < 3


def test_stages_have_a_floor_below_their_horizon():
    draws = torch.rand(40, 4, generator=seeded())
    images = torch.from_numpy(photos.stages(draws, torch.full((40,), 0.5), 64)).float()
    wall, floor = images[:, 8:24].mean((1, 2)), images[:, 40:56].mean((1, 2))
    assert ((wall - floor).abs().amax(1) > 10).float().mean() > 0.8
    # still drawn at the very edge
    high = photos.stages(draws[:1], torch.tensor([0.0]), 64)
    assert high.shape == (1, 64, 64, 3)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="got 'sunset'"):
        photos.load("sunset")
    draws = torch.rand(2, 4, generator=seeded())
    with pytest.raises(ValueError, match="at least one photograph"):
        photos.crops((), draws, 16)
    with pytest.raises(ValueError, match="got 'sunset'"):
        photos.crops(("sunset",), draws, 16)
    with pytest.raises(ValueError, match=r"draws in \[0, 1\)"):
        photos.crops(photos.NAMES, draws + 1, 16)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        photos.crops(photos.NAMES, draws, 0)
    with pytest.raises(ValueError, match="at least 16 pixels"):
        photos.stages(draws, torch.full((2,), 0.5), 1)
    with pytest.raises(ValueError, match="got 'marble'"):
        photos.material("marble", (255, 255, 255))


def test_load_knows_them_by_name():
    assert set(data.load("photos")) == set(photos.NAMES)
