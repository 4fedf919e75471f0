import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from PIL import Image

from papernets_lite import plots, training

NAN = float("nan")


@pytest.fixture(autouse=True)
def closed() -> None:
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list:
    """What was displayed: (data, metadata)."""
    outputs = []
    monkeypatch.setattr(
        plots, "display", lambda data, metadata, raw: outputs.append((data, metadata))
    )
    return outputs


def lines() -> matplotlib.figure.Figure:
    figure, ax = plots.axes(width=4.0, height=2.0)
    ax.plot(range(20))
    ax.set_title("a line")
    return figure


def test_finish_shows_a_drawing_with_its_description_and_closes_it(
    shown: list,
) -> None:
    figure = lines()
    plots.finish(figure, "a line that rises")
    (data, metadata) = shown[0]
    assert metadata == {"image/svg+xml": {"alt": "a line that rises", "width": 384}}
    assert data["text/plain"] == "a line that rises"
    assert data["image/svg+xml"].startswith("<svg ")
    assert "a line</text>" in data["image/svg+xml"]
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_figure_without_description_is_refused(shown: list, alt: str) -> None:
    with pytest.raises(ValueError, match="description"):
        plots.finish(lines(), alt)
    assert not shown


def test_few_colours_serve_drawings_only() -> None:
    assert plots.flat(plots.render(lines())) is not None
    assert plots.flat(Image.fromarray(plots.to_array(torch.rand(3, 64, 64)))) is None


def test_a_frame_keeps_the_colour_of_every_line_dot_and_entry_of_a_legend() -> None:
    figure, ax = plots.axes(width=5.0, height=3.0)
    for number, colour in enumerate(plots.COLOURS):
        ax.plot([0, 1], [number, number], lw=1, color=colour)
        ax.plot(0.5, number + 0.4, "o", ms=3, color=colour, label=str(number))
    ax.legend(ncols=4)
    picture = plots.render(figure, plots.INCH)
    reduced = np.asarray(plots.flat(picture).convert("RGB"))
    before = np.asarray(picture)
    for colour in plots.COLOURS:
        exact = tuple(bytes.fromhex(colour[1:]))
        where = (before == exact).all(-1)
        assert where.sum() >= plots.MARK
        assert (reduced[where] == exact).all(), colour
    assert np.abs(reduced.astype(int) - before).max() < 96  # blends along edges


def test_words_are_large_enough_and_minus_signs_are_true(shown: list) -> None:
    figure, ax = plots.axes()
    ax.set_title("slope -0.5, a well-known 3-4", fontsize=6)
    plots.finish(figure, "words")
    drawn = shown[0][0]["image/svg+xml"]
    assert "slope \N{MINUS SIGN}0.5, a well-known 3-4" in drawn
    assert min(map(float, re.findall(r"font-size:([\d.]+)", drawn))) >= plots.LEAST


def test_logarithmic_axes_write_their_numbers_out(shown: list) -> None:
    ax = plots.curves({"run": torch.linspace(0.2, 90, 50)}, log=True, smooth=1)
    plots.finish(ax.figure, "a curve")
    drawn = shown[0][0]["image/svg+xml"]
    for number in ("1", "10"):
        assert f">{number}</text>" in drawn
    far = plots.Plain()
    far.create_dummy_axis()
    assert far(1e6) == r"$\mathdefault{10^{6}}$"


def test_bars_that_do_not_start_at_zero_are_refused(shown: list) -> None:
    for name, draw in (("ylim", "bar"), ("xlim", "barh")):
        figure, (whole, cut) = plots.axes(1, 2)
        for ax in (whole, cut):
            getattr(ax, draw)([0, 1], [6.0, 7.0])
        plots.render(figure)
        cut.set(**{name: (5, 8)})
        with pytest.raises(ValueError, match="bars that start at zero"):
            plots.finish(figure, "bars")
    assert not shown


def test_the_style_holds_for_what_a_chapter_adds_later() -> None:
    _, ax = plots.axes()
    ax.set_title("title")
    ax.plot([0, 1], label="x")
    assert ax.get_title(loc="left") == "title"
    assert not ax.legend().get_frame_on()
    assert not ax.spines["top"].get_visible()
    assert ax.lines[0].get_color() == plots.COLOURS[0]


def test_render_and_tensor_agree() -> None:
    figure = lines()
    picture = plots.render(figure)
    image = plots.tensor(figure)
    assert image.shape == (3, 220, 440)
    assert np.array_equal(plots.to_array(image), np.asarray(picture))
    assert not plt.fignum_exists(figure.number)


