"""The map of a net, found by running it: its blocks in order of flow, what each makes
and holds, and which way the data goes.

``trace`` runs a module without data (on torch's ``meta`` device, where a tensor is only
a shape) and watches which block's result reaches which other block; ``draw`` turns what
it saw into a picture. Nothing is drawn that the code does not do.
"""

import dataclasses
import hashlib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from papernets_lite.display import display
from papernets_lite.ops.checks import expect

FEW = 2  # blocks of a net that shows more of itself
SMALL = 2**17  # elements of a tensor that may be computed
_META = ("meta", torch.device("meta"))
SIGNS = {  # functions in which two ways meet, by name
    "add": "+",
    "sub": "+",
    "mul": "×",
    "cat": "‖",
    "concat": "‖",
    "stack": "‖",
}
# They take a part of a map or lay something around it: its cells stay as large.
CROPS = {"__getitem__", "narrow", "pad", "chunk", "split", "unbind", "select"}
# Of their second argument they take the type or the shape alone.
ALIKE = {"to", "type_as", "expand_as", "view_as", "reshape_as"}


@dataclass
class Block:
    """A part of the net, as the map shows it."""

    name: str  # in the code
    label: str
    kind: str = "block"  # or "input", or "join" where ways only meet
    shapes: list[tuple[int, ...]] = field(default_factory=list)  # without the batch
    batch: int = 1  # results for one sample, as of patches of a picture
    level: int | None = None  # how often the map was halved; None: it makes no map
    parameters: int = 0
    operations: int = 0  # multiply-adds for one sample
    sign: str = ""  # how the results that reach it are joined: +, × or ‖
    inner: str = ""  # signs of the ways that part and meet inside
    count: int = 1  # like blocks in a row, drawn as one
    calls: int = 1  # how often it is run, each time on what it made before


@dataclass
class Graph:
    """What ``trace`` saw."""

    blocks: dict[str, Block] = field(default_factory=dict)  # in order of flow
    edges: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)  # whose results the net gives out
    parameters: int = 0  # of the whole net
    operations: int = 0

    def before(self, name: str) -> list[str]:
        """The blocks whose results a block reads."""
        return [start for start, end in self.edges if end == name]

    def after(self, name: str) -> list[str]:
        """The blocks that read a block's result."""
        return [end for start, end in self.edges if start == name]

    def reaches(self, start: str, end: str) -> bool:
        """Whether a block's result has a part in another's."""
        seen, todo = set(), [start]
        while todo:
            name = todo.pop()
            if name == end:
                return True
            if name not in seen:
                seen.add(name)
                todo += self.after(name)
        return False

    def contract(self, name: str, into: str) -> None:
        """Make a block part of another one."""
        renamed = {name: into}
        edges = [(renamed.get(a, a), renamed.get(b, b)) for a, b in self.edges]
        self.edges = list(dict.fromkeys(edge for edge in edges if edge[0] != edge[1]))
        ends = [renamed.get(end, end) for end in self.outputs]
        self.outputs = list(dict.fromkeys(ends))
        gone, kept = self.blocks.pop(name), self.blocks[into]
        kept.parameters += gone.parameters
        kept.operations += gone.operations
        kept.inner += "".join(sign for sign in gone.inner if sign not in kept.inner)


@dataclass(frozen=True)
class _Past:
    """Where a tensor comes from."""

    sources: frozenset[str]
    level: int = 0
    area: int = 0  # cells of the map that ``level`` was last seen at


class _Count(TorchDispatchMode):
    """Counts multiply-adds, by torch's own table."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.paused = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count and not self.paused:
            self.total += count(*args, **(kwargs or {}), out_val=out) // 2
        return out

    @contextmanager
    def pause(self) -> Iterator[None]:
        """While what is computed is no part of the net."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False


