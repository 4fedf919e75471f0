"""What decides a chapter's outputs, by definition and not by file.

A chapter's code reaches definitions of the package by name, and these reach others. Two
hashes are taken over them, without comments, docstrings, annotations and formatting:
``page`` over all that is reached but what is stamped (``STAMPED``), ``numbers`` over
what can move a measurement, that is without what only shows (``SHOWN``). So a new
function in a shared file, another docstring, a line of a widget's script or other words
of a verdict make no chapter stale, and another figure asks for no new claims.
"""

import ast
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = "papernets_lite"
# Modules that show: nothing in them can move a number.
SHOWN = {
    f"{PACKAGE}.{name}"
    for name in (
        "claims",
        "draw",
        "netmap",
        "panels",
        "plots",
        "vector",
        "widgets",
        "show",
        "output",
    )
}
# What the stamps write anew without a kernel: verdicts and what was measured; listings.
STAMPED = {f"{PACKAGE}.claims", f"{PACKAGE}.show.source"}
Imports = dict[str, tuple[str, str | None]]  # name -> (module, name in it or None)
Chain = tuple[str, ...]  # a dotted name
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Module:
    """A parsed file of the package.

    ``definitions`` holds the statements that bind each name, ``imports`` what a name
    that is imported stands for (module, name in it or None), ``effects`` the statements
    that run at import and bind nothing.
    """

    name: str
    path: Path
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: Imports = field(default_factory=dict)
    lazy: Imports = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


@dataclass
class Reach:
    """What a chapter's code reaches."""

    definitions: set[tuple[str, str]] = field(default_factory=set)  # (module, name)
    modules: set[str] = field(default_factory=set)  # loaded at import or by a name


class Package:
    """The package's files below ``root``, each parsed once, when it is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.find = cache(self._find)
        self.text = cache(self._text)
        self.reads = cache(self._reads)

    def _find(self, name: str) -> Module | None:
        """A module by its dotted name; None for what is not the package's."""
        if name.split(".")[0] != PACKAGE:
            return None
        base = self.root.joinpath(*name.split("."))
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.exists():
                return parse(name, path)
        return None

    def statements(self, module: str, name: str | None) -> list[ast.stmt]:
        """Those that bind a name, or with no name the module's effects."""
        found = self.find(module)
        if found is None:
            return []
        return found.effects if name is None else found.definitions.get(name, [])

    def _text(self, module: str, name: str | None) -> str:
        return canonical(self.statements(module, name))

    def _reads(self, module: str, name: str | None) -> tuple[Imports, list[Chain]]:
        """What a definition imports itself, and the dotted names that it reads."""
        code = self.statements(module, name)
        found = self.find(module)
        is_package = found is not None and found.path.name == "__init__.py"
        return imports_of(code, module, is_package=is_package), sorted(chains(code))


