"""`make book` installs the group `site` alone: what the site's own code imports must
be there."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import tomli
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
# Files of this repository that are loaded with the site's extension.
LOADED = """
import sys
sys.path.insert(0, "book/_ext")
import book_pages
print(*{getattr(module, "__file__", None) for module in sys.modules.values()})
"""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def with_what_they_need(names: list[str]) -> set[str]:
    """Names of distributions, and of all that they require in turn."""
    found: set[str] = set()
    while names:
        wanted = Requirement(names.pop())
        name = canonical(wanted.name)
        known = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if known and name not in found:
            found.add(name)
            names += importlib.metadata.requires(name) or []
    return found


def imported(path: Path) -> set[str]:
    """Packages that a file imports when it is loaded; not those inside functions."""
    names: set[str] = set()
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        if isinstance(statement, ast.ImportFrom) and statement.module:
            names.add(statement.module)
    return {name.partition(".")[0] for name in names}


def test_the_sites_code_imports_nothing_but_what_the_site_installs():
    groups = tomli.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    installed = with_what_they_need(groups["site"])
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    files = {Path(file) for file in done.stdout.split()}
    own = {f for f in files if f.is_relative_to(ROOT) and ".venv" not in f.parts}
    owners = importlib.metadata.packages_distributions()
    wanted = {
        name: {canonical(owner) for owner in owners.get(name, [])}
        for name in set().union(*map(imported, own))
    }
    missing = {n: o for n, o in wanted.items() if o and not o & installed}
    missing.pop("papernets_lite", None)  # lies beside the book
    assert {"matplotlib", "scipy", "papernets_lite"} <= set(wanted)
    assert not missing, f"the group site in pyproject.toml lacks {missing}"