class _Watch(TorchFunctionMode):
    """Follows data through torch's functions."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.counter = _Count()
        self.past: dict[int, _Past] = {}
        self.values: dict[int, Tensor] = {}  # where known: all of them, or one for all
        self.kept: list[Tensor] = []  # so that no identity is given twice
        self.met: list[str] | None = None  # signs met in the block that runs
        self.steps = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = self.without_data(func, args, kwargs)
        written = args[0] if func is Tensor.__setitem__ else out
        results = [leaf for leaf in tree_leaves(written) if isinstance(leaf, Tensor)]
        if results:
            self.note(func, tree_leaves((args, kwargs)), results)
        if len(results) == 1 and written is out:
            self.answer(func, args, kwargs, results[0])
        return out

    def without_data(self, func: Callable, args: Any, kwargs: Any) -> Any:
        """Call one of torch's functions on shapes; where it needs values, on ones."""
        try:
            return func(*args, **kwargs)
        except (NotImplementedError, RuntimeError) as error:
            if "meta" not in str(error).lower():
                raise
        ones, words = tree_map(self.real, (args, kwargs))
        with self.counter.pause():
            return tree_map(_shape_of, func(*ones, **words))

    def real(self, leaf: Any, *, alike: bool = False) -> Any:
        """A tensor of what is known, else of ones, for one that is only a shape."""
        if isinstance(leaf, Tensor):
            if not leaf.is_meta:
                return leaf.clone()
            shape = [1] * leaf.ndim if alike else leaf.shape
            one = torch.ones([1] * leaf.ndim, dtype=leaf.dtype, device="cpu")
            known = self.values.get(id(leaf), one)
            return known.expand(shape).clone() if known.numel() == 1 else known.clone()
        return torch.device("cpu") if leaf in _META else leaf

    def answer(self, func: Callable, args: Any, kwargs: Any, result: Tensor) -> None:
        """Compute what is small and needs no map: a grid, or the answer to a question
        (are all values finite?), so that what is refused for bad values is not here."""
        leaves = [
            leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)
        ]
        asked = result.dtype is torch.bool or not leaves
        known = any(id(tensor) in self.values for tensor in leaves)
        if not result.is_meta or not (asked or known):
            return
        alike = max(tensor.numel() for tensor in [result, *leaves]) > SMALL
        try:
            ones, words = tree_map(partial(self.real, alike=alike), (args, kwargs))
            with self.counter.pause():
                value = func(*ones, **words)
        except (RuntimeError, IndexError, TypeError, ValueError):
            return
        if isinstance(value, Tensor) and (value.numel() == 1 or not alike):
            self.kept.append(result)
            self.values[id(result)] = value.view([1] * result.ndim) if alike else value

    def note(self, func: Any, given: list[Any], results: list[Tensor]) -> None:
        """Write down where results come from."""
        name = getattr(func, "__name__", "")
        tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
        if name in ALIKE:
            tensors = tensors[:1]
        pasts = [self.past[id(t)] for t in tensors if id(t) in self.past]
        if not pasts or name.startswith("new_") or name.endswith("_like"):
            return
        ways = list(dict.fromkeys(past.sources for past in pasts))
        sources = frozenset().union(*ways)
        sign = SIGNS.get(name.strip("_").removeprefix("i").removeprefix("r"), "")
        learnt = any(isinstance(tensor, nn.Parameter) for tensor in tensors)
        if self.met is not None and learnt:
            sources = frozenset([self.fresh("step")])
        elif len(ways) > 1 and sign:
            sources = frozenset([self.join(sign, sources)])
        crops = name in CROPS and not any(_strides(leaf) for leaf in given)
        for result in results:
            past = next((past for past in pasts if past.area), pasts[0])
            self.put(result, _grown(past, sources, result, crops))

    def join(self, sign: str, sources: frozenset[str]) -> str:
        """A place where ways meet."""
        name = self.fresh(sign)
        if self.met is not None:
            self.met.append(sign)
            return name
        self.graph.blocks[name] = Block(name, sign, "join", sign=sign)
        self.graph.edges += [(source, name) for source in sorted(sources)]
        return name

    def put(self, tensor: Tensor, past: _Past) -> None:
        """Remember a tensor's past."""
        self.kept.append(tensor)
        self.past[id(tensor)] = past

    def fresh(self, kind: str) -> str:
        """A name that is not yet taken."""
        self.steps += 1
        return f"{kind}{self.steps}"


def _strides(leaf: Any) -> bool:
    return isinstance(leaf, slice) and leaf.step not in (None, 1)


def _grown(past: _Past, sources: frozenset[str], result: Tensor, crops: bool) -> _Past:
    """A result's past: how often its map was halved tell the maps' sizes."""
    if result.ndim < 4:
        return _Past(sources, past.level, past.area)
    area = result.shape[-1] * result.shape[-2]
    level = past.level
    if past.area and area and not crops:
        level += round(math.log2(past.area / area) / 2)
    return _Past(sources, level, area)


def _shape_of(leaf: Any) -> Any:
    return leaf.to("meta") if isinstance(leaf, Tensor) else leaf


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in a module's arguments or results."""
    found = []
    for leaf in tree_leaves(value):
        if dataclasses.is_dataclass(leaf):
            found += _tensors(list(vars(leaf).values()))
        elif isinstance(leaf, Tensor):
            found.append(leaf)
    return found


