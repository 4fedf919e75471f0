"""What every paper file promises, whichever paper it is."""

import ast
import doctest
import importlib
import inspect
import io
import keyword
import re
import sys
import tokenize
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from tests import papers

ROOT = Path(__file__).resolve().parents[1]
PARTS = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text())
FILES = sorted(
    p for part in PARTS for p in (ROOT / "papernets_lite" / part).glob("[a-z]*.py")
)
each = pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])


def module(path: Path) -> ModuleType:
    return importlib.import_module(f"papernets_lite.{path.parent.name}.{path.stem}")


def build(path: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    return module(path).tiny()


def test_there_are_papers():
    assert {"resnet", "openpose", "cyclegan"} <= {p.stem for p in FILES}
    assert {p.stem for p in FILES} == papers.slugs(), "one file each in tests/papers"


@each
def test_docstring_names_paper_code_and_deviations(path):
    text = module(path).__doc__
    for word in ("arXiv", "Official code:", "Idea:", "Differs:", "Guessed:"):
        assert word in text, f"{path}: the docstring lacks {word!r}"
    assert re.search(r"arXiv \d{4}\.\d{4,5}", text), (
        f"{path}: the docstring names an arXiv number, such as arXiv 1512.03385, on one"
        " line; for a paper that has none, a later paper's"
    )
    assert "TODO" not in path.read_text(), f"{path} still holds a TODO"


def prose_lines(source: str) -> set[int]:
    """Numbers of the lines that belong to a docstring."""
    prose = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(
            node, (ast.Module, ast.ClassDef, ast.FunctionDef)
        ) and ast.get_docstring(node):
            prose |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return prose


def code_lines(source: str) -> int:
    """Lines that are neither blank, nor comment, nor docstring."""
    prose, lines = prose_lines(source), enumerate(source.splitlines(), start=1)
    return sum(
        bool(re.match(r"\s*[^\s#]", line)) and number not in prose
        for number, line in lines
    )


def blocks(source: str, length: int = 6) -> set[tuple[str, ...]]:
    """Every run of `length` lines of code, in which the names of variables are numbered
    as they come: two runs that differ only in their names are one. Imports, docstrings,
    comments and lines of mere brackets do not count."""
    lines: dict[int, list[tuple[bool, str]]] = {}
    prose, before = prose_lines(source), ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if (
            token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
            and token.start[0] not in prose
        ):
            variable = (
                token.type == tokenize.NAME
                and before != "."
                and not keyword.iskeyword(token.string)
            )
            lines.setdefault(token.start[0], []).append((variable, token.string))
            before = token.string
    code = [
        t
        for _, t in sorted(lines.items())
        if t[0][1] not in ("import", "from") and any(w.isalnum() for _, w in t)
    ]
    found = set()
    for start in range(len(code) - length + 1):
        number: dict[str, int] = {}
        window = code[start : start + length]
        found.add(
            tuple(
                f"_{number.setdefault(w, len(number))}" if free else w
                for t in window
                for free, w in [*t, (0, "\n")]
            )
        )
    return found


def test_a_block_is_known_under_other_names():
    first = (
        "def f(a, b):\n    c = a.x + b\n    d = c * 2\n    e = d - a\n"
        "    # why\n    g = e\n    return g, 'h'\n"
    )
    assert len(blocks(first)) == 1
    assert not blocks(first, 7)
    assert blocks(first) == blocks(first.replace("g", "k").replace("c", "q"))
    assert blocks(first) != blocks(first.replace("* 2", "* 3"))
    assert blocks(first) != blocks(first.replace("a.x", "a.y"))


def test_no_block_stands_in_two_papers():
    known: dict[tuple[str, ...], str] = {}
    for path in FILES:
        for block in blocks(path.read_text()):
            other = known.setdefault(block, path.stem)
            assert other == path.stem, (
                f"{other} and {path.stem} share these lines:\n{' '.join(block)}"
            )


@each
def test_size_and_imports(path):
    source = path.read_text()
    # How the map names the net's blocks is not the paper's.
    named = re.sub(r"^BLOCKS = \{.*?^\}$", "", source, flags=re.M | re.S)
    lines = code_lines(named)
    said = f"{path} has {lines} lines of code; 60 to 450 are asked for"
    assert 60 <= lines <= 450, said
    allowed = {
        "torch",
        "torchvision",
        "einops",
        "jaxtyping",
        "papernets_lite",
        *sys.stdlib_module_names,
    }
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        if path.stem == "streaming":  # a system: its subject is this protocol
            names = [name for name in names if name.split(".")[0] != "websockets"]
        unknown = {name.split(".")[0] for name in names} - allowed
        assert not unknown, (
            f"{path} imports {sorted(unknown)}; allowed are the standard library,"
            " torch, torchvision, einops, jaxtyping and this package"
        )


@each
def test_public_things_are_documented(path):
    found = module(path)
    for name, item in vars(found).items():
        here = getattr(item, "__module__", None) == found.__name__
        if (
            here
            and not name.startswith("_")
            and (inspect.isfunction(item) or inspect.isclass(item))
        ):
            text = inspect.getdoc(item)
            assert text, f"{path}: {name} has no docstring"
            if inspect.isfunction(item) and len(inspect.signature(item).parameters) > 2:
                said = f"{path}: {name}'s docstring does not say what its arguments are"
                assert "Args:" in text, said


@each
def test_has_loss_tiny_and_paper(path):
    found = vars(module(path))
    adversarial = "discriminator_loss" in found  # two players, two losses
    for name in ("generator_loss" if adversarial else "loss", "tiny", "paper"):
        assert callable(found.get(name)), f"{path} has no {name}()"


@each
def test_the_docstrings_example_runs(path):
    found = module(path)
    examples = doctest.DocTestFinder(recurse=False).find(found, globs=dict(vars(found)))
    ran = [test for test in examples if test.examples]
    assert ran, f"{path}: the module's docstring ends with a two-line example (>>> ...)"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    printed: list[str] = []
    for test in ran:
        runner.run(test, out=printed.append)
    assert not runner.failures, "".join(printed)


@each
def test_the_contract_holds(path):
    found = module(path)
    text = found.__doc__
    signatures = {
        name: list(inspect.signature(item).parameters)
        for name, item in vars(found).items()
        if inspect.isfunction(item)
        and (item.__module__ == found.__name__ or name == "loss")  # may be a shared one
    }
    if "loss" in signatures and "Contract:" not in text:
        said = (
            f"{path}: loss(outputs, batch, *, generator=None) -> dict, or say why not"
        )
        assert signatures["loss"][:2] == ["outputs", "batch"], said
        assert "generator" in signatures["loss"], said
    if "loss" not in signatures:
        assert "Contract:" in text, f"{path}: its docstring says why there is no loss"
    for name in ("loss", "decode"):
        first = signatures.get(name, [""])[0]
        assert first not in ("net", "nets", "model"), f"{path}: {name} takes a net"


@each
def test_both_scales_build_the_same_class_and_take_overrides(path):
    found = module(path)
    with torch.device("meta"):
        small, large = found.tiny(), found.paper()
    assert type(small) is type(large), f"{path}: tiny() and paper() are one class"
    for name in ("tiny", "paper"):
        parameters = inspect.signature(getattr(found, name)).parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        allowed = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        said = f"{path}: {name}(**overrides), keyword-only"
        assert kinds, said
        assert kinds <= allowed, said
        with pytest.raises(TypeError):
            getattr(found, name)(an_override_that_nobody_knows=1)


@each
def test_paper_scale_is_larger(path):
    with torch.device("meta"):
        large, small = module(path).paper(), module(path).tiny()
    count = [sum(p.numel() for p in m.parameters()) for m in (large, small)]
    said = f"{path}: paper() has more than 5 times the parameters of tiny()"
    assert count[0] > 5 * count[1], f"{said}, not {count[0]} and {count[1]}"


@each
def test_every_parameter_learns(path):
    model = build(path)
    papers.run(path.stem)(model, 4, 0).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{path}: {name} gets no gradient"
        assert parameter.grad.isfinite().all(), (
            f"{path}: {name} gets a gradient that is not finite"
        )


@each
def test_same_seed_same_result(path):
    first, second = (papers.run(path.stem)(build(path), 2, 3) for _ in range(2))
    place = f"tests/papers/{path.stem}.py"
    assert torch.equal(first, second), f"{path}, {place}: seed 3 gives two results"
    other = papers.run(path.stem)(build(path), 2, 4)
    assert not torch.equal(first, other), f"{place}: run() must depend on its seed"


@each
def test_evaluation_changes_nothing(path):
    model = build(path).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        first, second = (papers.run(path.stem)(model, 2, 0) for _ in range(2))
    assert torch.equal(first, second), f"{path}: after eval() two runs differ"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"{path}: after eval() {name} changes"


@each
def test_weights_survive_a_round_trip(path):
    model, other = build(path).eval(), module(path).tiny().eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(
            papers.run(path.stem)(model, 2, 0), papers.run(path.stem)(other, 2, 0)
        )


@each
def test_double_precision_agrees(path):
    model = build(path).eval()
    with torch.no_grad():
        single = papers.run(path.stem)(model, 2, 0).double()
        double = papers.run(path.stem)(model.double(), 2, 0)
    torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-4)