def test_curves_draw_the_running_mean_where_it_belongs() -> None:
    ax = plots.curves(
        {"a": torch.tensor([0.0, 3.0, 6.0, 3.0, 0.0]), "b": torch.ones(5)}, smooth=3
    )
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(x, [1, 2, 3])  # the middle of each window
    np.testing.assert_allclose(y, [3, 4, 3])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_ylabel() == "loss"
    assert len(ax.collections) == 2  # the bands
    low, high = (
        ax.collections[0].get_paths()[0].vertices[:, 1].min(),
        ax.collections[0].get_paths()[0].vertices.max(),
    )
    assert 0 <= low < 3
    assert high > 4


def test_curves_take_histories_and_short_ones() -> None:
    history = training.History({"loss": [2.0, 1.0], "accuracy": [0.5, 1.0]})
    _, given = plots.axes()
    ax = plots.curves({"run": history}, "accuracy", ax=given, log=True)
    assert ax is given
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.75])
    assert ax.get_yscale() == "log"
    assert ax.get_legend() is None
    with pytest.raises(KeyError, match="speed"):
        plots.curves({"run": history}, "speed")


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (torch.tensor([1.0, NAN]), {}, "run/loss holds 1 values that are not finite"),
        (torch.zeros(0), {}, "expected values"),
        (torch.ones(3), {"smooth": 0}, "smooth 0"),
        (
            torch.tensor([1.0, 0.0]),
            {"log": True},
            "positive values on a logarithmic axis, got 0",
        ),
    ],
)
def test_curves_refuse(values: torch.Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.curves({"run": values}, **options)


def test_bars_carry_their_values_and_have_one_colour_unless_they_are_arms() -> None:
    ax = plots.bars({"a": 1.0, "b": 2.5}, ylabel="height")
    assert [bar.get_height() for bar in ax.patches] == [1.0, 2.5]
    assert [text.get_text() for text in ax.texts] == ["1.00", "2.50"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b"]
    assert len({bar.get_facecolor() for bar in ax.patches}) == 1
    paint = plots.paints(["b", "a"])
    arms = plots.bars({"a": 10.0, "b": 25.0}, colours=paint)
    assert to_hex(arms.patches[0].get_facecolor()) == plots.COLOURS[1]
    assert [text.get_text() for text in arms.texts] == ["10.0", "25.0"]


def test_an_arm_keeps_its_colour_wherever_it_stands() -> None:
    paint = plots.paints(["treatment", "control"])
    runs = {"control": torch.ones(5), "treatment": torch.zeros(5)}
    ax = plots.curves(runs, colours=paint, styles={"control": ":"})
    assert [line.get_color() for line in ax.lines] == [*plots.COLOURS[1::-1]]
    assert [line.get_linestyle() for line in ax.lines] == [":", "-"]


@pytest.mark.parametrize("values", [{}, {"a": float("inf")}])
def test_bars_refuse(values: dict) -> None:
    with pytest.raises(ValueError, match=r"not finite|expected bars"):
        plots.bars(values)


def test_images_stand_in_rows_with_titles() -> None:
    figure = plots.images(torch.rand(5, 1, 4, 4), titles=list("abcde"), columns=3)
    assert [ax.get_title() for ax in figure.axes] == list("abcde")
    places = [ax.get_position() for ax in figure.axes]
    assert places[0].y0 == places[2].y0 > places[3].y0 == places[4].y0
    assert places[0].x0 == places[3].x0 < places[1].x0


def test_images_say_what_rows_and_columns_are() -> None:
    figure = plots.images(torch.rand(4, 3, 8, 8), rows=["r", "s"], columns=["c", "d"])
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.texts}
    first, _, _, last = (ax.get_window_extent() for ax in figure.axes)
    assert boxes["r"].x1 < first.x0
    assert boxes["s"].y0 > last.y0
    assert boxes["s"].y1 < last.y1
    assert boxes["d"].y0 >= first.y1
    assert last.x0 < boxes["d"].x0 < boxes["d"].x1 < last.x1


def test_images_are_no_wider_than_a_page_unless_columns_mean_something() -> None:
    figure = plots.images(torch.rand(8, 3, 28, 28))
    assert figure.get_figwidth() * plots.INCH <= plots.PAGE
    assert len({ax.get_position().y0 for ax in figure.axes}) == 2  # four and four
    rows = plots.images(torch.rand(8, 3, 32, 32), rows=["a longer name"])
    assert len({ax.get_position().y0 for ax in rows.axes}) == 1


@pytest.mark.parametrize(
    ("pictures", "options"),
    [
        ([], {}),
        (torch.rand(2, 3, 4, 4), {"titles": ["one"]}),
        (torch.rand(1, 3, 4, 4), {"columns": 0}),
        (torch.rand(4, 3, 4, 4), {"columns": 2, "rows": ["one"]}),
    ],
)
def test_images_refuse(pictures: object, options: dict) -> None:
    with pytest.raises(ValueError, match=r"expected (pictures|names of 2 rows)"):
        plots.images(pictures, **options)


@pytest.mark.parametrize(
    "picture",
    [
        torch.full((3, 8, 8), 200, dtype=torch.uint8),
        torch.full((3, 8, 8), 200.0),
        torch.full((3, 8, 8), -200.0),
        torch.ones(3, 8, 8, dtype=torch.long),
    ],
)
def test_pictures_up_to_255_are_refused_not_shown_as_white(picture) -> None:
    with pytest.raises(ValueError, match=r"an image in \[0, 1\]"):
        plots.to_array(picture)


def test_to_array_rounds_clips_and_repeats_grey() -> None:
    array = plots.to_array(torch.tensor([[[0.5, 1.7, -0.2]]]))
    assert array.dtype == np.uint8
    assert array.tolist() == [[[128] * 3, [255] * 3, [0] * 3]]
    with pytest.raises(ValueError, match=r"\(c, h, w\), got \(4, 2, 2\)"):
        plots.to_array(torch.zeros(4, 2, 2))
    with pytest.raises(ValueError, match="finite image, got 1 "):
        plots.to_array(torch.tensor([[[NAN, 0.0]]]))


def test_quiver_puts_arrows_on_the_cells_centres_in_the_images_pixels() -> None:
    field = torch.zeros(2, 4, 4)
    field[:, 1, 2] = torch.tensor([0.0, 1.0])
    ax = plots.quiver(field, torch.rand(3, 8, 8))
    arrows = next(c for c in ax.collections if isinstance(c, matplotlib.quiver.Quiver))
    assert arrows.XY.tolist() == [[5.0, 3.0]]  # column 2.5, row 1.5, two pixels a cell
    # 20 pixels of the screen, in inches
    assert arrows.U.tolist() == [0.0]
    assert arrows.V.tolist() == pytest.approx([20 / plots.INCH])
    assert ax.get_xlim() == (0, 8)
    assert ax.get_ylim() == (8, 0)  # y down
    assert len(ax.images) == 1
    field[0, 0, 0] = NAN
    with pytest.raises(ValueError, match="field holds 1 values"):
        plots.quiver(field)


def test_quiver_draws_arrows_that_can_be_read_however_dense_the_field() -> None:
    field = 0.3 * torch.randn(2, 64, 64)
    _, ax = plots.axes(width=1.5, height=1.5)
    plots.quiver(field, ax=ax)
    (arrows,) = ax.collections
    lengths = plots.INCH * np.hypot(arrows.U, arrows.V)
    assert plots.ARROW[0] <= lengths.min() <= lengths.max() <= plots.ARROW[1] + 0.01
    assert len(lengths) < 150  # of 4096
    strong = field.norm(dim=0).flatten().argmax()
    assert [strong % 64 + 0.5, strong // 64 + 0.5] in arrows.XY.tolist()


def test_heat_writes_its_numbers_and_names() -> None:
    ax = plots.heat(
        torch.tensor([[0.25, 1.0]]), rows=["r"], columns=["c", "d"], xlabel="x"
    )
    assert [text.get_text() for text in ax.texts] == ["0.25", "1.00"]
    assert [text.get_color() for text in ax.texts] == [plots.INK, "white"]
    whole = plots.heat(torch.tensor([[3, 12]]), rows=["r"], columns=["c", "d"])
    assert [text.get_text() for text in whole.texts] == ["3", "12"]
    with pytest.raises(ValueError, match="names, got 2 rows and 2 columns"):
        plots.heat(torch.ones(1, 2), rows=["r", "s"], columns=["c", "d"])
    with pytest.raises(ValueError, match="matrix holds 1 values"):
        plots.heat(torch.tensor([[NAN]]), rows=["r"], columns=["c"])


def test_graph_fills_nodes_and_draws_arrows() -> None:
    ax = plots.graph(
        {"a": True, "b": False, "c": False}, [("a", "b", 2.0), ("c", "b", 1.0)]
    )
    discs = [line for line in ax.lines if line.get_marker() == "o"]
    assert [disc.get_color() for disc in discs] == [plots.COLOURS[0], "white", "white"]
    np.testing.assert_allclose(discs[0].get_xydata(), [[0, 1]], atol=1e-9)
    # clockwise
    np.testing.assert_allclose(discs[1].get_xydata(), [[3**0.5 / 2, -0.5]], atol=1e-9)
    arrows = [text.arrow_patch for text in ax.texts if text.arrow_patch is not None]
    assert [arrow.get_linewidth() for arrow in arrows] == [2.0, 1.0]
    assert {text.get_text() for text in ax.texts} == {"", "a", "b", "c"}


@pytest.mark.parametrize(
    ("nodes", "arrows"),
    [({}, []), ({"a": True}, [("a", "b", 1.0)]), ({"a": True}, [("a", "a", 1.0)])],
)
def test_graph_refuses(nodes: dict, arrows: list) -> None:
    with pytest.raises(ValueError, match="expected nodes"):
        plots.graph(nodes, arrows)


def test_boxes_stand_where_they_are_with_their_words_and_colours() -> None:
    known = torch.tensor([[2.0, 3.0, 10.0, 12.0], [-4.0, 0.0, 6.0, 8.0]])
    ax = plots.boxes(
        torch.rand(3, 16, 20),
        known,
        texts=["one", "two"],
        colours=["#ff0000", "#00ff00"],
    )
    for line, (x0, y0, x1, y1) in zip(ax.lines, known.tolist(), strict=True):
        assert (min(line.get_xdata()), max(line.get_xdata())) == (x0, x1)
        assert (min(line.get_ydata()), max(line.get_ydata())) == (y0, y1)
    assert [line.get_color() for line in ax.lines] == ["#ff0000", "#00ff00"]
    assert [text.get_text() for text in ax.texts] == ["one", "two"]
    assert ax.texts[1].get_position()[0] >= 0  # inside, though its box begins outside
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 20), (16, 0))
    assert len(plots.boxes(torch.rand(1, 8, 8), known[:0]).lines) == 0
    assert [line.get_alpha() for line in ax.lines] == [None, None]
    weighed = plots.boxes(
        torch.rand(3, 16, 20), known, weights=torch.tensor([1.0, 0.25])
    )
    assert [line.get_alpha() for line in weighed.lines] == [1, 0.25]