class Walk:
    """Goes from a chapter's code through the package's definitions.

    Args:
        package: where they are.
        skip: modules that are loaded, but of which nothing is reached, and single
            definitions (``"module.name"``) that are not reached.
    """

    def __init__(self, package: Package, skip: set[str]) -> None:
        self.package, self.skip = package, skip
        self.found = Reach()
        self.todo: list[tuple[str, str]] = []

    def run(self, code: list[ast.stmt]) -> Reach:
        """Everything that a chapter's ``code`` reaches."""
        imports = imports_of(code, "", is_package=False)
        self.load_all(imports)
        self.read(chains(code), imports, "")
        while self.todo:
            module, name = self.todo.pop()
            if (module, name) in self.found.definitions:
                continue
            if module in self.skip or f"{module}.{name}" in self.skip:
                continue
            self.found.definitions.add((module, name))
            self.enter(module, name)
        return self.found

    def enter(self, module: str, name: str | None) -> None:
        """Go on from a definition, or with no name from a module's effects."""
        within = self.package.find(module)
        if within is None:
            return
        own, names = self.package.reads(module, name)
        self.load_all(own)
        self.read(names, within.imports | own, module)

    def load_all(self, imports: Imports) -> None:
        """Load what is imported, as modules and as names in them."""
        for target, attribute in imports.values():
            self.load(target)
            if attribute is not None:
                self.load(f"{target}.{attribute}")

    def load(self, name: str) -> None:
        """A module is imported: so are its parents and what it imports at its top."""
        module = self.package.find(name)
        if module is None or name in self.found.modules:
            return
        self.found.modules.add(name)
        if "." in name:
            self.load(name.rpartition(".")[0])
        self.load_all(module.imports)
        if name not in self.skip:
            self.enter(name, None)

    def read(self, names: Iterable[Chain], imports: Imports, module: str) -> None:
        """Follow the dotted names that code of ``module`` reads."""
        within = self.package.find(module)
        for first, *rest in names:
            if first in imports:
                target, attribute = imports[first]
                words = rest if attribute is None else [attribute, *rest]
                self.follow(target, words)
            elif within and first in within.definitions:
                self.todo.append((module, first))

    def follow(self, target: str, words: list[str]) -> None:
        """Where a dotted name that begins with an import ends."""
        words = list(words)
        while words and self.package.find(f"{target}.{words[0]}"):
            target = f"{target}.{words.pop(0)}"
        module = self.package.find(target)
        if module is None:
            return
        self.load(target)
        if words and words[0] in module.definitions:
            self.todo.append((target, words[0]))
        elif words and words[0] in (known := module.lazy | module.imports):
            further, attribute = known[words[0]]
            rest = words[1:]
            self.follow(further, rest if attribute is None else [attribute, *rest])
        else:
            # The module itself is handed on, or a name is made at run time: all of it
            # may be used.
            self.todo += [(target, name) for name in module.definitions]


def parse(name: str, path: Path) -> Module:
    """A file's definitions, imports and effects."""
    module = Module(name, path)
    is_package = path.name == "__init__.py"
    binding = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for statement in without_docstring(body):
        if is_for_types(statement):
            module.lazy |= imports_of([statement], name, is_package=is_package)
            continue
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            module.imports |= imports_of([statement], name, is_package=is_package)
            continue
        for one in bound(statement):
            module.definitions.setdefault(one, []).append(statement)
        if not isinstance(statement, binding):
            module.effects.append(statement)
            module.imports |= imports_of([statement], name, is_package=is_package)
    return module


def is_for_types(statement: ast.stmt) -> bool:
    """Whether a statement is ``if TYPE_CHECKING:``, which never runs."""
    test = statement.test if isinstance(statement, ast.If) else None
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def imports_of(code: Iterable[ast.stmt], inside: str, *, is_package: bool) -> Imports:
    """What all imports in ``code`` bind.

    Args:
        code: statements, with what stands in them.
        inside: the module that they stand in, for relative imports.
        is_package: it is a package's ``__init__``.
    """
    found: Imports = {}
    for statement in code:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split(".")[0]
                    target = alias.name if alias.asname else first
                    found[alias.asname or first] = (target, None)
            elif isinstance(node, ast.ImportFrom):
                target = absolute(node, inside, is_package=is_package)
                for alias in node.names:
                    found[alias.asname or alias.name] = (target, alias.name)
    return found


def absolute(node: ast.ImportFrom, inside: str, *, is_package: bool) -> str:
    """The module that ``from ... import`` names, dots resolved."""
    module = node.module or ""
    if not node.level:
        return module
    parts = inside.split(".")
    kept = len(parts) - node.level + (1 if is_package else 0)
    return ".".join([*parts[:kept], *([module] if module else [])])