def trace(
    build: Callable[[], nn.Module],
    *inputs: Sequence[int] | Tensor,
    blocks: Mapping[str, str] | None = None,
    part: str = "",
    then: Callable[[Any], Any] | None = None,
) -> Graph:
    """Run a net once, on shapes alone, and see what flows where.

    Nothing is computed and no random number is drawn: parameters and maps lie on the
    ``meta`` device. Where the net asks for a value (a choice of boxes, say), all values
    are ones. Of a batch normalisation the running averages count, as in evaluation.

    Args:
        build: Makes the net.
        inputs: What its ``forward`` takes: shapes, with the batch; or tensors, of which
            only the shape and the type count, and which are not drawn.
        blocks: Names of submodules, as in ``named_modules``, and how the map calls
            them. A ``*`` stands for one part of a name, in the label for what it stood
            for; names that stand together, with a space between them, are one block.
            By default the net's children, and those of its lists and sequences; of few
            children, theirs.
        part: Name of the submodule that is run, in place of the whole net.
        then: What is done with the net's result, where blocks take part in that.

    Returns:
        The graph. A block that runs on its own earlier results is one block, with the
        number of its ``calls``; one that runs on several things side by side is several
        blocks, of which only the first counts parameters. Like blocks in a row
        are one, with their ``count``.

    Raises:
        ValueError: For a name in ``blocks`` that the net does not have, a net without
            blocks, or a net that refuses the inputs.
    """
    with torch.random.fork_rng(devices=[]):
        return _trace(build, inputs, blocks, part, then)


def _trace(
    build: Callable[[], nn.Module],
    inputs: Sequence[Sequence[int] | Tensor],
    blocks: Mapping[str, str] | None,
    part: str,
    then: Callable[[Any], Any] | None,
) -> Graph:
    with torch.device("meta"):
        net = build().eval().get_submodule(part)
    chosen = _choose(net, blocks)
    expect(chosen, "a net with layers that learn, got none")
    graph = Graph()
    watch = _Watch(graph)
    given = _inputs(net, inputs, watch)
    runs = _Runs(watch, chosen, len(given[0]))
    try:
        with torch.no_grad(), runs.watched(), watch.counter, watch:
            out = net(*given)
            out = then(out) if then else out
    except Exception as error:
        shapes = [tuple(tensor.shape) for tensor in given]
        raise ValueError(
            f"expected a net that runs on {shapes}, got {type(error).__name__}: {error}"
        ) from error
    graph.parameters = sum(p.numel() for p in net.parameters())
    graph.operations = watch.counter.total // len(given[0])
    ends = [watch.past[id(t)].sources for t in _tensors(out) if id(t) in watch.past]
    graph.outputs = list(dict.fromkeys(name for end in ends for name in sorted(end)))
    _tidy(graph, runs)
    _results(graph, watch, _tensors(out))
    return graph


def _results(graph: Graph, watch: _Watch, tensors: list[Tensor]) -> None:
    """The maps that the net gives out, where they are not a block's own."""
    for tensor in tensors:
        past = watch.past.get(id(tensor), _Past(frozenset()))
        sources = sorted(past.sources)
        if tensor.ndim < 4 or len(sources) != 1 or sources[0] not in graph.outputs:
            continue
        shape = tuple(tensor.shape[1:])
        if graph.after(sources[0]):
            continue
        if graph.blocks[sources[0]].shapes[-1:] in ([], [shape]):
            continue
        name = f"result{len(graph.blocks)}"
        graph.blocks[name] = Block(name, "result", "output", [shape], level=past.level)
        graph.edges.append((sources[0], name))


def _choose(
    net: nn.Module, blocks: Mapping[str, str] | None
) -> dict[str, tuple[nn.Module, str, str]]:
    """By name, the modules that are blocks, their labels and groups."""
    patterns = blocks or _default(net)
    chosen: dict[str, tuple[nn.Module, str, str]] = {}
    for names, label in patterns.items():
        for pattern in names.split():
            wanted = re.compile(re.escape(pattern).replace(r"\*", r"([^.]+)"))
            found = False
            for name, module in net.named_modules():
                match = wanted.fullmatch(name)
                if match is None:
                    continue
                found = True
                if not _learns(module):
                    continue
                words = label
                for part in match.groups():
                    words = words.replace("*", part, 1)
                group = f"{names} {match.groups()}"
                chosen.setdefault(name, (module, words, group))
            expect(found, f"names of the net's modules, got {pattern!r}")
    return chosen


def _default(net: nn.Module) -> dict[str, str]:
    """The blocks that nobody named."""
    parts = [name for name in _parts(net) if _learns(net.get_submodule(name))]
    if len(parts) > FEW:
        return {name: _label(name) for name in parts}
    within: dict[str, str] = {}
    for name in parts:
        module = net.get_submodule(name)
        deeper = [] if isinstance(module, nn.Sequential) else list(_parts(module))
        within |= {f"{name}.{below}": _label(below) for below in deeper}
        if not deeper:
            within[name] = _label(name)
    return within


