"""The widgets' own scripts in Chromium, without a site: each module is given a model
that holds what Python sent."""

import json
from collections.abc import Callable, Iterator

import pytest
import torch
from playwright.sync_api import Browser, Page

from papernets_lite import widgets

pytestmark = pytest.mark.site
Draw = Callable[[object], Page]
SETUP = """async ([source, style, state]) => {
    const css = document.head.appendChild(document.createElement("style"));
    css.textContent = style;
    const module = new Blob([source], { type: "text/javascript" });
    const { default: widget } = await import(URL.createObjectURL(module));
    const listeners = [];
    window.model = {
        get: (name) => state[name],
        set: (name, value) => {
            state[name] = value;
            listeners.forEach((listener) => listener());
        },
        on: (_, listener) => listeners.push(listener),
        off: (_, listener) => listeners.splice(listeners.indexOf(listener), 1),
        save_changes: () => {},
    };
    const el = document.querySelector("main");
    window.remove = widget.render({ model: window.model, el });
    window.listeners = listeners;
}"""


@pytest.fixture
def draw(browser: Browser) -> Iterator[Draw]:
    """Draws a widget in an empty page."""
    context = browser.new_context(viewport={"width": 390, "height": 800})

    def go(widget: widgets.Frames | widgets.LineIntegral) -> Page:
        page = context.new_page()
        page.set_content("<main></main>")
        state = {
            name: value
            for name, value in widget.get_state().items()
            if name != "layout"
        }
        source, style = state.pop("_esm"), state.pop("_css")
        page.evaluate(SETUP, [str(source), str(style), json.loads(json.dumps(state))])
        return page

    yield go
    context.close()


def alt(page: Page) -> str:
    return page.locator("img").get_attribute("alt")


def test_a_picker_shows_the_chosen_combination(draw: Draw) -> None:
    frames = {(a, str(b)): torch.rand(3, 8, 8) for a in "xyz" for b in range(7)}
    page = draw(widgets.picker(frames, ["letter", "digit"], alt="pair"))
    assert alt(page) == "pair: x, 0"
    page.get_by_role("radiogroup", name="letter").get_by_role("radio", name="z").click()
    assert alt(page) == "pair: z, 0"
    # seven options are too many for buttons
    slider = page.get_by_role("slider", name="digit")
    slider.press("End")
    assert alt(page) == "pair: z, 6"
    assert slider.get_attribute("aria-valuetext") == "6"
    page.get_by_role("radio").nth(2).press("ArrowLeft")
    assert alt(page) == "pair: y, 6"
    page.evaluate("model.set('chosen', [0, 3])")  # as a link from another widget does
    assert alt(page) == "pair: x, 3"
    assert page.get_by_role("radio").first.is_checked()
    page.evaluate("remove()")
    assert page.evaluate("listeners.length") == 0


def test_a_film_plays_to_its_end_stops_and_begins_again(draw: Draw) -> None:
    page = draw(
        widgets.scrubber(
            [torch.rand(3, 8, 8) for _ in range(4)],
            list("abcd"),
            alt="film",
            interval=30,
        )
    )
    page.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function("document.querySelector('img').alt === 'film: d'")
    page.get_by_role("button", name="Play").wait_for()
    # A busy machine may look again only when the film is over: the page keeps a record.
    page.evaluate(
        """() => {
            const image = document.querySelector("img");
            window.shown = [];
            new MutationObserver(() => shown.push(image.alt))
                .observe(image, { attributes: true, attributeFilter: ["alt"] });
        }"""
    )
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("shown.at(-1) === 'film: d'")
    assert page.evaluate("shown[0]") == "film: a"


def test_moving_the_slider_or_pressing_again_stops_a_film(draw: Draw) -> None:
    page = draw(
        widgets.scrubber(
            [torch.rand(3, 8, 8) for _ in range(50)],
            [*map(str, range(50))],
            alt="film",
            interval=60,
        )
    )
    for stop in (
        lambda: page.get_by_role("slider").press("Home"),
        lambda: page.get_by_role("button").click(),
    ):
        page.get_by_role("button", name="Play").click()
        page.wait_for_function("model.get('chosen')[0] > 1")
        stop()
        before = alt(page)
        page.wait_for_timeout(200)
        assert alt(page) == before
        assert page.get_by_role("button").get_attribute("aria-label") == "Play"


def test_a_picture_is_never_wider_than_the_page(draw: Draw) -> None:
    page = draw(
        widgets.scrubber([torch.rand(3, 30, 60)], ["a"], alt="wide", scale=20.0)
    )
    box = page.locator("img").bounding_box()
    assert box["width"] <= 390
    assert box["height"] == pytest.approx(box["width"] / 2, abs=1)
    assert (
        page.locator("img").evaluate("i => getComputedStyle(i).imageRendering")
        == "pixelated"
    )


@pytest.fixture
def scene(draw: Draw) -> Page:
    """Two parallel limbs, left and right, whose field points down."""
    field = torch.zeros(1, 2, 16, 16)
    field[0, 1, 2:14, (3, 12)] = 1.0
    points = [
        {
            "joint": joint,
            "x": 7.0 + 18 * column,
            "y": 6.0 + 20 * joint,
            "label": f"joint {joint}, {side}",
        }
        for column, side in enumerate(("left", "right"))
        for joint in (0, 1)
    ]
    return draw(
        widgets.line_integral(
            torch.rand(3, 32, 32),
            field,
            limbs={"limb": (0, 1)},
            points=points,
            alt="two limbs",
        )
    )


def test_right_pairs_belong_together_and_wrong_ones_do_not(scene: Page) -> None:
    words = scene.locator(".pn-li-words")
    assert "E = 1.00, 10 of 10 samples agree. These belong together" in " ".join(
        words.inner_text().split()
    )
    scene.get_by_role("button", name="end at the joint 1, right").press("Enter")
    assert "These do not belong together" in words.inner_text()
    assert "joint 0, left → joint 1, right" in words.inner_text()
    scene.get_by_role("button", name="start at the joint 0, right").click()
    assert "E = 1.00" in words.inner_text()
    assert (
        scene.get_by_role("button", name="end at the joint 1, right").get_attribute(
            "aria-pressed"
        )
        == "true"
    )
    assert (
        scene.get_by_role("button", name="end at the joint 1, left").get_attribute(
            "aria-pressed"
        )
        == "false"
    )


def test_the_ends_move_by_keyboard_and_by_dragging_and_stay_in_the_picture(
    scene: Page,
) -> None:
    line, end = (
        scene.locator(".pn-li-segment"),
        scene.locator(".pn-li-handle.pn-li-end1"),
    )
    end.press("ArrowLeft")
    end.press("ArrowUp")
    assert (line.get_attribute("x2"), line.get_attribute("y2")) == ("6", "25")
    box = scene.locator(".pn-li-stage svg").bounding_box()
    end.hover()
    scene.mouse.down()
    scene.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    assert float(line.get_attribute("x2")) == pytest.approx(16, abs=0.2)
    assert float(line.get_attribute("y2")) == pytest.approx(8, abs=0.2)
    scene.mouse.move(box["x"] - 50, box["y"] + 10)
    scene.mouse.up()
    assert line.get_attribute("x2") == "0"
    scene.mouse.move(box["x"] + 50, box["y"] + 10)
    assert line.get_attribute("x2") == "0", "let go"
