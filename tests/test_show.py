import ast
import inspect
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from papernets_lite import draw, plots, show, training, widgets
from papernets_lite.generative import stargan


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Markdown that was displayed."""
    texts: list[str] = []

    def display(data: dict[str, str], *, raw: bool) -> None:
        assert raw
        texts.append(data["text/markdown"])

    monkeypatch.setattr(show, "display", display)
    return texts


def lines_of(caption: str) -> tuple[str, int, int]:
    path, numbers = caption.split(", lines ")
    first, last = map(int, numbers.split("-"))
    return path.strip("`"), first, last


@pytest.mark.parametrize(
    "item", [draw.grid, widgets.Frames, training.History.last, training.History]
)
def test_source_shows_the_lines_that_its_caption_names(
    shown: list[str], item: object
) -> None:
    # Functions are wrapped by the shape checks here, as by any decorator: what is shown
    # is the function itself.
    show.source(item)
    caption, _, fenced = shown[0].partition("\n\n```python\n")
    path, first, last = lines_of(caption)
    text = (show.ROOT / path).read_text(encoding="utf-8")
    written = textwrap.dedent("\n".join(text.splitlines()[first - 1 : last]))
    code, folded = show.fold(written)
    assert fenced.startswith(f"{code}\n```")
    assert not folded or f"```text\n{folded}\n```\n\n</details>" in fenced
    assert inspect.getdoc(item).splitlines()[0] in fenced


CLASS = '''
class Net(nn.Module):
    """Doubles.

    Args:
        dim: Channels.
    """

    def forward(self, x):
        """Twice ``x`` (Eq. 1).

        It is exact.

        Returns:
            As ``x``.
        """
        return 2 * x

    def plain(self):
        """No section."""
'''
FOLDED = '''
class Net(nn.Module):
    """Doubles."""

    def forward(self, x):
        """Twice ``x`` (Eq. 1)."""
        return 2 * x

    def plain(self):
        """No section."""
'''


def test_docstrings_are_folded_after_their_first_paragraph() -> None:
    code, folded = show.fold(CLASS.strip())
    assert code == FOLDED.strip()
    assert folded == (
        "Net:\nArgs:\n    dim: Channels.\n"
        "forward:\nIt is exact.\n\nReturns:\n    As ``x``."
    )
    two_lines = '"""One\n    sentence.\n    """'
    long = 'def f():\n    """One\n    sentence.\n\n    More.\n    """\n    return 1'
    assert show.fold(long) == (f"def f():\n    {two_lines}\n    return 1", "More.")
    assert show.fold("def f():\n    return 1") == ("def f():\n    return 1", "")


def test_source_shows_several_and_refuses_strangers(shown: list[str]) -> None:
    show.source(draw.resize, plots.axes)
    assert [text.split("`")[1] for text in shown] == [
        "papernets_lite/draw.py",
        "papernets_lite/plots.py",
    ]
    for stranger in (nn.Linear, torch.relu, 3, len):
        with pytest.raises(ValueError, match="functions or classes of papernets_lite"):
            show.source(stranger)


def test_a_listing_is_what_source_shows(shown: list[str]) -> None:
    # `make stamp` writes listings anew without a kernel.
    show.source(draw.resize, training.History.last)
    assert shown == [show.listing(draw.resize), show.listing(training.History.last)]


def test_a_listing_leaves_out_what_is_said_to_the_type_checker() -> None:
    shown = show.listing(stargan.turn)
    assert "**weights)\n" in shown
    assert "type: ignore" not in shown


def test_table_writes_numbers_as_a_reader_wants_them(shown: list[str]) -> None:
    show.table(
        ["net", "weights", "error", "is"],
        [("a|b", 1234567, 6.37191, True), ("c", 12, -0.5, False), ("", "", "", True)],
    )
    assert shown[0].splitlines() == [
        "| net | weights | error | is |",
        "| --- | ---: | ---: | --- |",
        r"| a\|b | 1,234,567 | 6.37 | True |",
        "| c | 12 | −0.50 | False |",
        "|  |  |  | True |",
    ]
    with pytest.raises(ValueError, match=r"rows of 2 cells, got \['one'\]"):
        show.table(["a", "b"], [["one"]])


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ([0.9328, 0.0417, 1e-5], ["0.933", "0.042", "0.000"]),
        ([131.7, 19.98], ["132", "20"]),
        ([22.29, 23.3], ["22.29", "23.30"]),  # a paper's own
        ([0.0, 1.0], ["0", "1"]),
        ([0.0625, float("nan")], ["0.0625", "nan"]),
        ([1234.56, 7], ["1,235", "7"]),
        ([-0.0001, 0.55561], ["−0.000", "0.556"]),
    ],
)
def test_a_columns_fractions_share_their_decimals(
    column: list[float], written: list[str], shown: list[str]
) -> None:
    show.table(["x"], [[value] for value in column])
    assert shown[0].splitlines()[2:] == [f"| {number} |" for number in written]


def test_parameters_counts_what_is_learned() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert show.parameters(net) == 4 * 3 * 9 + 4 + 4 + 4
    net[0].weight.requires_grad_(False)
    assert show.parameters(net) == 12


def test_numbers_of_numpy_and_torch_are_written_alike(shown: list[str]) -> None:
    cells = (np.float32(0.123456789), np.int64(12345), torch.tensor(0.5), np.True_)
    show.table(list("abcd"), [cells])
    assert shown[0].splitlines()[-1] == "| 0.123 | 12,345 | 0.5 | True |"


def test_a_script_prints_a_caption_and_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.source(draw.resize)
    show.table(["a"], [(1,)])
    caption, *table = capsys.readouterr().out.splitlines()
    assert caption.startswith("`papernets_lite/draw.py`, lines ")
    assert table == ["| a |", "| ---: |", "| 1 |"]


def test_a_docstring_that_is_cut_stays_within_the_columns() -> None:
    words = "x" * 80
    kept, rest = show.fold(f'def f():\n    """{words}.\n\n    More.\n    """\n')
    ast.parse(kept)
    assert max(map(len, kept.splitlines())) == show.COLUMNS
    assert rest == "More."