def _learns(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _label(name: str) -> str:
    """A name in words; of one of a sequence, which has only a number, none."""
    *parents, last = name.split(".")
    return "" if last.isdigit() and len(parents) else " ".join([*parents, last])


def _kind(module: nn.Module) -> str:
    """What a module is, in a word or two."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        size = "×".join(map(str, module.kernel_size))
        return f"conv {size}" if isinstance(module, nn.Conv2d) else f"up {size}"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(module).__name__)
    return words.removesuffix(" Block").lower()


def _parts(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """A net's children; of lists, and of sequences of more than layers, theirs."""
    for name, child in module.named_children():
        deeper = any(
            next(part.children(), None) is not None for part in child.children()
        )
        if isinstance(child, nn.ModuleList) or (
            isinstance(child, nn.Sequential) and deeper
        ):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name


def _inputs(
    net: nn.Module, inputs: Sequence[Sequence[int] | Tensor], watch: _Watch
) -> list[Tensor]:
    """The net's arguments, on the graph as its first blocks."""
    names = list(inspect.signature(net.forward).parameters)
    expect(0 < len(inputs) <= len(names), f"inputs for {names}", len(inputs))
    given = []
    for name, wanted in zip(names, inputs, strict=False):
        if isinstance(wanted, Tensor):
            given.append(wanted.to("meta"))
            continue
        tensor = torch.ones(tuple(wanted), device="meta")
        block = Block(name, name, "input", [tuple(tensor.shape[1:])])
        area = 0
        if tensor.ndim >= 4:
            block.level, area = 0, tensor.shape[-1] * tensor.shape[-2]
        watch.graph.blocks[name] = block
        watch.put(tensor, _Past(frozenset([name]), 0, area))
        given.append(tensor)
    return given


class _Runs:
    """Hooks on the blocks, and what they saw."""

    def __init__(
        self,
        watch: _Watch,
        chosen: dict[str, tuple[nn.Module, str, str]],
        samples: int,
    ) -> None:
        self.watch, self.chosen, self.samples = watch, chosen, samples
        self.unnamed: set[str] = set()
        self.names: dict[str, list[str]] = {}  # of each block's runs, on the graph
        self.kinds: dict[str, str] = {}
        self.groups: dict[str, str] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the net runs."""
        handles = []
        for name in self.chosen:
            handles += self.hook(name)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def hook(self, name: str) -> list[Any]:
        """Watch one block."""
        module, label, group = self.chosen[name]
        watch, graph = self.watch, self.watch.graph
        began: list[tuple[str, int, dict[int, _Past]]] = []

        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            runs = self.names.setdefault(name, [])
            node = f"{name}#{len(runs) + 1}" if runs else name
            runs.append(node)
            self.kinds[node] = type(module).__name__
            self.groups[node] = f"{group} {len(runs)}"
            known = [t for t in _tensors([args, kwargs]) if id(t) in watch.past]
            pasts = {id(t): watch.past[id(t)] for t in known}
            if not label:
                self.unnamed.add(node)
            block = Block(node, label or _kind(module))
            if len(runs) == 1:
                block.parameters = sum(p.numel() for p in module.parameters())
            graph.blocks[node] = block
            sources = sorted(set().union(*(p.sources for p in pasts.values())))
            graph.edges += [(source, node) for source in sources]
            for tensor in known:
                past = watch.past[id(tensor)]
                within = dataclasses.replace(past, sources=frozenset(["input"]))
                watch.past[id(tensor)] = within
            watch.met = []
            began.append((node, watch.counter.total, pasts))

        def behind(_: nn.Module, args: Any, out: Any) -> None:
            node, before_it, pasts = began.pop()
            block = graph.blocks[node]
            block.operations = watch.counter.total - before_it
            block.inner = "".join(dict.fromkeys(watch.met or []))
            watch.met = None
            results = _tensors(out)
            for tensor in results:
                past = watch.past.get(id(tensor), _Past(frozenset()))
                watch.put(tensor, dataclasses.replace(past, sources=frozenset([node])))
            watch.past |= pasts
            last = results[-1]
            block.shapes = [tuple(last.shape[1:])]
            block.batch = max(1, len(last) // self.samples)
            block.level = watch.past[id(last)].level if last.ndim >= 4 else None

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(behind),
        ]


def _tidy(graph: Graph, runs: _Runs) -> None:
    """Draw as one what is one: what runs again on its own result, what is named
    together, a layer without operations and the one before it, like blocks in a row;
    and leave out meetings that nothing comes of."""
    for names in runs.names.values():
        first = names[0]
        again = any(graph.reaches(first, later) for later in names[1:])
        if again or len(names) > 2:
            for later in names[1:]:
                graph.contract(later, first)
            graph.blocks[first].calls = len(names)
    graph.edges = list(dict.fromkeys(graph.edges))
    _group(graph, runs.groups)
    _settle_joins(graph)
    _fold(graph, runs.unnamed)
    _rows(graph, runs.kinds)


def _group(graph: Graph, groups: dict[str, str]) -> None:
    last = {group: name for name, group in groups.items() if name in graph.blocks}
    for name, group in groups.items():
        if name in graph.blocks and name != last[group]:
            if not graph.reaches(name, last[group]):
                target = graph.blocks[last[group]]
                target.shapes = graph.blocks[name].shapes + target.shapes
            graph.contract(name, last[group])


def _settle_joins(graph: Graph) -> None:
    """Joins become signs of the block that they lead to; those that lead nowhere, or
    only collect the net's results, go."""
    changed = True
    while changed:
        changed = False
        for join in [b for b in graph.blocks.values() if b.kind == "join"]:
            name = join.name
            before, after = graph.before(name), graph.after(name)
            given_out = name in graph.outputs
            if given_out and not after and join.sign == "‖":
                graph.outputs += [b for b in before if b not in graph.outputs]
                graph.outputs.remove(name)
                given_out = False
            if not after and not given_out:
                graph.edges = [edge for edge in graph.edges if name not in edge]
                del graph.blocks[name]
            elif len(before) == 1 and graph.blocks[before[0]].kind != "input":
                graph.contract(name, before[0])
            elif len(after) == 1 and not given_out:
                target = graph.blocks[after[0]]
                if target.kind != "join" and target.sign not in ("", join.sign):
                    continue
                if target.kind != "join":
                    target.sign = join.sign
                graph.contract(name, after[0])
            else:
                continue
            changed = True
            break


def _fold(graph: Graph, unnamed: set[str]) -> None:
    """A layer without operations (a normalisation) belongs to the block before it,
    unless it was asked for by name."""
    for block in list(graph.blocks.values()):
        before = graph.before(block.name)
        if block.name not in unnamed or block.operations or len(before) != 1:
            continue
        host = graph.blocks[before[0]]
        if host.kind == "block" and graph.after(host.name) == [block.name]:
            host.shapes, host.level = block.shapes, block.level
            graph.contract(block.name, host.name)


def _rows(graph: Graph, kinds: dict[str, str]) -> None:
    """Like blocks in a row become one."""
    for block in list(graph.blocks.values()):
        before = graph.before(block.name)
        if block.kind != "block" or len(before) != 1 or block.sign:
            continue
        host = graph.blocks[before[0]]
        alike = kinds.get(host.name) == kinds[block.name] and host.label == block.label
        if (
            alike
            and host.shapes == block.shapes
            and graph.after(host.name) == [block.name]
        ):
            graph.contract(block.name, host.name)
            host.count += 1


# The drawing, in pixels.
WIDTH, HEIGHT = 84, 66  # of a block
GAP, LANE = 22, 14  # between blocks of a row, and between its lanes
LEFT, TOP = 40, 20  # room for the rows' names, and for ways above a row


@dataclass
class _Place:
    """Where a block stands."""

    row: int
    lane: int
    x: float
    width: float
    height: float
    above: float = 6  # room for the ways inside, drawn above it
    entry: float = 0  # how far before it its sign stands
    drop: float = 0  # how far above it, where all comes from above
    y: float = 0  # of its middle

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


def _size(block: Block) -> tuple[float, float]:
    if block.kind == "join":
        return 18, 18
    return (WIDTH, 34) if block.kind in ("input", "output") else (WIDTH, HEIGHT)


def _levels(graph: Graph) -> dict[str, int | None]:
    """Each block's level; inputs stand above all, a join where what it joins does."""
    levels: dict[str, int | None] = {}
    for name, block in graph.blocks.items():
        levels[name] = -1 if block.kind == "input" else block.level
        if block.kind == "join":
            before = [levels.get(start) for start in graph.before(name)]
            maps = [level for level in before if level is not None and level >= 0]
            levels[name] = min(maps, default=None)
    return levels


def _layout(graph: Graph) -> tuple[dict[str, _Place], list[int | None]]:
    """Places, and the level of each row."""
    levels = _levels(graph)
    maps = sorted({level for level in levels.values() if level is not None})
    rows: list[int | None] = [*maps, *([None] if None in levels.values() else [])]
    places: dict[str, _Place] = {}
    for name, block in graph.blocks.items():
        place = _Place(rows.index(levels[name]), 0, 0, *_size(block))
        place.above = 24 if block.inner else 6
        if block.sign and block.kind != "join":
            starts = [graph.blocks[start] for start in graph.before(name)]
            place.drop = 18 * all(start.kind == "input" for start in starts)
            place.entry = 18 - place.drop
            place.above += place.drop
        # What comes back from later has no place yet.
        for start in [one for one in graph.before(name) if one in places]:
            other = places[start]
            if other.row == place.row:
                joins = "join" in (block.kind, graph.blocks[start].kind)
                gap = 14 if joins else GAP
                place.x = max(place.x, other.right + gap + place.entry / 2)
                place.lane = other.lane
            elif other.row < place.row and _is_below(graph, start, levels[name]):
                place.x = max(place.x, other.x if not place.x else 0)
            elif other.row < place.row:
                place.x = max(place.x, other.middle + 15 + place.entry / 2)
            else:
                place.x = max(place.x, other.right + 10 - place.width / 2)
        if block.kind == "input":
            place.x = max([0, *(other.right + GAP for other in places.values())])
        lanes = [place.lane, *range(len(places) + 1)]
        place.lane = next(lane for lane in lanes if _is_free(places, place, lane))
        places[name] = place
    _heights(places, len(rows))
    return places, rows


def _is_below(graph: Graph, start: str, level: int | None) -> bool:
    """Whether a reader of a block stands right under it, and not a step further."""
    if graph.blocks[start].kind != "input":
        return level is None
    return len(graph.after(start)) == 1


def _is_free(places: dict[str, _Place], place: _Place, lane: int) -> bool:
    """Whether a lane of a place's row has room for it."""
    within = [p for p in places.values() if (p.row, p.lane) == (place.row, lane)]
    start, end = place.x - place.entry - 8, place.right + 8
    return not any(p.x - p.entry < end and start < p.right for p in within)


def _heights(places: dict[str, _Place], rows: int) -> None:
    """Give each place the middle of its lane."""
    y = float(TOP)
    for row in range(rows):
        for lane in range(1 + max(p.lane for p in places.values() if p.row == row)):
            within = [p for p in places.values() if (p.row, p.lane) == (row, lane)]
            height = max((place.height for place in within), default=0)
            y += max((place.above for place in within), default=0)
            for place in within:
                place.y = y + height / 2
            y += height + LANE


def _way(
    places: dict[str, _Place], start: _Place, end: _Place
) -> tuple[list[tuple[float, float]], str]:
    """The corners of an edge: level where it can be, with one step between rows, above
    what stands between; and where it comes in: left, top or bottom."""
    within = [p for p in places.values() if (p.row, p.lane) == (end.row, end.lane)]
    between = [p for p in within if start.middle < p.middle < end.middle]
    left = end.x - end.entry
    if end.x <= start.x and end.row == start.row:  # back to an earlier block
        low = max(p.bottom for p in within) + 10
        first, last = (start.middle, start.bottom), (end.middle, end.bottom)
        return [first, (start.middle, low), (end.middle, low), last], "bottom"
    if start.row == end.row and start.lane == end.lane and between:
        high = min(p.top - p.above for p in [start, end, *between]) - 4
        x, y = end.x + min(10, end.width / 2), end.top
        if end.entry:
            x, y = end.x - 9, end.y - 9
        leave = start.right - 10
        corners = [(leave, start.top), (leave, high), (x, high), (x, y)]
        return corners, "top"
    if start.row == end.row:
        turn = left - 12
        corners = [(start.right, start.y), (turn, start.y), (turn, end.y)]
        return [*corners, (left, end.y)], "left"
    if start.row > end.row:
        corners = [(start.right, start.y), (end.middle, start.y)]
        return [*corners, (end.middle, end.bottom)], "bottom"
    if left >= start.middle + 8 and not between and not end.drop:
        return [
            (start.middle, start.bottom),
            (start.middle, end.y),
            (left, end.y),
        ], "left"
    top = end.top - end.drop
    turn = end.top - end.above - 5
    corners = [(start.middle, start.bottom), (start.middle, turn), (end.middle, turn)]
    return [*corners, (end.middle, top)], "top"


def _line(corners: list[tuple[float, float]], side: str, kind: str) -> str:
    """An edge with its arrow's head."""
    path = "M{:g} {:g}".format(*corners[0])
    for (x, y), (next_x, next_y) in pairwise(corners):
        if next_x != x:
            path += f"H{next_x:g}"
        if next_y != y:
            path += f"V{next_y:g}"
    head = {"left": "l-7-3.5v7z", "top": "l-3.5-7h7z", "bottom": "l-3.5 7h7z"}[side]
    tip = "M{:g} {:g}".format(*corners[-1])
    return f"<path class='{kind}' d='{path}'/><path class='h{kind}' d='{tip}{head}'/>"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 or not share else "<1 %"


def _short(number: float) -> str:
    """A large number in three digits."""
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:g}"