@each
def test_empty_batch_is_refused(path):
    with pytest.raises(ValueError, match="expected"):
        papers.run(path.stem)(build(path), 0, 0)


def lacking(batch: object) -> list[object]:
    """The same batch without one of its keys, once for each."""
    if isinstance(batch, tuple):
        first, *others = batch
        return [(less, *others) for less in lacking(first)]
    return [{k: v for k, v in batch.items() if k != name} for name in batch]


@each
def test_a_batch_that_lacks_something_is_refused_by_name(path, monkeypatch):
    found, tried = module(path), []
    for name, original in inspect.getmembers(found, inspect.isfunction):
        if "loss" in name and "batch" in inspect.signature(original).parameters:

            def strict(*args, original=original, **kwargs):
                given = inspect.signature(original).bind(*args, **kwargs)
                batch = given.arguments["batch"]
                for less in lacking(batch):
                    given.arguments["batch"] = less
                    try:  # some keys need not be there; a KeyError is no answer
                        original(*given.args, **given.kwargs)
                    except ValueError as refused:
                        tried.append(str(refused))
                return original(*args, **kwargs)

            monkeypatch.setattr(found, name, strict)
    papers.run(path.stem)(build(path), 2, 0)
    assert any("batch with `" in words for words in tried), (
        f"{path}: the loss begins with ops.checks.check_keys(batch, ...), so that a"
        f" missing key is refused by name; it refused {tried or 'nothing'}"
    )