def test_boxes_refuses_bad_input() -> None:
    known = torch.zeros(2, 4)
    with pytest.raises(
        ValueError, match="expected 2 texts, colours and weights or none, got 1, 0, 0"
    ):
        plots.boxes(torch.rand(3, 8, 8), known, texts=["one"])
    with pytest.raises(ValueError, match="weights or none, got 0, 0, 3"):
        plots.boxes(torch.rand(3, 8, 8), known, weights=[1.0] * 3)
    with pytest.raises(ValueError, match=r"2\.0"):
        plots.boxes(torch.rand(3, 8, 8), known, weights=torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="not finite"):
        plots.boxes(torch.rand(3, 8, 8), known / 0)


def test_attention_weighs_boxes_beside_bars_from_top_to_bottom() -> None:
    frames = torch.tensor([[1.0, 1.0, 4.0, 4.0], [2.0, 2.0, 6.0, 6.0]])
    shares = {"star": 0.75, "heart": 0.25}
    figure = plots.attention(
        torch.rand(3, 8, 8), frames, [1.0, 0.2], shares, xlabel="share", title="a STAR"
    )
    left, right = figure.axes
    assert [line.get_alpha() for line in left.lines] == [1.0, 0.2]
    assert [bar.get_width() for bar in right.patches] == [0.75, 0.25]
    figure.draw_without_rendering()
    star, heart = right.get_yticklabels()
    assert (star.get_text(), heart.get_text()) == ("star", "heart")
    assert right.yaxis_inverted()
    assert figure.get_suptitle() == "a STAR"