def _shape(block: Block) -> str:
    """The shape of a block's result, in words."""
    if not block.shapes:
        return ""
    words = "×".join(map(str, block.shapes[0]))
    if len(block.shapes) > 1:
        same = {shape[:-1] for shape in block.shapes}
        lasts = "+".join(str(shape[-1]) for shape in block.shapes)
        words = "×".join([*map(str, block.shapes[0][:-1]), f"({lasts})"])
        if len(same) > 1:
            firsts = "+".join(str(shape[0]) for shape in block.shapes)
            words = "×".join([f"({firsts})", *map(str, block.shapes[0][1:])])
    return words


def _name(block: Block) -> str:
    many = f"{block.batch} × " if block.batch > 1 else ""
    return f"{many}{block.label}" + (f" ×{block.count}" if block.count > 1 else "")


def words(graph: Graph) -> str:
    """What the map shows, to be read aloud."""
    parts = []
    for block in graph.blocks.values():
        if block.kind == "join":
            continue
        text = f"{_name(block)} {_shape(block)}".strip()
        if block.kind == "block":
            text += f", {_percent(block.parameters / graph.parameters)} of parameters"
            share = block.operations / max(1, graph.operations)
            text += f", {_percent(share)} of operations"
        if len(before := graph.before(block.name)) > 1 or block.sign:
            names = [graph.blocks[name].label for name in before]
            text += f", reads {' and '.join(names)}"
        parts.append(text)
    return "; ".join(parts)


