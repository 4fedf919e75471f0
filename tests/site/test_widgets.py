"""The widgets' own scripts in Chromium, without a site: each module is given a model
that holds what Python sent."""

import json
from collections.abc import Callable, Iterator

import pytest
import torch
from playwright.sync_api import Browser, Page

from papernets_lite import plots, widgets

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
    window.remove = await widget.render({ model: window.model, el });
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


def said(page: Page) -> str:
    """The sentence below the picture, which is the picture's name too."""
    words = page.locator("figcaption").inner_text()
    assert page.get_by_role("figure", name=words, exact=True).count() == 1
    return words


def test_a_picker_shows_the_chosen_combination(draw: Draw) -> None:
    frames = {(a, str(b)): torch.rand(3, 8, 8) for a in "xyz" for b in range(7)}
    page = draw(widgets.picker(frames, ["letter", "digit"], alt="pair"))
    assert said(page) == "pair: x, 0"
    page.get_by_role("radiogroup", name="letter").get_by_role("radio", name="z").click()
    assert said(page) == "pair: z, 0"
    # seven options are too many for buttons
    slider = page.get_by_role("slider", name="digit")
    slider.press("End")
    assert said(page) == "pair: z, 6"
    assert slider.get_attribute("aria-valuetext") == "6"
    page.get_by_role("radio").nth(2).press("ArrowLeft")
    assert said(page) == "pair: y, 6"
    page.evaluate("model.set('chosen', [0, 3])")  # as a link from another widget does
    assert said(page) == "pair: x, 3"
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
    page.wait_for_function(
        "document.querySelector('figcaption').innerText === 'film: d'"
    )
    page.get_by_role("button", name="Play").wait_for()
    # A busy machine may look again only when the film is over: the page keeps a record.
    page.evaluate(
        """() => {
            const sentence = document.querySelector("figcaption span");
            window.shown = [];
            window.spoken = [];
            new MutationObserver(() => {
                shown.push(sentence.textContent);
                spoken.push(sentence.getAttribute("aria-live"));
            }).observe(sentence, { childList: true });
        }"""
    )
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("shown.at(-1) === 'film: d'")
    assert page.evaluate("shown[0]") == "film: a"
    assert page.evaluate("spoken[1]") == "off", "nobody can listen to a film"
    page.get_by_role("button", name="Play").wait_for()
    assert page.locator("figcaption span").get_attribute("aria-live") == "polite"


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
        before = said(page)
        page.wait_for_timeout(200)
        assert said(page) == before
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


def test_the_page_keeps_room_for_the_longest_sentence(draw: Draw) -> None:
    cards = {(letter,): torch.rand(3, 8, 8) for letter in "ab"}
    words = {("a",): "A card.", ("b",): "A card that has a good deal to say. " * 4}
    page = draw(widgets.picker(cards, ["card"], alt=words))
    before = page.locator("main").bounding_box()
    page.get_by_role("radio", name="b").click()
    assert said(page) == words["b",].strip()
    assert page.locator("main").bounding_box() == before


def test_drawings_are_drawn_in_the_pages_ink_and_their_panels_stack(draw: Draw) -> None:
    figures = []
    for height in (1.0, 2.0):
        figure, axes = plots.axes(1, 2, width=6.0, height=2.0)
        for ax in axes:
            ax.plot([0, height])
            ax.set_title(f"as high as {height}")
        figures.append(figure)
    page = draw(widgets.scrubber(figures, ["a", "b"], alt="lines"))
    panels = page.locator(".pn-drawn svg")
    assert panels.count() == 2
    assert "as high as 1.0" in panels.first.text_content()
    left, right = (panels.nth(k).bounding_box() for k in (0, 1))
    assert left["y"] + left["height"] <= right["y"], "a phone is too narrow for both"
    assert left["x"] + left["width"] <= 390
    page.get_by_role("slider").press("End")
    assert "as high as 2.0" in panels.first.text_content()
    assert page.get_by_role("img", name="lines: b").count() == 1
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.evaluate("document.documentElement.style.setProperty('--pn-c0', 'lime')")
    stroke = """[...document.querySelectorAll('.pn-drawn path')].map(
        path => getComputedStyle(path).stroke)"""
    assert "rgb(0, 255, 0)" in page.evaluate(stroke)


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


def test_a_line_opens_on_the_chosen_pair(draw: Draw) -> None:
    points = [
        {"joint": j, "x": 4.0 * j + 9 * n, "y": 5.0, "label": f"joint {j} of {n}"}
        for j in (0, 1)
        for n in (0, 1)
    ]
    page = draw(
        widgets.line_integral(
            torch.rand(3, 32, 32),
            torch.zeros(1, 2, 16, 16),
            limbs={"limb": (0, 1)},
            points=points,
            alt="two limbs",
            start=(1, 0),
        )
    )
    assert "joint 0 of 1 → joint 1 of 0" in page.locator(".pn-li-words").inner_text()


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
