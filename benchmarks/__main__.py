"""Measure everything and write ``results.md``: ``python -m benchmarks``."""

import argparse
import platform
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import torch

from . import imports, models, parsers, steps, streaming, worlds
from .timing import Row, words

PAGE = Path(__file__).with_name("results.md")
CHAPTERS = "## Chapters"
LIMIT = 1.05  # from here on a ratio is explained
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "monai",
    "controlnet-aux",
    "pix2pixhd",
    "pycocotools",
    "faster-coco-eval",
    "numpy",
)
# Why a ratio is above the limit: what a row's words begin with -> the reason.
REASONS: dict[str, str] = {
    "8,732 boxes to codes": "both sets of boxes are checked first, that they are "
    "finite and that no side is 0 or less; torchvision computes with whatever comes",
    "SSD's matching": "each true box gets a default box of its own, one after another; "
    "torchvision gives two the same one and loses a true box",
}
PARSERS = f"""## The parser of OpenPose beside the released one

{parsers.SCENES} crowds of three to five people; the true maps at the net's stride, with
noise added to every cell. A person is found where half of the joints are within
{parsers.NEAR:.0f} pixels. Recall is the share of people found, precision the share of
answers that are people; the last column is milliseconds a picture."""
STREAMING = f"""## A stream and its viewers

{streaming.VIEWERS} viewers of one stream on this machine for {streaming.SECONDS} s, at
{streaming.FPS} frames a second. The slow ones draw one while {streaming.PACE} come."""
TOPICS: dict[str, tuple[str, ModuleType]] = {
    "Nets at the paper's scale": (
        "Small pictures, so that the whole takes minutes; weights are random. The "
        "backward pass is that of the outputs' mean of squares.",
        models,
    ),
    "Targets, matching, decoding, evaluation": (
        "Where a package does the same step, it stands beside; else the plain loop "
        "that the tests compare with.",
        steps,
    ),
    "Worlds": (
        "Time for one image of 64 x 64 pixels, from scenes of 64; the design allows "
        "1 ms for a picture with its truth.",
        worlds,
    ),
    "Imports": (
        "Each in a fresh process. What a line says after *beyond* is there already.",
        imports,
    ),
}
HEAD = """# Speeds

How fast is this package beside the packages that implement the same? Written by
`make bench`; nothing here is a test, as a time on a shared machine says little of the
code.

How to read it: a **ratio** is ours by theirs, so that less than 1 is faster than the
package. Both are called in turns, in one process on one thread, and the ratio is the
median over the turns: it holds on another machine, where the times do not. Times are
seconds of CPU time, medians. Above {limit}, a line under the table says why.

Measured on {machine}, Python {python}; {packages}.
"""


def machine() -> str:
    """The processor's name, as far as the system tells it."""
    name = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, one thread"


def packages() -> str:
    """The versions of what is compared."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def reason(row: Row) -> str:
    """Why a ratio is above the limit, or what else there is to say of a row."""
    if row.note or row.ratio is None or row.ratio <= LIMIT:
        return row.note
    fits = [text for start, text in REASONS.items() if row.what.startswith(start)]
    return fits[0] if fits else "not explained yet"


def measured(topic: Callable[[], list[Row]], failures: list[str]) -> list[Row]:
    """A topic's rows; one that fails is told and stops no other."""
    print(topic.__module__, topic.__name__, flush=True)
    try:
        rows = topic()
    except Exception:
        failures.append(f"{topic.__module__}.{topic.__name__}")
        traceback.print_exc()
        return []
    for row in rows:
        beside = f", {row.ratio:.2f} x {row.rival}" if row.ratio is not None else ""
        print(f"  {row.what}: {words(row.ours)}{beside}", flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Rows as Markdown, in few columns; what there is to say stands under them."""
    if all(row.ratio is None for row in rows):
        lines = ["| what | time |", "| --- | --- |"]
        return "\n".join([*lines, *(f"| {r.what} | {words(r.ours)} |" for r in rows)])
    lines = ["| what | ours | theirs | ratio |", "| --- " * 4 + "|"]
    remarks = []
    for row in rows:
        theirs = f"{words(row.theirs)}, {row.rival}" if row.theirs is not None else ""
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        lines.append(f"| {row.what} | {words(row.ours)} | {theirs} | {ratio} |")
        if reason(row):
            remarks.append(f"- {row.what}: {reason(row)}.")
    return "\n".join(lines) + ("\n\n" + "\n".join(remarks) if remarks else "")


def kept_chapters() -> str:
    """The chapters' part of the page that is there."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    start = text.find(CHAPTERS)
    return text[start:].strip() if start >= 0 else ""


def chapter_part() -> str:
    """The chapters' part, measured."""
    from . import chapters

    return f"""{CHAPTERS}

Seconds of CPU time by kind, from one run of a chapter's cells as a script, and how many
billion operations a second its trainings reach: those of convolutions and linear
layers, counted by torch's formulas, a backward pass as two forward passes.

{chapters.table()}"""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 where something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chapters", action="store_true", help="run every chapter")
    parser.add_argument("--only", nargs="*", help="names of topics' files; no page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    parts = [
        HEAD.format(
            limit=LIMIT,
            machine=machine(),
            python=platform.python_version(),
            packages=packages(),
        ).strip()
    ]
    failures: list[str] = []
    for title, (about, module) in TOPICS.items():
        if options.only and module.__name__.rsplit(".", 1)[1] not in options.only:
            continue
        rows = [row for topic in module.TOPICS for row in measured(topic, failures)]
        parts.append(f"## {title}\n\n{about}\n\n{table(rows)}")
    if not options.only or "parsers" in options.only:
        parts.append(f"{PARSERS}\n\n{parsers.table()}")
    if not options.only or "streaming" in options.only:
        parts.append(f"{STREAMING}\n\n{streaming.table()}")
    parts.append(chapter_part() if options.chapters else kept_chapters())
    text = "\n\n".join(part for part in parts if part) + "\n"
    if options.only:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE.name}")
    if failures:
        print("could not be measured:", ", ".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
