"""What makes a chapter stale, and what does not."""

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
import digests  # noqa: E402
import registry  # noqa: E402
from stored import KEY, code, read  # noqa: E402

CELL = """
from papernets_lite import data, plots
from papernets_lite.ops.boxes import area
scene = data.shapes.sample(3)
size = area(scene)
plots.finish(plots.axes(), "a figure")
"""
FILES = {
    "__init__.py": "",
    "data/__init__.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from .public import load\n"
        "def __getattr__(name):\n    return name\n"
    ),
    "data/public.py": "def load(name):\n    return name\n",
    "data/shapes.py": (
        "from . import canvas\n"
        "SIZES = (1, 2)\n"
        "def sample(n):\n    return canvas.draw(n, SIZES)\n"
        "def unused():\n    return 1\n"
    ),
    "data/canvas.py": "NOISE = 0.1\ndef draw(n, sizes):\n    return n * NOISE\n",
    "data/streets.py": "def sample(n):\n    return n\n",
    "ops/__init__.py": "",
    "ops/boxes.py": 'def area(box):\n    """Words."""\n    return box.sum()\n',
    "plots.py": (
        "import style\nstyle.set('blue')\n"
        "def axes():\n    return _make()\n"
        "def _make():\n    return 1\n"
        "def finish(figure, alt):\n    return figure\n"
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "papernets_lite" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / "papernets_lite" / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def of(root: Path, cell: str = CELL) -> digests.Digests:
    return digests.of_cells(digests.Package(root), [cell])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("data/shapes.py", "return 1\n", "return 2\n"),
        ("data/shapes.py", "def unused", "def other():\n    return 3\ndef unused"),
        ("data/streets.py", "return n", "return 2 * n"),
        ("ops/boxes.py", "Words.", "Other words."),
        ("ops/boxes.py", "def area(box)", "def area(box: int) -> int"),
        (
            "ops/boxes.py",
            "    return box",
            "    # why\n\n    return (box)\n    return box",
        ),
        ("plots.py", "def axes", "def bars():\n    return 2\ndef axes"),
    ],
)
def test_what_is_not_reached_or_not_run_changes_nothing(root, name, old, new):
    if "why" in new:
        new = "    # why\n\n    return box"
    before = of(root)
    edit(root, name, old, new)
    assert of(root) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("data/canvas.py", "0.1", "1.0"),  # a constant, through a relative import
        ("data/canvas.py", "n * NOISE", "n + NOISE"),
        ("data/shapes.py", "(1, 2)", "(1, 3)"),
        ("ops/boxes.py", "sum", "mean"),
    ],
)
def test_what_is_measured_changes_both(root, name, old, new):
    before = of(root)
    edit(root, name, old, new)
    assert of(root).numbers != before.numbers
    assert of(root).page != before.page


def test_a_name_that_is_loaded_late_is_followed(root):
    cell = "from papernets_lite import data\ndata.load('a')"
    before = of(root, cell)
    assert "papernets_lite.data.public" in before.modules
    assert "papernets_lite.data.public" not in of(root).modules
    edit(root, "data/public.py", "return name", "return name * 2")
    assert of(root, cell).numbers != before.numbers


@pytest.mark.parametrize(
    ("old", "new"), [("return 1", "return 2"), ("'blue'", "'red'")]
)
def test_what_only_shows_changes_the_page(root, old, new):
    before = of(root)
    edit(root, "plots.py", old, new)
    assert of(root).numbers == before.numbers
    assert of(root).page != before.page


def test_another_figure_in_a_cell_asks_for_no_new_numbers(root):
    before, after = of(root), of(root, CELL.replace('"a figure"', '"another"'))
    assert before.numbers == after.numbers
    assert before.page != after.page


def test_what_is_measured_is_no_mere_showing(root):
    cell = "from papernets_lite import claims\nclaims.measure('one', 0, {'k': (1, 2)})"
    before, after = of(root, cell), of(root, cell.replace("1", "3"))
    assert before.numbers != after.numbers


def test_a_name_that_a_function_binds_itself_is_not_the_modules(root):
    edit(root, "ops/boxes.py", "def area(box)", "def area(box, unused=0)")
    cell = "from papernets_lite.data.shapes import sample\nsample(1)"
    before = of(root, cell)
    edit(root, "data/shapes.py", "def sample(n)", "def sample(n, unused=None)")
    changed = of(root, cell)
    assert changed != before
    edit(root, "data/shapes.py", "return 1\n", "return 5\n")
    assert of(root, cell) == changed


def test_a_module_that_is_handed_on_is_reached_whole(root):
    cell = "from papernets_lite.data import shapes\nuse(shapes)"
    before = of(root, cell)
    edit(root, "data/shapes.py", "return 1\n", "return 5\n")
    assert of(root, cell) != before


def test_line_endings_do_not_matter(root):
    before = of(root)
    for path in (root / "papernets_lite").rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace("\n", "\r\n")
        path.write_bytes(text.encode())
    assert of(root, CELL.replace("\n", "\r\n")) == before


# The book itself

CHAPTERS = registry.built(ROOT)


def chapter_digests(root: Path) -> dict[str, digests.Digests]:
    cells = {slug: code(read(path)) for slug, path in CHAPTERS.items()}
    package = digests.Package(root)
    return {slug: digests.of_cells(package, cells[slug]) for slug in cells}


@pytest.fixture(scope="module")
def before() -> dict[str, digests.Digests]:
    return chapter_digests(ROOT)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "papernets_lite", tmp_path / "papernets_lite")
    return tmp_path


@pytest.mark.parametrize("slug", CHAPTERS)
def test_what_a_kernel_loads_is_what_is_hashed(slug, before):
    loaded = set(read(CHAPTERS[slug]).metadata.get(KEY, {}).get("modules", ()))
    assert loaded, f"{slug}.ipynb: run `make execute SLUGS={slug}`"
    missed = loaded - before[slug].modules
    assert not missed, f"{slug} loads {missed}, which its digest does not know"


@pytest.mark.parametrize("name", ["plots.py", "ops/boxes.py", "data/people.py"])
def test_a_new_function_makes_no_chapter_stale(package, before, name):
    path = package / "papernets_lite" / name
    added = "\n\ndef brand_new(value):\n    return value\n"
    path.write_text(path.read_text(encoding="utf-8") + added, encoding="utf-8")
    assert chapter_digests(package) == before


def test_other_shapes_make_exactly_the_chapters_that_draw_them_stale(package, before):
    path = package / "papernets_lite" / "data" / "shapes.py"
    text = path.read_text(encoding="utf-8")
    start = text.index("\ndef ", text.index("\ndef _draw(") + 1)
    changed = f"{text[:start].rstrip()}\n    out *= 10\n\n{text[start:]}"
    path.write_text(changed, encoding="utf-8")
    moved = {s for s, d in chapter_digests(package).items() if d != before[s]}
    loading = {
        slug
        for slug, path in CHAPTERS.items()
        if "papernets_lite.data.shapes" in read(path).metadata[KEY]["modules"]
    }
    assert moved
    assert moved == loading


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("claims.py", "  but: {", "  yet: {"),
        ("show.py", "Rest of the docstring", "Rest"),
    ],
)
def test_what_is_stamped_makes_no_chapter_stale(package, before, name, old, new):
    path = package / "papernets_lite" / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert chapter_digests(package) == before