def draw(graph: Graph) -> str:
    """The map as SVG.

    From left to right the flow; lower rows hold smaller maps, the lowest what is no
    map. Each block has its result's shape and two bars, its shares of the net's
    parameters and multiply-adds.

    Args:
        graph: From ``trace``.

    Returns:
        An ``svg`` element. Its colours follow the page's through the variables of the
        book's style sheet, and the colour of its text.
    """
    places, rows = _layout(graph)
    for place in places.values():
        place.x += LEFT
    right = max(place.right for place in places.values()) + 16
    bottom = max(place.bottom for place in places.values()) + 20
    parts = []
    for row, level in enumerate(rows):
        if level == -1:
            continue
        y = min(place.y for place in places.values() if place.row == row)
        name = "flat" if level is None else f"1:{_reduction(graph, level)}"
        parts.append(f"<text x='0' y='{y + 4:g}' class='l'>{name}</text>")
        parts.append(f"<path class='g' d='M{LEFT} {y:g}H{right:g}'/>")
    order = list(graph.blocks)
    for start, end in graph.edges:
        rest = dataclasses.replace(graph, edges=[*graph.edges])
        rest.edges.remove((start, end))
        back = order.index(end) < order.index(start)
        kind = "b" if back else "s" if rest.reaches(start, end) else "f"
        parts.append(_line(*_way(places, places[start], places[end]), kind))
    for name in graph.outputs:
        if not graph.after(name):
            x, y = places[name].right, places[name].y
            parts.append(_line([(x, y), (x + 13, y)], "left", "f"))
    parts += [
        _card(graph, block, places[block.name]) for block in graph.blocks.values()
    ]
    size = f"viewBox='0 0 {right:g} {bottom:g}' width='{right:g}' height='{bottom:g}'"
    label = escape(words(graph), quote=True)
    body = "".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img'"
        f" aria-label='{label}'>{body}</svg>"
    )


