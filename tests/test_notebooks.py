"""What every stored chapter promises: fresh outputs, its parts, its sizes. nbval runs
them; this reads them."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
import chapters  # noqa: E402
import digests  # noqa: E402
import registry  # noqa: E402
import stored  # noqa: E402
from stored import KEY, VIEW, outputs, states  # noqa: E402

from papernets_lite import claims, show  # noqa: E402
from papernets_lite.panels import unpack  # noqa: E402

NOTEBOOKS = registry.built(ROOT)
each = pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
REPORTS = "What the paper reports"
SECTIONS = (
    "Touch it first",
    "The problem",
    "The idea",
    REPORTS,
    "honest reading",
    "Exercises",
    "What came next",
    "References",
)
BYTES = 300_000
CELL_LINES, CHAPTER_LINES, COLUMNS = 25, 300, 88
LISTED, LISTED_IN_A_ROW = 130, 25  # lines of the package's source that it shows
EQUATION = re.compile(r"[Ee]quation\s\((\d+)\)")  # the paper's own is an "Eq. 1"
# Characters of the promise, of the first paragraph and of the hero's own prose: what
# fits above the hero; and the words that the first paragraph has at least.
PROMISE, FIRST, TOUCH, OPENING = 90, 300, 95, 35
NAME = 60  # characters of what a folded cell is called
SENTENCE = 140  # letters below a widget's picture: two lines of a page
WIDGETS = ("widgets.scrubber(", "widgets.picker(", "partial(widgets.scrubber")
TRAINS = re.compile(r"training\.(train|fit|compare)\b")
# Of CPU time: 90 is the first fourteen's limit on the machine of the budgets; what is
# stored was made on one that is a quarter to a third slower (see `make bench`).
SECONDS = 4 / 3 * 90


def executed(path):
    return f"{path.name}: run `make execute SLUGS={path.stem}`"


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in stored.tags(cell)]


def views(cell):
    found = [output.get("data", {}) for output in cell.get("outputs", [])]
    return [data[VIEW]["model_id"] for data in found if VIEW in data]


def prose(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    return "\n".join(cell.source for cell in cells)


def own_cells(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if "install" not in stored.tags(cell)]


@pytest.fixture
def notebook(path):
    return nbformat.read(path, 4)


@pytest.fixture(scope="module")
def looked_at():
    return {chapter.slug: chapter for chapter in chapters.look(ROOT)}


@each
def test_outputs_are_fresh(path, looked_at):
    assert not looked_at[path.stem].is_stale, executed(path)


@each
def test_results_were_measured_by_this_code(path, looked_at):
    assert not looked_at[path.stem].is_unmeasured, executed(path)


@each
def test_what_needs_no_kernel_is_stamped(path, looked_at):
    written = chapters.stamped(ROOT, looked_at[path.stem])
    assert not written, f"{path.name}: run `make stamp SLUGS={path.stem}`"


@each
def test_size(path, notebook):
    size = path.stat().st_size
    assert size <= BYTES, f"{path.name} has {size} bytes, at most {BYTES}"
    cells = len(notebook.cells)
    assert 25 <= cells <= 36, f"{path.name} has {cells} cells; 25 to 36 are asked for"


@each
def test_code_is_short_enough_to_be_read(path, notebook):
    total = 0
    for number, cell in enumerate(notebook.cells):
        if cell not in own_cells(notebook):
            continue
        written = [line.strip() for line in cell.source.splitlines()]
        lines = [line for line in written if line and not line.startswith("#")]
        total += len(lines)
        where = f"{path.name}, cell {number + 1}"
        assert len(lines) <= CELL_LINES, f"{where}: {len(lines)} lines, split it"
        widest = max(map(len, cell.source.splitlines()), default=0)
        assert widest <= COLUMNS, f"{where}: a line of {widest} columns"
    assert total <= CHAPTER_LINES, f"{path.name}: {total} lines of code"


@each
def test_parts_are_there_in_order(path, notebook):
    text = prose(notebook)
    places = [text.find(words) for words in SECTIONS]
    missing = [words for words, at in zip(SECTIONS, places, strict=True) if at < 0]
    assert not missing, f"{path.name} lacks the sections {missing}"
    assert places == sorted(places), f"{path.name}: its sections are out of order"
    for words in ("**Differs**", "**Guessed**"):
        assert words in text, f"{path.name}: the honest reading lacks {words}"
    assert text.count("<summary>Solution") == 3, f"{path.name}: three solutions"
    assert "TODO" not in text, f"{path.name} still holds a TODO"


@each
def test_equations_are_numbered_and_those_spoken_of_exist(path, notebook):
    text = prose(notebook)
    displayed = [formula.strip() for formula in text.split("$$")[1::2]]
    tags = [re.search(r"\\tag\{(\d+)\}$", formula) for formula in displayed]
    numbers = [int(tag[1]) if tag else None for tag in tags]
    said = f"{path.name}: each displayed formula ends with its \\tag, in order"
    assert displayed, f"{path.name}: one displayed equation"
    assert numbers == list(range(1, len(displayed) + 1)), said
    spoken_of = {int(number) for number in EQUATION.findall(text)}
    assert spoken_of <= set(numbers), f"{path.name}: an equation that is not there"
    # in every viewer but the site these would be seen as they stand
    labels = re.findall(r"\$\$ \(.*?\)|\{eq\}", text)
    assert not labels, f"{path.name}: labels of MyST"


@each
def test_the_reader_touches_it_before_anything_is_trained(path, notebook):
    touched = [i for i, cell in enumerate(notebook.cells) if views(cell)]
    cells = enumerate(notebook.cells)
    trained = [i for i, c in cells if c.cell_type == "code" and TRAINS.search(c.source)]
    assert touched, f"{executed(path)}: it shows no widget"
    assert trained, f"{path.name} trains nothing"
    said = f"{path.name}: a cell before the first that trains must show a widget"
    assert touched[0] < trained[0], said


@each
def test_the_opening_leaves_room_for_the_hero(path, notebook):
    cells = notebook.cells
    title, promise, *rest = cells[0].source.split("\n\n")
    assert title.startswith("# ")
    assert len(rest) == 1, f"{path.name}: one paragraph after title and promise"
    at = next(i for i, cell in enumerate(cells) if cell.source.startswith("## "))
    kinds = [cell.cell_type for cell in cells[1 : at + 3]]
    said = f"{path.name}: title, set-up, the hero's heading, the hero, prose on it"
    assert kinds == ["code"] * (at - 1) + ["markdown", "code", "markdown"], said
    assert cells[at].source.startswith("## Touch it first"), said
    touch = cells[at].source.partition("\n\n")[2]
    told = {"promise": (promise, PROMISE), "first paragraph": (rest[0], FIRST)}
    told["prose above the hero"] = (touch, TOUCH)
    for what, (text, most) in told.items():
        said = f"{path.name}: the {what} has {len(text)} characters, at most {most}"
        assert len(text) <= most, said
    words = len(rest[0].split())
    assert words >= OPENING, f"{path.name}: the first paragraph has {words} words"


@each
def test_folded_cells_have_names(path, notebook):
    names = []
    for number, cell in enumerate(notebook.cells):
        if "hide-input" not in stored.tags(cell):
            continue
        where = f"{path.name}, cell {number + 1}"
        first = cell.source.partition("\n")[0]
        assert re.match("# [A-Z]", first), f"{where}: its first line says what it does"
        name = first.removeprefix("# ")
        assert len(name) <= NAME, f"{where}: a name of {len(name)} characters"
        assert not name.endswith("."), f"{where}: a name, no sentence"
        names.append(name)
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"{path.name}: two cells are called {twice}"
    for cell in notebook.cells:
        if "claims.measure(" in cell.source:
            said = f"{path.name}: the cell that measures the claims is folded"
            assert "hide-input" in stored.tags(cell), said


@each
def test_what_the_paper_reports_is_a_table(path, notebook):
    after = prose(notebook).partition(f"## {REPORTS}")[2]
    section = after.partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    said = f"{path.name}: what the paper reports in 5 to 8 rows of 4 columns"
    assert 5 <= len(rows) - 2 <= 8, f"{said}; it has {len(rows) - 2}"
    for row in rows:
        cells = row.replace(r"\|", "").strip("| ").split("|")
        assert len(cells) == 4, f"{said}: {row}"


@each
def test_a_map_of_the_net_stands_before_its_listing(path, notebook):
    cells = notebook.cells
    maps = [i for i, c in enumerate(cells) if "show.net(" in c.source]
    assert len(maps) == 1, f"{path.name}: one cell calls show.net(...)"
    module = importlib.import_module(f"papernets_lite.{path.parent.name}.{path.stem}")
    part = re.search(r'part="(\w+)"', cells[maps[0]].source)
    whole = module.tiny()
    nets = [whole, *([getattr(whole, part[1])] if part else [])]
    listings = [c.source for c in cells[maps[0] :] if "show.source(" in c.source]
    names = "|".join(type(net).__name__ for net in nets)
    listed = rf"show\.source\([^)]*\.({names})\b"
    said = f"{path.name}: show.net(...) stands before the listing of {names}"
    assert any(re.search(listed, source) for source in listings), said
    data = [output.get("data", {}) for output in cells[maps[0]].get("outputs", [])]
    drawn = [found for found in data if "pn-net" in found.get("text/html", "")]
    assert drawn, f"{executed(path)}: its map is stored"
    assert "operations" in drawn[0]["text/plain"], "the map in words"


@each
def test_listings_are_short_and_show_the_main_class(path, notebook):
    names = {}
    for cell in own_cells(notebook):
        for node in ast.parse(digests.python(cell.source)).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                exec(ast.unparse(node), names)
    shown, total = set(), 0
    for cell in own_cells(notebook):
        items = [a for call in stored.only_listings(cell) for a in call.args]
        found = [eval(ast.unparse(item), names) for item in items]
        shown |= {item.__qualname__ for item in found}
        fenced = [show.listing(item).split("```")[1] for item in found]
        lines = sum(text.count("\n") - 1 for text in fenced)
        said = f"{path.name}: {lines} lines in a row, at most {LISTED_IN_A_ROW}"
        # what is longer opens by a click, where it stands alone
        alone = len(found) == 1
        assert alone or lines <= LISTED_IN_A_ROW, f"{said}: {cell.source}"
        total += lines
    assert total <= LISTED, f"{path.name} lists {total} lines, at most {LISTED}"
    module = importlib.import_module(f"papernets_lite.{path.parent.name}.{path.stem}")
    net = type(module.tiny())
    for method in {"__init__", "forward"} & set(vars(net)):
        name = f"{net.__qualname__}.{method}"
        assert shown & {net.__qualname__, name}, f"{path.name} does not list {name}"


@each
def test_the_training_call_is_seen(path, notebook):
    for cell in own_cells(notebook):
        hidden = "hide-input" in stored.tags(cell)
        said = f"{path.name}: a cell that trains is hidden:\n{cell.source}"
        assert not (hidden and TRAINS.search(cell.source)), said


@each
def test_claims_name_their_rival_and_their_reservation(path):
    for key, claim in claims.read_claims(path.stem).items():
        where = f"book/claims/{path.stem}.yml, {key}"
        for name in ("short", "sceptic", "margin", "margin_means", "but"):
            assert getattr(claim, name), f"{where}: {name} is missing"
        assert len(claim.short) <= 36, f"{where}: short has more than 36 characters"
        assert len(claim.but.split()) <= 8, f"{where}: but has more than eight words"
        said = f"{where}: where speed counts, its text says after how many steps"
        assert not claim.speed or "steps" in claim.text, said


@each
def test_cells_and_tags(path, notebook):
    for tag in ("install", "parameters", "nbval-check-output"):
        assert tagged(notebook, tag), f"{path.name}: no cell is tagged {tag}"
    parameters = tagged(notebook, "parameters")[0].source
    names = re.findall(r"^(\w+) = ", parameters, re.M)
    said = f"{path.name}: the cell tagged parameters sets seed and scale, in that order"
    assert names[:2] == ["seed", "scale"], said
    claimed = any(claim.speed for claim in claims.read_claims(path.stem).values())
    said = f"{path.name}: and longer = 1, where a claim says speed: true, only there"
    assert names[2:] == ["longer"] * claimed, said
    slug = path.stem
    verdicts = [c for c in notebook.cells if stored.calls_of(c, "verdicts")]
    said = f'{path.name}: one cell claims.verdicts("{slug}"), tagged nbval-check-output'
    assert len(verdicts) == 1, said
    assert "nbval-check-output" in stored.tags(verdicts[0]), said
    assert verdicts[0].source == f'claims.verdicts("{slug}")', said
    code = "\n".join(cell.source for cell in own_cells(notebook))
    said = f'{path.name}: a cell calls claims.measure("{slug}", seed, ...)'
    measures = f'claims.measure(\n    "{slug}"' in code or f'measure("{slug}"' in code
    assert measures, said
    assert "assert " in code, f"{path.name}: nothing is asserted"


@each
def test_every_viewer_shows_its_markdown(path, notebook):
    """Roles and directives are raw text on GitHub, in JupyterLab and in Colab."""
    raw = re.findall(
        r"\{[\w:+-]+\}`[^`]*`|^ *(?::{3,}|`{3,}\{).*", prose(notebook), re.M
    )
    assert not raw, f"{path.name}: only the site understands {raw}"


@each
def test_listings_stand_alone(path, notebook):
    for cell in own_cells(notebook):
        alone = "show.source(" not in cell.source or stored.only_listings(cell)
        said = f"{path.name}: listings are stamped where a cell does nothing else"
        assert alone, f"{said}:\n{cell.source}"


@each
def test_the_notebook_defines_no_model_or_helper(path, notebook):
    for cell in own_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                raise AssertionError(
                    f"{path.name} defines {node.name}: it belongs in the paper's file"
                )


@each
def test_a_data_cell_makes_its_own_generator(path, notebook):
    for cell in own_cells(notebook):
        # Names only: a GAN's generator is an attribute, or a word in a caption.
        names = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Name)]
        drawn = any(name.id == "generator" for name in names)
        made = "generator = torch.Generator()" in cell.source
        assert not drawn or made, (
            f"{path.name}: this cell begins with generator = torch.Generator()...,"
            f" or run twice it would draw other data:\n{cell.source}"
        )


@each
def test_outputs_are_clean(path, notebook):
    text = json.dumps(list(outputs(notebook)))
    for place in (str(ROOT), str(Path.home()) + "/"):
        assert place not in text, f"{path.name}: an output names the folder {place}"
    address = re.search(r" at 0x[0-9a-f]{6}", text)
    said = f"{path.name}: an output holds an address, which differs in each run"
    assert not address, said
    for output in outputs(notebook):
        assert output.output_type != "error", f"{path.name}: a cell failed: {output}"
        warned = f"{path.name}: a cell warns: {output.get('text')}"
        assert output.get("name") != "stderr", warned
        for kind in ("image/svg+xml", "image/png", "image/jpeg", "image/webp"):
            if kind in output.get("data", {}):
                alt = output.metadata.get(kind, {}).get("alt")
                said = f"{path.name}: a figure without alt text: use plots.finish"
                assert alt, said
    state = states(notebook)
    shown = [view for cell in notebook.cells for view in views(cell)]
    assert shown, f"{executed(path)}: it shows no widget"
    assert set(shown) <= set(state)
    for model in state.values():
        for image in re.findall(r"<img [^>]*>", str(model["state"].get("value", ""))):
            assert re.search(r'alt="[^"]{5,}"', image)


@each
def test_each_state_of_a_widget_says_what_is_seen(path, notebook):
    for model in states(notebook).values():
        state = model["state"]
        frames, alts = state.get("frames", []), state.get("alts", [])
        sources = [frames[f] if isinstance(f, int) else f for f in frames]
        if packed := state.get("drawn"):
            sources = unpack(packed)
        seen = {}
        for source, alt in zip(sources, alts, strict=True):
            said = (
                f"{path.name}: a whole sentence, of at most {SENTENCE} letters: {alt}"
            )
            names = [option for axis in state["axes"] for option in axis["options"]]
            begins = alt[0].isupper() or alt[0].isdigit() or alt[0] in "'\"<"
            assert begins or alt.startswith(tuple(names)), said
            assert alt.endswith("."), said
            assert len(alt.split()) >= 4, said
            assert len(alt) <= SENTENCE, said
            said = f"{path.name}: two pictures share a sentence: {alt}"
            assert seen.setdefault(alt, source) == source, said


@each
def test_a_widget_opens_where_the_chapter_says(path, notebook):
    for cell in own_cells(notebook):
        calls = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call)]
        made = [call for call in calls if ast.unparse(call).startswith(WIDGETS)]
        words = {word.arg for call in made for word in call.keywords}
        said = f"{path.name}: start=... on the state that surprises:\n{cell.source}"
        assert not made or "start" in words, said


@each
def test_a_widget_leaves_its_opening_frame_where_its_script_does_not_run(notebook):
    for output in outputs(notebook):
        data = output.get("data", {})
        if VIEW in data:
            kinds = {kind for kind in data if kind.startswith("image/")}
            assert kinds, f"no picture beside the widget: {sorted(data)}"


@each
def test_it_fits_the_budget(path, notebook):
    seconds = notebook.metadata.get(KEY, {}).get("seconds")
    assert seconds is not None, executed(path)
    said = f"{path.name} took {seconds} s of CPU time"
    assert seconds <= SECONDS, said


@each
def test_verdicts_are_stored(path, notebook):
    kept = claims.read_results(path.stem).get("claims", {})
    words = claims.read_claims(path.stem)
    said = f"{executed(path)}: book/results/{path.stem}.json lacks claims"
    assert set(kept) == set(words), said
    cells = tagged(notebook, "nbval-check-output")
    shown = "".join(o.text for c in cells for o in c.outputs if "text" in o)
    for key, claim in words.items():
        seeds = kept.get(key, {}).get("seeds", [10])
        assert len(seeds) >= 5, f"{executed(path)}: {key} has {len(seeds)} of 5 seeds"
        looked_at = f"{path.name}: {key}: seeds under 10 are for writing, got {seeds}"
        assert min(seeds) >= 10, looked_at
        said = " ".join(shown.split())
        assert f": {claim.text}" in said, f"{path.name} lacks the verdict on {key}"
    stamp = f"{path.name}: run `make stamp SLUGS={path.stem}`"
    assert claims.verdict_text(path.stem) in shown, stamp
