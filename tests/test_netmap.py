import ast
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from papernets_lite import netmap, show
from papernets_lite.backbones import resnet
from papernets_lite.segmentation import unet

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
import registry  # noqa: E402

IMAGES = (1, 3, 16, 16)


def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 4), conv(4, 5, 2), nn.Linear(5, 2)

    def forward(self, images):
        return self.c(self.b(self.a(images)).relu().mean((2, 3)))


class Skip(Chain):
    def forward(self, images):
        before = self.a(images)
        return before + self.c(before.movedim(1, -1)).movedim(-1, 1)

    def __init__(self):
        super().__init__()
        self.b, self.c = nn.Identity(), nn.Linear(4, 4)


class Beside(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 4), conv(3, 5), conv(9, 2)

    def forward(self, images):
        return self.c(torch.cat([self.a(images), self.b(images)], 1))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.left, self.right = conv(3, 4), conv(4, 2), conv(4, 1)

    def forward(self, images):
        seen = self.trunk(images)
        return {"left": self.left(seen), "right": self.right(seen)}


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.twin, self.head = conv(3, 4), conv(4, 1)

    def forward(self, first, second):
        return self.head(self.twin(first) * self.twin(second))


class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.begin, self.step = conv(3, 4), conv(4, 4)

    def forward(self, images):
        return self.step(self.step(self.begin(images)).relu())


def edges(build, *inputs, **options):
    graph = netmap.trace(build, *(inputs or [IMAGES]), **options)
    return graph, set(graph.edges)


def test_a_chain():
    graph, found = edges(Chain)
    assert found == {("images", "a"), ("a", "b"), ("b", "c")}
    assert graph.outputs == ["c"]
    assert [graph.blocks[name].level for name in "abc"] == [0, 1, None]
    assert graph.blocks["b"].shapes == [(5, 8, 8)]


def test_a_skip_that_is_added():
    graph, found = edges(Skip)
    (join,) = [name for name, block in graph.blocks.items() if block.kind == "join"]
    assert graph.blocks[join].sign == "+"
    assert found == {("images", "a"), ("a", "c"), ("a", join), ("c", join)}
    assert graph.outputs == [join]


def test_two_ways_laid_side_by_side():
    graph, found = edges(Beside)
    assert found == {("images", "a"), ("images", "b"), ("a", "c"), ("b", "c")}
    assert graph.blocks["c"].sign == "‖"


def test_two_branches():
    graph, found = edges(Branches)
    assert found == {("images", "trunk"), ("trunk", "left"), ("trunk", "right")}
    assert set(graph.outputs) == {"left", "right"}


def test_twins_are_two_blocks_with_one_set_of_weights():
    graph, found = edges(Twins, IMAGES, IMAGES)
    assert found == {
        ("first", "twin"),
        ("second", "twin#2"),
        ("twin", "head"),
        ("twin#2", "head"),
    }
    assert graph.blocks["head"].sign == "×"
    assert sum(block.parameters for block in graph.blocks.values()) == graph.parameters


def test_a_module_that_runs_on_its_own_result_is_one_block():
    graph, found = edges(Again)
    assert found == {("images", "begin"), ("begin", "step")}
    assert graph.blocks["step"].calls == 2
    assert graph.blocks["step"].operations == 2 * 4 * 4 * 9 * 16 * 16


def test_parameters_and_operations_of_a_convolution_by_hand():
    graph, _ = edges(Chain)
    first = graph.blocks["a"]
    assert first.parameters == 4 * (3 * 9 + 1)
    assert first.operations == 4 * 3 * 9 * 16 * 16
    assert graph.blocks["b"].operations == 5 * 4 * 9 * 8 * 8


