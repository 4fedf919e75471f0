"""Showing: pictures in Jupyter, words in a plain script."""

import IPython
import pytest
from IPython.display import Markdown

from papernets_lite import display as module
from papernets_lite import show
from papernets_lite.display import display


def test_a_script_prints_words_and_no_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figure = {"image/png": b"\x89PNG", "text/plain": "a line that rises"}
    table = {"text/markdown": "| a |"}
    display(figure, table, raw=True, metadata={"image/png": {"width": 3}})
    display(Markdown("**words**"), 7)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["a line that rises", "| a |", "**words**", "7"]


def test_jupyter_gets_the_objects_themselves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []

    def record(*items: object, **options: object) -> None:
        shown.append((items, options))

    monkeypatch.setattr(module, "in_jupyter", lambda: True)
    monkeypatch.setattr(IPython.display, "display", record)
    display({"image/png": b"x"}, raw=True, metadata={"image/png": {"width": 3}})
    ((items, options),) = shown
    assert items == ({"image/png": b"x"},)
    assert options == {"raw": True, "metadata": {"image/png": {"width": 3}}}
    assert capsys.readouterr().out == ""


def test_only_a_kernel_is_jupyter(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        pass

    class Kernel:
        kernel = object()

    for shell, expected in ((None, False), (Terminal(), False), (Kernel(), True)):
        monkeypatch.setattr(IPython, "get_ipython", lambda shell=shell: shell)
        assert module.in_jupyter() is expected


def test_chapters_find_it_in_show() -> None:
    assert show.display is display