def test_a_film_of_attention_does_not_jump_with_the_names_of_its_bars() -> None:
    frames = []
    for name in ("a", "a much longer name"):
        box = torch.tensor([[1.0, 1.0, 4.0, 4.0]])
        shares = {name: 0.5}
        picture = torch.rand(3, 8, 8)
        figure = plots.attention(picture, box, [1.0], shares, xlabel="share")
        figure.draw_without_rendering()
        frames.append([ax.get_position().bounds for ax in figure.axes])
    assert frames[0] == frames[1]


def test_attention_refuses_no_bars() -> None:
    with pytest.raises(ValueError, match="bars"):
        plots.attention(
            torch.rand(3, 8, 8), torch.zeros(1, 4), [1.0], {}, xlabel="share"
        )


def test_detections_are_filtered_named_and_coloured_by_tube() -> None:
    found = {
        "boxes": torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]]),
        "scores": torch.tensor([0.9, 0.2, 0.5]),
        "labels": torch.tensor([1, 0, 0]),
    }
    ax = plots.detections(torch.rand(3, 8, 8), found, names=["star", "ring"])
    assert [text.get_text() for text in ax.texts] == ["ring 0.9", "star 0.5"]
    assert {line.get_color() for line in ax.lines} == {plots.COLOURS[6]}
    ax = plots.detections(
        torch.rand(3, 8, 8),
        found | {"tubes": torch.tensor([1, 2, 9])},
        names=["star", "ring"],
    )
    assert [line.get_color() for line in ax.lines] == [plots.COLOURS[1]] * 2
