"""The scales that no chapter's stored run shows, ``gpu`` and ``paper``: their nets are
built, and make one step on one small batch."""

import ast
import importlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from papernets_lite import training
from tests import papers, scales

ROOT = Path(__file__).resolve().parents[1]
SLUGS = sorted(papers.slugs())
CHAPTERS = {path.stem: path for path in ROOT.glob("book/[a-z]*/*.ipynb")}


def module(slug: str) -> object:
    (path,) = (ROOT / "papernets_lite").glob(f"*/{slug}.py")
    return importlib.import_module(f"papernets_lite.{path.parent.name}.{slug}")


def cells(slug: str) -> list[ast.Module]:
    """A chapter's code cells, without its install cell."""
    notebook = json.loads(CHAPTERS[slug].read_text(encoding="utf-8"))
    return [
        ast.parse("".join(cell["source"]))
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and "install" not in cell["metadata"].get("tags", [])
    ]


def names_scales(statement: ast.stmt) -> bool:
    """Whether a statement calls ``training.settings``."""
    for node in ast.walk(statement):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "training.settings":
            return True
    return False


def beginning(slug: str) -> list[ast.stmt]:
    """A chapter's statements up to its settings: parameters, imports, names."""
    statements: list[ast.stmt] = []
    for tree in cells(slug):
        calls = [k for k, node in enumerate(tree.body) if names_scales(node)]
        if calls:
            return statements + tree.body[: calls[-1] + 1]
        statements += tree.body
    pytest.fail(f"{CHAPTERS[slug]} does not call training.settings(scale, tiny=...)")


@cache
def settings(slug: str) -> dict[str, dict]:
    """What a chapter calls ``training.settings`` with: the settings of each scale."""
    found: dict[str, dict] = {}

    def note(scale: str, **scales: dict) -> SimpleNamespace:
        for name, values in scales.items():
            found.setdefault(name, {}).update(values)
        return training.settings(scale, **scales)

    noting = SimpleNamespace(begin=training.begin, settings=note)
    names: dict[str, object] = {}
    for statement in beginning(slug):
        code = compile(ast.Module([statement], []), f"{slug}.ipynb", "exec")
        exec(code, names)
        names["training"] = noting
    return found


def builders(values: dict) -> list:
    """Those settings that build a net."""
    return [value for value in values.values() if callable(value)]


@pytest.mark.parametrize("slug", SLUGS)
def test_a_chapter_names_three_scales_with_equal_settings(slug: str) -> None:
    found = settings(slug)
    said = f"{CHAPTERS[slug].name}: training.settings(scale, tiny=, gpu=, paper=)"
    assert set(found) == {"tiny", "gpu", "paper"}, said
    names = {scale: sorted(values) for scale, values in found.items()}
    assert names["tiny"] == names["gpu"] == names["paper"], f"{said}, with equal names"


@pytest.mark.parametrize("scale", ["gpu", "paper"])
@pytest.mark.parametrize("slug", SLUGS)
def test_the_nets_that_a_scale_names_are_built(slug: str, scale: str) -> None:
    with torch.device("meta"):
        for build in builders(settings(slug)[scale]):
            net = build()
            assert isinstance(net, nn.Module), f"{slug}, {scale}: {build} makes no net"
            assert sum(p.numel() for p in net.parameters()) > 0


@pytest.mark.parametrize("slug", SLUGS)
def test_the_papers_net_is_built_without_memory(slug: str) -> None:
    with torch.device("meta"):
        net = module(slug).paper()
    assert {parameter.device.type for parameter in net.parameters()} == {"meta"}


def moved(net: nn.Module, before: list[torch.Tensor]) -> int:
    """How many parameters differ from what they were ``before``."""
    pairs = zip(before, net.parameters(), strict=True)
    return sum(not torch.equal(old, new) for old, new in pairs)


def train(net: nn.Module, measure: Callable[[nn.Module], torch.Tensor]) -> None:
    """One small step of gradient descent; every gradient that comes is finite, and
    nearly all parameters move. Below a layer that starts at zero none does before the
    second step, which is made where the first moved too few."""
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    for _ in range(2):
        loss = measure(net)
        assert loss.isfinite(), f"the loss is {loss}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for parameter in net.parameters():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all(), "a gradient is not finite"
            assert parameter.isfinite().all(), "a parameter is no longer finite"
        if moved(net, before) > 0.5 * len(before):
            return
    pytest.fail(f"only {moved(net, before)} of {len(before)} parameters moved")


@pytest.mark.parametrize("slug", SLUGS)
def test_the_papers_net_makes_a_step(slug: str) -> None:
    torch.manual_seed(0)
    net = module(slug).paper()
    try:
        train(net, scales.run(slug))
    except (ValueError, RuntimeError) as refused:
        said = f"say in tests/scales/{slug}.py, run(model), what the paper's net takes"
        raise AssertionError(f"{said}: {refused}") from refused


@pytest.mark.parametrize("slug", SLUGS)
def test_the_net_of_a_gpu_makes_a_step(slug: str) -> None:
    torch.manual_seed(0)
    # the chapter's own, the first that its settings name; else the tiny one serves
    net = next(iter(builders(settings(slug)["gpu"])), module(slug).tiny)()
    run = papers.run(slug)
    try:
        train(net, lambda net: run(net, 2, 0))
    except (ValueError, RuntimeError) as refused:
        said = f"tests/papers/{slug}.py, run(), must suit the net that gpu= names, too"
        raise AssertionError(f"{said}: {refused}") from refused
