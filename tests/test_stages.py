"""The runner of ``make test``: all stages run, failures are told, what hangs ends."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / ".ci" / "stages.py"
MAKEFILE = """
good:
\t@echo 7 passed in 1.0s
bad:
\t@echo the reason; exit 3
hangs:
\t@echo begun; sleep 600 & echo $$! > child; wait
"""


def run(folder: Path, *stages: str) -> subprocess.CompletedProcess:
    (folder / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    return subprocess.run(
        [sys.executable, RUNNER, *stages, "--make", "make"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_a_failed_stage_stops_no_other_and_is_told_at_the_end(tmp_path: Path) -> None:
    done = run(tmp_path, "bad:60", "good:60")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("bad ")
    assert "FAILED with exit code 2" in lines[0]
    assert re.match(r"good +ok, \d+ s; 7 passed in 1.0s", lines[1])
    assert "the reason" in lines
    assert lines[-2] == "failed: bad (FAILED with exit code 2)"
    assert lines[-1] == "1 passed, 1 failed"


def test_a_stage_that_hangs_is_ended_by_name_with_its_children(tmp_path: Path) -> None:
    done = run(tmp_path, "hangs:5", "good:60")
    assert done.returncode == 1
    assert "HUNG: ended after its 5 s" in done.stdout
    assert "begun" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 passed, 1 failed"
    child = (tmp_path / "child").read_text(encoding="utf-8").strip()
    alive = subprocess.run(
        ["ps", "-o", "stat=", "-p", child], capture_output=True, encoding="utf-8"
    )
    assert alive.stdout.strip()[:1] in ("", "Z")


def test_all_green(tmp_path: Path) -> None:
    done = run(tmp_path, "good:60")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "1 passed, 0 failed"


@pytest.mark.parametrize("stage", ["good", "good:", ":60", "good:soon"])
def test_a_stage_without_a_limit_is_refused(tmp_path: Path, stage: str) -> None:
    done = run(tmp_path, stage)
    assert done.returncode == 2
    assert "expected name:seconds" in done.stderr
