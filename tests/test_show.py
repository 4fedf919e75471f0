import inspect
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from papernets_lite import draw, plots, show, training, widgets


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
        """Twice ``x`` (Eq. 1).

        It is exact.
        """
        return 2 * x

    def plain(self):
        """No section."""
'''


def test_what_docstrings_say_of_arguments_is_folded() -> None:
    code, folded = show.fold(CLASS.strip())
    assert code == FOLDED.strip()
    assert folded == (
        "Net:\nArgs:\n    dim: Channels.\nforward:\nReturns:\n    As ``x``."
    )
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


def test_table_writes_numbers_as_a_reader_wants_them(shown: list[str]) -> None:
    show.table(
        ["net", "weights", "error"], [("a|b", 1234567, 6.37191), ("c", True, 12.0)]
    )
    assert shown[0].splitlines() == [
        "| net | weights | error |",
        "| --- | --- | --- |",
        r"| a\|b | 1,234,567 | 6.372 |",
        "| c | True | 12 |",
    ]
    with pytest.raises(ValueError, match=r"rows of 2 cells, got \['one'\]"):
        show.table(["a", "b"], [["one"]])


def test_parameters_counts_what_is_learned() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert show.parameters(net) == 4 * 3 * 9 + 4 + 4 + 4
    net[0].weight.requires_grad_(False)
    assert show.parameters(net) == 12


def test_numbers_of_numpy_and_torch_are_written_alike(shown: list[str]) -> None:
    cells = (np.float32(0.123456789), np.int64(12345), torch.tensor(0.5), np.True_)
    show.table(list("abcd"), [cells])
    assert shown[0].splitlines()[-1] == "| 0.1235 | 12,345 | 0.5 | True |"


def test_a_script_prints_a_caption_and_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.source(draw.resize)
    show.table(["a"], [(1,)])
    caption, *table = capsys.readouterr().out.splitlines()
    assert caption.startswith("`papernets_lite/draw.py`, lines ")
    assert table == ["| a |", "| --- |", "| 1 |"]
