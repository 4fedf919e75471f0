import base64
import io
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from papernets_lite import plots, vector

SPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def closed() -> None:
    yield
    plt.close("all")


def read(figure: plt.Figure) -> ElementTree.Element:
    return ElementTree.fromstring(vector.drawing(figure, "words"))


def embedded(root: ElementTree.Element) -> list[Image.Image]:
    found = []
    for place in root.iter(f"{SPACE}image"):
        data = base64.b64decode(place.get("href").partition(",")[2])
        found.append(Image.open(io.BytesIO(data)).convert("RGB"))
    return found


def three() -> plt.Figure:
    figure, (left, middle, right) = plots.axes(1, 3, width=7.0, height=2.2)
    left.plot(range(9), label="a")
    left.legend()
    middle.plot(range(9), "o", color="C1", label="b")
    shown = right.imshow(np.eye(4), cmap="magma")
    figure.colorbar(shown, ax=right)
    return figure


def test_a_drawing_is_small_the_same_every_time_and_holds_its_words_as_text() -> None:
    full = io.BytesIO()
    three().savefig(full, format="svg")
    text = vector.drawing(three(), "three panels")
    again = vector.drawing(three(), "three panels")
    assert text == again
    assert len(text) < 0.45 * len(full.getvalue())
    root = ElementTree.fromstring(text)
    assert (root.get("width"), root.findtext(f"{SPACE}title")) == (
        "672",
        "three panels",
    )
    words = {one.text for one in root.iter(f"{SPACE}text")}
    assert {"a", "0.8", "4"} <= words
    assert not any(one.get("id") for one in root.iter(f"{SPACE}g"))


def test_what_an_element_refers_to_is_there_and_has_a_name_of_its_own() -> None:
    for figure in (three(), plots.bars({"a": 1.0}).figure):
        text = vector.drawing(figure, "words")
        names = re.findall(r'id="([^"]+)"', text)
        referred = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
        assert len(set(names)) == len(names)
        assert referred <= set(names)
        assert set(re.findall('class="(k[^"]+)"', text)) <= set(
            re.findall(r"\.(k\w+)\{", text)
        )
    first, second = (vector.drawing(one, "words") for one in (three(), plots.axes()[0]))
    mark = r"\.(k[0-9a-f]{4})0\{"
    assert re.search(mark, first)[1] != re.search(mark, second)[1]


def test_a_curve_keeps_its_shape_to_an_eighth_of_a_pixel() -> None:
    x = np.linspace(0, 1, 50)
    figure, ax = plots.axes()
    (line,) = ax.plot(x, np.sin(9 * x), color="C3")
    root = read(figure)
    style = root.findtext(f"{SPACE}style")
    name = re.search(r"\.(\w+)\{[^}]*stroke:#cc79a7", style)[1]
    (path,) = [one for one in root.iter(f"{SPACE}path") if one.get("class") == name]
    places, pen = [], np.zeros(2)
    for letter, numbers in re.findall("([A-Za-z])([^A-Za-z]*)", path.get("d")):
        values = [float(n) for n in re.findall(r"-?[\d.]+", numbers)]
        if letter in "hv":
            values = [values[0], 0] if letter == "h" else [0, values[0]]
        for step in np.array(values).reshape(-1, 2):
            pen = step if letter == "M" else pen + step
            places.append(pen)
    wanted = ax.transData.transform(line.get_xydata())
    wanted[:, 1] = 72 * figure.get_figheight() - wanted[:, 1]
    apart = np.abs(np.array(places)[:, None] - wanted[None]).max(-1)
    assert apart.min(0).max() < 0.11


def test_each_panel_says_what_it_shows_its_colour_bar_included() -> None:
    root = read(three())
    panels = root.findall(f"{SPACE}g")
    assert len(panels) == 3
    boxes = [tuple(map(float, one.get("data-box").split())) for one in panels]
    for (x, y, width, height), (after, *_) in pairwise(boxes):
        assert x + width < after + 3
        assert 0 <= y < y + height < 160
    assert len(panels[2].findall(f".//{SPACE}image")) >= 2  # the map and its bar


def test_rows_that_mean_something_are_one_panel() -> None:
    loose = read(plots.images(torch.rand(4, 3, 32, 32), columns=2))
    assert len(loose.findall(f"{SPACE}g")) == 4
    figure = plots.images(torch.rand(4, 3, 32, 32), columns=2, rows=["one", "other"])
    (panel,) = read(figure).findall(f"{SPACE}g")
    assert {one.text for one in panel.iter(f"{SPACE}text")} == {"one", "other"}


@pytest.mark.parametrize("side", [24, 28, 32, 48, 64, 96])
def test_small_pictures_keep_their_pixels_as_whole_squares(side: int) -> None:
    root = read(plots.images(torch.rand(2, 3, side, side)))
    for place, picture in zip(root.iter(f"{SPACE}image"), embedded(root), strict=True):
        shown = float(place.get("width")) / vector.PIXEL
        assert shown >= 95.9
        assert shown / side == pytest.approx(round(shown / side), abs=0.01)
        assert picture.width in (side, 2 * side)
        if shown > 1.5 * side:
            style = root.findtext(f"{SPACE}style")
            assert f".{place.get('class')}{{image-rendering:pixelated}}" in style


def test_axes_shrink_to_whole_multiples_of_their_picture() -> None:
    figure, ax = plots.axes(width=2.6, height=2.6)
    plots.boxes(torch.rand(3, 32, 32), torch.tensor([[1.0, 1, 9, 9]]), ax=ax)
    (place,) = read(figure).iter(f"{SPACE}image")
    shown = float(place.get("width")) / vector.PIXEL / 32
    assert shown == pytest.approx(round(shown), abs=0.02)


def test_flat_pictures_lose_nothing_and_large_ones_are_reduced() -> None:
    labels = torch.randint(0, 2, (1, 40, 40)).float().expand(3, -1, -1)
    root = read(plots.images([labels]))
    (picture,) = embedded(root)
    (place,) = root.iter(f"{SPACE}image")
    assert place.get("width")
    assert np.array_equal(np.asarray(picture), plots.to_array(labels))
    (reduced,) = embedded(read(plots.images(torch.rand(1, 3, 400, 400))))
    assert reduced.width == 100 * vector.DENSE  # shown at a quarter of 400


@pytest.mark.parametrize("limits", [(0, 1), (1, 0)])
def test_pictures_stand_upright_whichever_way_the_axes_run(limits: tuple) -> None:
    figure, ax = plots.axes()
    top = np.zeros((4, 4, 3))
    top[:2] = (1, 0, 0)
    low, high = limits
    ax.imshow(top, extent=(0, 1, low, high))  # its lower edge at ``low``
    ax.set(ylim=limits)
    (picture,) = embedded(read(figure))
    colours = np.asarray(picture, int)
    assert colours[0].mean(0)[0] > 200
    assert colours[-1].mean(0)[0] < 50


def test_transparent_pictures_stay_so() -> None:
    figure, ax = plots.axes()
    ax.imshow(np.dstack([np.ones((4, 4, 3)), np.eye(4)]))
    (place,) = read(figure).iter(f"{SPACE}image")
    data = base64.b64decode(place.get("href").partition(",")[2])
    assert Image.open(io.BytesIO(data)).convert("RGBA").getextrema()[3] == (0, 255)