def test_the_u_net_is_a_u():
    graph, found = edges(unet.paper, (1, 1, 572, 572), blocks=unet.BLOCKS)
    levels = [b.level for b in graph.blocks.values() if b.kind == "block"]
    assert levels == [0, 1, 2, 3, 4, 3, 2, 1, 0, 0]
    for k in range(4):
        assert (f"down.{k}", f"merge.{3 - k}") in found
        assert graph.blocks[f"merge.{k}"].sign == "‖"
    assert graph.blocks["head"].shapes == [(2, 388, 388)]


def test_units_in_a_row_are_one_block_with_a_way_around():
    graph, _ = edges(resnet.paper, (1, 3, 224, 224))
    units = [b for b in graph.blocks.values() if b.label == "unit"]
    assert [unit.count for unit in units] == [3, 4, 6, 3]
    assert {unit.inner for unit in units} == {"+"}
    assert graph.parameters == 25_557_032
    assert graph.operations == pytest.approx(3.86e9, rel=0.01)


def test_weights_random_numbers_and_modes_are_left_alone():
    state = torch.get_rng_state()
    netmap.trace(resnet.tiny, (1, 3, 32, 32))
    assert torch.equal(state, torch.get_rng_state())


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="layers that learn"):
        netmap.trace(nn.Identity, IMAGES)
    with pytest.raises(ValueError, match=r"expected a net that runs on \[\(1, 9"):
        netmap.trace(Chain, (1, 9, 16, 16))
    with pytest.raises(ValueError, match="'nowhere'"):
        netmap.trace(Chain, IMAGES, blocks={"nowhere": "?"})
    with pytest.raises(ValueError, match="at least one net"):
        show.net()


def test_the_picture_says_each_blocks_shape_and_shares(capsys):
    show.net((Chain, IMAGES), caption="a chain")
    said = capsys.readouterr().out
    assert "a 4×16×16" in said
    assert "a chain" in said
    graph, _ = edges(Chain)
    drawn = netmap.draw(graph)
    assert "<title>112 parameters, 27.6 k multiply-adds</title>" in drawn
    percents = [int(p) for p in re.findall(r">(\d+) %<", drawn)]
    assert sum(percents) == pytest.approx(200, abs=3)


def test_blocks_do_not_lie_on_each_other():
    graph, _ = edges(unet.paper, (1, 1, 572, 572), blocks=unet.BLOCKS)
    places, _ = netmap._layout(graph)
    found = list(places.values())
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            beside = one.right <= other.x or other.right <= one.x
            assert beside or one.bottom <= other.top or other.bottom <= one.top


def calls() -> dict[str, str]:
    """Each chapter's call of ``show.net``, as it stands."""
    found = {}
    for slug, path in registry.built(ROOT).items():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells]
        trees = [ast.parse(source) for source in sources if "show.net(" in source]
        found[slug] = next(
            text
            for tree in trees
            for text in map(ast.unparse, tree.body)
            if text.startswith("show.net(")
        )
    return found


@pytest.mark.parametrize(("slug", "call"), calls().items(), ids=calls())
def test_a_chapters_map_has_all_of_its_net(slug, call, monkeypatch):
    part = registry.built(ROOT)[slug].parent.name
    module = importlib.import_module(f"papernets_lite.{part}.{slug}")
    graphs = []

    def kept(build, *inputs, part="", **options):
        graph = trace(build, *inputs, part=part, **options)
        with torch.device("meta"):
            net = build().get_submodule(part)
        graphs.append((graph, show.parameters(net)))
        return graph

    trace = netmap.trace
    monkeypatch.setattr(netmap, "trace", kept)
    names = {slug: module, "updown": module, "show": show, "torch": torch}
    exec(call, names)
    assert len(graphs) == 2, "tiny and paper"
    for graph, learnt in graphs:
        shown = sum(block.parameters for block in graph.blocks.values())
        assert shown == graph.parameters == learnt
        counted = sum(block.operations for block in graph.blocks.values())
        assert counted == pytest.approx(graph.operations, rel=0.01)
        drawn = [block for block in graph.blocks.values() if block.kind == "block"]
        assert 3 <= len(drawn) <= 20