def _reduction(graph: Graph, level: int) -> int:
    """How many cells of the input lie along one of a row's maps: a power of two, unless
    the maps are too small for that."""
    blocks = [block for block in graph.blocks.values() if block.level == level]
    sides = [b.shapes[0][-1] for b in blocks if b.kind == "block"]
    first = next(iter(graph.blocks.values()))
    if not sides or first.kind != "input":
        return 2**level
    ratio = first.shapes[0][-1] / sides[0]
    return 2**level if abs(math.log2(ratio) - level) < 0.4 else round(ratio)


def _card(graph: Graph, block: Block, place: _Place) -> str:
    """One block."""
    if block.kind == "join":
        return _mark(place.middle, place.y, block.sign)
    again = " ↻" if block.calls > 1 else ""
    middle = WIDTH / 2
    parts = [
        f"<g transform='translate({place.x:g} {place.top:g})'>",
        f"<text class='n' x='{middle:g}' y='15'>{escape(_name(block))}{again}</text>",
        f"<text x='{middle:g}' y='29'>{escape(_shape(block))}</text>",
    ]
    if block.kind == "block":
        parts[1:1] = _frame(block)
        parts.append("<path class='t' d='M7 42h38M7 55h38'/>")
        pairs = (
            (block.parameters, graph.parameters),
            (block.operations, graph.operations),
        )
        for kind, y, (part, whole) in zip("po", (42, 55), pairs, strict=True):
            share = part / max(1, whole)
            if share:
                parts.append(f"<path class='{kind}' d='M7 {y}h{38 * share:.2g}'/>")
            parts.append(f"<text class='e' x='79' y='{y + 4}'>{_percent(share)}</text>")
    if block.sign:
        spot = (middle, -9.0) if place.drop else (-9.0, HEIGHT / 2)
        parts.append(_mark(spot[0], spot[1], block.sign))
    return "".join([*parts, "</g>"])


