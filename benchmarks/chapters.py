"""Where a chapter's seconds go, from one run of its cells as a script, and how fast its
nets train."""

import ast
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("imports", "data", "training", "drawing", "the rest")
# Whose functions make which kind of work; each that exists is timed.
OWNERS = {
    "training": ["training"],
    "drawing": ["draw", "plots", "widgets", "show"],
    "data": ["data"],
}


@dataclass
class Account:
    """Seconds of CPU time by kind, and operations counted.

    Work inside other work is the outer's: a picture drawn while training is training.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    operations: float = 0.0
    open: str = ""

    @contextmanager
    def kind(self, name: str):
        """Charge what happens inside to ``name``, unless something is charged."""
        if self.open:
            yield
            return
        self.open, start = name, time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - start
            self.open = ""

    def charge(self, function: Callable, name: str) -> Callable:
        """The same function, charged to ``name``."""

        @wraps(function)
        def charged(*arguments: object, **options: object) -> object:
            with self.kind(name):
                return function(*arguments, **options)

        return charged


def modules(name: str) -> list[ModuleType]:
    """A module and, of a folder, those in it."""
    top = import_module(f"papernets_lite.{name}")
    places = [Path(place) for place in getattr(top, "__path__", [])]
    inner = [path.stem for place in places for path in place.glob("[a-z]*.py")]
    return [top, *(import_module(f"papernets_lite.{name}.{stem}") for stem in inner)]


def instrument(account: Account) -> None:
    """Charge every public function of the machinery to its kind."""
    for kind, names in OWNERS.items():
        for module in [found for name in names for found in modules(name)]:
            for name, item in list(vars(module).items()):
                own = getattr(item, "__module__", "").startswith("papernets_lite")
                if inspect.isfunction(item) and own and not name.startswith("_"):
                    setattr(module, name, account.charge(item, kind))


def count_operations(account: Account) -> None:
    """Count the floating point operations of convolutions and linear layers while
    training, by torch's own formulas: once for the forward pass, and twice more for the
    backward pass where a gradient is wanted."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import conv_flop_count

    def after(layer: nn.Module, inputs: tuple, output: object) -> None:
        if account.open != "training" or not inputs:
            return
        x = inputs[0]
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            turned = isinstance(layer, nn.ConvTranspose2d)
            shapes = (x.shape, layer.weight.shape, output.shape)
            made = conv_flop_count(*map(list, shapes), transposed=turned)
        elif isinstance(layer, nn.Linear):
            made = 2 * x.numel() * layer.out_features
        else:
            return
        account.operations += made * (3 if torch.is_grad_enabled() else 1)

    nn.modules.module.register_module_forward_hook(after)


def is_import(node: ast.stmt) -> bool:
    """Whether a statement only imports."""
    return isinstance(node, ast.Import | ast.ImportFrom)


def sources(path: Path) -> list[str]:
    """A chapter's code cells without its install cell."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and "install" not in cell["metadata"].get("tags", [])
    ]


def child(path: Path) -> None:
    """Run a chapter here and print its account as JSON."""
    os.environ |= {"MPLBACKEND": "Agg", "TQDM_DISABLE": "1"}
    account = Account()
    import torch  # counted apart: every chapter needs it

    torch.set_num_threads(1)
    # The chapter's own imports come first, so that the machinery's are theirs.
    names: dict[str, object] = {"__name__": "__main__", "display": lambda *shown: None}
    trees = [ast.parse(source) for source in sources(path)]
    with account.kind("imports"):
        for tree in trees:
            first = ast.Module([n for n in tree.body if is_import(n)], [])
            exec(compile(first, str(path), "exec"), names)
    instrument(account)
    count_operations(account)
    begun = time.process_time()
    for tree in trees:
        # again, so that names imported from the machinery are the charged ones
        exec(compile(tree, str(path), "exec"), names)
    known = sum(v for kind, v in account.seconds.items() if kind != "imports")
    account.seconds["the rest"] = time.process_time() - begun - known
    sys.stdout.write(f"\n{json.dumps(asdict(account))}\n")


def measure(path: Path) -> Account:
    """A chapter's account, from a process of its own.

    Raises:
        RuntimeError: with the end of what it said, when it fails.
    """
    command = [sys.executable, "-m", "benchmarks.chapters", str(path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=1800
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    return Account(**json.loads(done.stdout.splitlines()[-1]))


def table() -> str:
    """Every chapter as a row of Markdown."""
    lines = [
        f"| chapter | {' | '.join(KINDS)} | GFLOP/s |",
        f"| --- | {'--- | ' * len(KINDS)}--- |",
    ]
    paths = sorted(ROOT.glob("book/[a-z]*/*.ipynb"))
    for path in paths:
        print(path.stem, flush=True)
        account = measure(path)
        times = [f"{account.seconds[kind]:.1f}" for kind in KINDS]
        training = account.seconds["training"]
        speed = account.operations / training / 1e9 if training else 0.0
        lines.append(f"| `{path.stem}` | {' | '.join(times)} | {speed:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    child(Path(sys.argv[1]))
