"""Run the stages of ``make test``: every one of them, whatever the others did.

``python .ci/stages.py lint:120 types:300 ...`` calls ``make lint``, ``make types`` and
so on. A stage that takes more seconds than it may is ended with all its processes. What
failed is told at the end, with the end of its log; the last line counts.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TAIL = 60  # lines of a failed stage's log that are shown


@dataclass
class Stage:
    """A target of the Makefile and the seconds that it may take."""

    name: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Stage":
        """A stage from ``name:seconds``."""
        name, colon, limit = text.partition(":")
        if not (name and colon and limit.isdigit()):
            raise argparse.ArgumentTypeError(f"expected name:seconds, got {text!r}")
        return cls(name, float(limit))


def end(process: subprocess.Popen) -> None:
    """End a process and all that it started: politely, then at once."""
    for ending, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, ending)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def run(stage: Stage, log: Path, command: list[str]) -> str:
    """Run one stage.

    Args:
        stage: What to run, and how long at most.
        log: Where all that it says is written.
        command: What comes before the stage's name.

    Returns:
        What went wrong, empty where nothing did.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, stage.name],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, ended as one
        )
        try:
            code = process.wait(stage.limit)
        except subprocess.TimeoutExpired:
            end(process)
            return f"HUNG: ended after its {stage.limit:.0f} s"
        except BaseException:  # Ctrl-C
            end(process)
            raise
    return f"FAILED with exit code {code}" if code else ""


def counted(log: str) -> str:
    """The line in which pytest counts, if there is one."""
    lines = [line for line in log.splitlines() if re.search(r"\d+ passed", line)]
    return lines[-1].strip("= ") if lines else ""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 where a stage failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+", type=Stage.parse)
    parser.add_argument("--logs", type=Path, default=Path("_build/logs"))
    parser.add_argument("--make", default=os.environ.get("MAKE", "make"))
    options = parser.parse_args(arguments)
    options.logs.mkdir(parents=True, exist_ok=True)
    command = [options.make, "--no-print-directory"]
    failed: dict[str, str] = {}
    for stage in options.stages:
        print(f"{stage.name:20s}", end="", flush=True)
        log = options.logs / f"{stage.name}.log"
        start = time.monotonic()
        wrong = run(stage, log, command)
        said = log.read_text(encoding="utf-8", errors="replace")
        if wrong:
            failed[stage.name] = wrong
        parts = [f"{wrong or 'ok'}, {time.monotonic() - start:.0f} s", counted(said)]
        print("; ".join(part for part in parts if part), flush=True)
    for name, wrong in failed.items():
        log = options.logs / f"{name}.log"
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"\n=== {name}: {wrong}", *said[-TAIL:], sep="\n")
        print(f"the whole log: {log}; run it again: make {name}")
    if failed:
        print("\nfailed:", ", ".join(f"{name} ({failed[name]})" for name in failed))
    print(f"{len(options.stages) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