def _frame(block: Block) -> list[str]:
    """What stands around a block's words: what it is exactly, its outline, a second one
    for a pile, an arc for ways that part and meet inside."""
    made = f"{block.parameters:,} parameters, {_short(block.operations)} multiply-adds"
    parts = [f"<title>{made}</title>"]
    box = f"class='c' width='{WIDTH}' height='{HEIGHT}' rx='6'"
    if block.batch > 1:
        parts.append(f"<rect x='4' y='-4' {box}/>")
    parts.append(f"<rect {box}/>")
    if block.inner:
        parts.append("<path class='s' d='M12 0q30-20 60 0'/>")
        parts.append(f"<text class='w' x='{WIDTH / 2:g}' y='-12'>{block.inner}</text>")
    return parts


def _mark(x: float, y: float, sign: str) -> str:
    circle = f"<circle class='j' cx='{x:g}' cy='{y:g}' r='9'/>"
    return f"{circle}<text class='w' x='{x:g}' y='{y + 4:g}'>{sign}</text>"


LEGEND = (
    "<b class='p'></b> share of the {parameters} parameters"
    " <b class='o'></b> share of the {operations} multiply-adds for one input."
    " {signs}."
)


def show(
    *nets: Sequence[Any],
    blocks: Mapping[str, str] | None = None,
    part: str = "",
    then: Callable[[Any], Any] | None = None,
    caption: str = "",
) -> None:
    """Show one net at its scales, with buttons that choose one.

    Args:
        nets: Of each, the function that makes it, which gives the button its name, and
            the inputs for ``trace``: ``(unet.tiny, (1, 3, 136, 136))``.
        blocks: See ``trace``; the same for all.
        part: See ``trace``.
        then: See ``trace``.
        caption: What there is to see, under the map.

    Raises:
        ValueError: For no nets, or what ``trace`` refuses.
    """
    expect(nets, "at least one net (build, *inputs), got none")
    graphs = {}
    for build, *inputs in nets:
        graphs[build.__name__] = trace(
            build, *inputs, blocks=blocks, part=part, then=then
        )
    first = next(iter(graphs.values()))
    bundle = {
        "text/html": _html(graphs, escape(caption)),
        "text/plain": f"{words(first)}\n{caption}".strip(),
    }
    display(bundle, raw=True)


def _html(graphs: Mapping[str, Graph], caption: str) -> str:
    """The maps, of which radio buttons show one."""
    drawn = {name: draw(graph) for name, graph in graphs.items()}
    key = hashlib.sha256("".join(drawn.values()).encode()).hexdigest()[:6]
    parts = [f"<style>{_style()}</style><figure class='pn-net'>"]
    for number, name in enumerate(graphs):
        checked = " checked" * (not number)
        spot = f"type='radio' name='n{key}' id='n{key}{number}'"
        word = escape(name)
        parts.append(
            f"<input {spot}{checked}><label for='n{key}{number}'>{word}</label>"
        )
    for name, graph in graphs.items():
        label = f"role='group' aria-label='map of the net, {escape(name, quote=True)}'"
        legend = LEGEND.format(
            parameters=_short(graph.parameters).strip(),
            operations=_short(graph.operations).strip(),
            signs=_signs(graph),
        )
        box = f"<div class='pn-scroll' tabindex='0' {label}>{drawn[name]}</div>"
        parts.append(f"<div>{box}<p>{legend}</p></div>")
    if caption:
        parts.append(f"<figcaption>{caption}</figcaption>")
    return "".join([*parts, "</figure>"])


def _signs(graph: Graph) -> str:
    """What the lines and signs of a map mean."""
    blocks = graph.blocks.values()
    signs = "".join(block.sign + block.inner for block in blocks)
    rows = {block.level for block in blocks if block.kind == "block"}
    said = ["Lower rows hold smaller maps"] if len(rows) > 1 else []
    if None in rows:
        said.append("what is flat is no map")
    kinds = {
        "+": "+ adds",
        "×": "× multiplies",
        "‖": "‖ lays side by side",
    }
    said += [text for sign, text in kinds.items() if sign in signs]
    if any(block.inner for block in blocks):
        said.append("an arc over a block is a way around inside it")
    if any(block.batch > 1 for block in blocks):
        said.append("a pile runs on so many at once")
    if any(block.calls > 1 for block in blocks):
        said.append("↻ runs several times")
    text = ", ".join(said)
    return text[:1].upper() + text[1:]


def _style() -> str:
    """The style sheet in one line."""
    text = (Path(__file__).parent / "js" / "netmap.css").read_text(encoding="utf-8")
    return "".join(text.splitlines())