def bound(statement: ast.stmt) -> list[str]:
    """Names that a statement at a module's top binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    names = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
    return list(dict.fromkeys(names))


def chains(code: Iterable[ast.AST]) -> set[tuple[str, ...]]:
    """The dotted names that code reads, without those that a function binds itself."""
    found: set[tuple[str, ...]] = set()

    def visit(node: ast.AST, hidden: frozenset[str]) -> None:
        words: list[str] = []
        below: ast.AST = node
        while isinstance(below, ast.Attribute):
            words.append(below.attr)
            below = below.value
        if isinstance(below, ast.Name):
            if below.id not in hidden and isinstance(below.ctx, ast.Load):
                found.add((below.id, *reversed(words)))
            return
        if isinstance(below, FUNCTIONS):
            inner = hidden | locals_of(below)
            for outer in outside_of(below):
                visit(outer, hidden)
            body = below.body if isinstance(below.body, list) else [below.body]
            for child in body:
                visit(child, inner)
            return
        if isinstance(below, COMPREHENSIONS):
            targets = [generator.target for generator in below.generators]
            hidden = hidden | {name for t in targets for name in stored(t)}
        children = ast.iter_child_nodes(below)
        if isinstance(below, ast.AnnAssign):  # what a field is said to be is not run
            children = iter([c for c in (below.target, below.value) if c is not None])
        for child in children:
            visit(child, hidden)

    for node in code:
        visit(node, frozenset())
    return found


def outside_of(function: ast.AST) -> list[ast.AST]:
    """What of a function is read where it stands: decorators and defaults."""
    arguments = function.args  # type: ignore[attr-defined]
    defaults = [d for d in (*arguments.defaults, *arguments.kw_defaults) if d]
    return [*getattr(function, "decorator_list", []), *defaults]


def locals_of(function: ast.AST) -> frozenset[str]:
    """Names that a function binds: arguments, assignments, inner functions."""
    arguments = function.args  # type: ignore[attr-defined]
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    names = {argument.arg for argument in every}
    names |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a}
    body = function.body  # type: ignore[attr-defined]
    shared: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            return
        if isinstance(node, (ast.Lambda, *COMPREHENSIONS)):
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            shared.update(node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    for statement in body if isinstance(body, list) else []:
        visit(statement)
    return frozenset(names - shared)


def stored(target: ast.AST) -> set[str]:
    """Names that a target binds."""
    return {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}


def canonical(node: object) -> str:
    """A statement as text, the same on every Python: without docstrings, annotations of
    functions, and what the parser notes beside the code."""
    if isinstance(node, ast.AST):
        parts = []
        for name, value in ast.iter_fields(node):
            if name in (
                "type_comment",
                "kind",
                "type_params",
                "returns",
                "annotation",
                "ctx",
            ):
                continue
            if name == "body" and isinstance(value, list):
                value = without_docstring(value)
            if value not in (None, []):
                parts.append(f"{name}={canonical(value)}")
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    return repr(node)


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements without strings that stand alone."""
    return [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]


def python(source: str) -> str:
    """A cell's source without lines that only IPython understands."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def only_shows(statement: ast.stmt, imports: Imports) -> bool:
    """Whether a statement is a call that shows something and binds nothing."""
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if not isinstance(value, ast.Call):
        return isinstance(value, (ast.Constant, ast.Name))
    head: ast.AST = value.func
    while isinstance(head, ast.Attribute):
        head = head.value
    if not isinstance(head, ast.Name):
        return False
    target, attribute = imports.get(head.id, ("", None))
    if isinstance(value.func, ast.Attribute) and value.func.attr == "measure":
        return False  # what is measured is no mere showing
    return head.id in ("display", "print") or f"{target}.{attribute}" in SHOWN


def digest(texts: Iterable[str]) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Digests:
    """What decides a chapter: its measurements, its stored outputs."""

    numbers: str
    page: str
    modules: frozenset[str]  # of the package, that its kernel may load


def of_cells(package: Package, cells: Iterable[str]) -> Digests:
    """A chapter's digests.

    Args:
        package: of the repository.
        cells: sources of its code cells, without the install cell.
    """
    code = [s for cell in cells for s in ast.parse(python(cell)).body]
    imports = imports_of(code, "", is_package=False)
    measured = [s for s in code if not only_shows(s, imports)]
    numbers = Walk(package, SHOWN).run(measured)
    page = Walk(package, STAMPED).run(code)
    return Digests(
        digest([canonical(measured), *texts(package, numbers, SHOWN)]),
        digest([canonical(code), *texts(package, page, STAMPED)]),
        frozenset(page.modules),
    )


def texts(package: Package, reach: Reach, skip: set[str]) -> list[str]:
    """What was reached, as text: definitions, and what runs when a module is loaded."""
    lines = []
    for module, name in sorted(reach.definitions):
        lines.append(f"{module}.{name}: {package.text(module, name)}")
    for module in sorted(reach.modules - skip):
        lines.append(f"{module}: {package.text(module, None)}")
    return lines
