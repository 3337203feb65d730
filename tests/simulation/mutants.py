"""Broken copies of peerd, generated: each guard dropped, each next state swapped, each timer removed.

A mutant is one place in one module. `install` makes the module come out broken when it is imported, so call
it before anything of peerd is.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
ROOMS = ("peerd/protocol", "peerd/peering", "peerd/resources")
FILES = ("peerd/app/exports.py", "peerd/app/withholding.py", "peerd/serve/window.py")
LEFT_OUT = ("debug.py", "source.py", "errors.py", "__init__.py")  # pages for people, and mere types

GUARD, STATE, TIMER = "guard dropped", "next state swapped", "timer removed"

_LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_NEVER = 1e9  # seconds
_TAKES_STATES = {"move", "fire", "_set_freshness"}  # functions that are given a state or an event
_TELLS_WHEN = {"wait", "next_due"}  # functions that say when to look again


@dataclass(frozen=True)
class Mutant:
    """`path` is below the repository's root; `number` counts the places of the file."""

    path: str
    number: int
    kind: str
    line: int
    what: str

    @property
    def name(self) -> str:
        """Stable as long as the file is."""
        return f"{self.path}:{self.line} {self.kind}: {self.what}"


def population(root: Path = ROOT) -> list[Mutant]:
    """Every mutant there is, in the order of files and lines."""
    paths = [path for room in ROOMS for path in sorted((root / room).glob("*.py"))]
    paths = [path for path in paths if path.name not in LEFT_OUT] + [root / each for each in FILES]
    found: list[Mutant] = []
    for path in paths:
        tree = ast.parse(path.read_text())
        relative = str(path.relative_to(root))
        for number, place in enumerate(_places(tree)):
            found.append(Mutant(relative, number, place.kind, place.line, place.what))
    return found


def mutated(mutant: Mutant, root: Path = ROOT) -> ast.Module:
    """The module's tree with the one place broken."""
    tree = ast.parse((root / mutant.path).read_text())
    places = list(_places(tree))
    places[mutant.number].apply()
    return ast.fix_missing_locations(tree)


def install(mutant: Mutant, root: Path = ROOT) -> None:
    """Let the broken module be imported in place of the good one."""
    module = mutant.path.removesuffix(".py").replace("/", ".")
    assert module not in sys.modules, f"{module} was imported already"
    code = compile(mutated(mutant, root), str(root / mutant.path), "exec")
    sys.meta_path.insert(0, _Finder(module, code))


class _Finder(MetaPathFinder, Loader):
    def __init__(self, module: str, code: object) -> None:
        self._module = module
        self._code = code

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._module else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # type: ignore[call-overload]


class _Place:
    """One thing that can be broken."""

    def __init__(self, kind: str, node: ast.AST, what: str) -> None:
        self.kind = kind
        self.line: int = node.lineno  # type: ignore[attr-defined]
        self.what = " ".join(what.split())[:100]

    def apply(self) -> None:
        raise NotImplementedError


class _Guard(_Place):
    """An `if` that leaves (returns, raises, goes on to the next): it never does."""

    def __init__(self, node: ast.If) -> None:
        super().__init__(GUARD, node, f"if {ast.unparse(node.test)}: {ast.unparse(node.body[-1])}")
        self._node = node

    def apply(self) -> None:
        self._node.test = ast.Constant(False)


class _State(_Place):
    """A state that is taken: another one of the same enumeration."""

    def __init__(self, node: ast.Attribute, other: str) -> None:
        super().__init__(STATE, node, f"{ast.unparse(node)} is {other}")
        self._node = node
        self._other = other

    def apply(self) -> None:
        self._node.attr = self._other


class _Timer(_Place):
    """A wait that never ends, or a deadline that never comes."""

    def __init__(self, node: ast.AST, holder: list[ast.expr] | None, value: object) -> None:
        super().__init__(TIMER, node, ast.unparse(node))
        self._node = node
        self._holder = holder
        self._value = value

    def apply(self) -> None:
        if self._holder is not None:
            self._holder[0] = ast.Constant(self._value)
        elif isinstance(self._node, (ast.Return, ast.Assign)):
            self._node.value = ast.Constant(self._value)


def _places(tree: ast.Module) -> Iterator[_Place]:
    states = _states(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], _LEAVES):
            yield _Guard(node)
        yield from _state_places(node, states)
        yield from _timer_places(node)


@cache
def _states_of(source: Path) -> dict[str, list[str]]:
    return _states(ast.parse(source.read_text()))


def _states(tree: ast.Module) -> dict[str, list[str]]:
    """Members of the enumerations that a module defines or imports, by every name it has for them."""
    found: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
            found[node.name] = [
                each.targets[0].id
                for each in node.body
                if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
            ]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("peerd."):
            source = ROOT / f"{(node.module or '').replace('.', '/')}.py"
            if source.exists():
                known = _states_of(source)
                found |= {each.name: known[each.name] for each in node.names if each.name in known}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            names, values = node.targets[0].elts, node.value
            if isinstance(values, ast.Tuple):
                for name, value in zip(names, values.elts, strict=False):
                    if isinstance(name, ast.Name) and isinstance(value, ast.Name) and value.id in found:
                        found[name.id] = found[value.id]
    return found


def _state_places(node: ast.AST, states: dict[str, list[str]]) -> Iterator[_Place]:
    values: list[ast.expr] = []
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
        values = [value for value in node.value.values if value is not None]
    elif isinstance(node, (ast.Assign, ast.Return)) and node.value is not None:
        values = [node.value]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in _TAKES_STATES:
        values = list(node.args)
    for value in values:
        for each in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
            if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
                members = states.get(each.value.id, [])
                if each.attr in members and len(members) > 1:
                    yield _State(each, members[(members.index(each.attr) + 1) % len(members)])


def _timer_places(node: ast.AST) -> Iterator[_Place]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        zero = isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        if node.func.attr in {"call_later", "call_at", "sleep"} and not zero:
            yield _Timer(node, node.args, _NEVER)
        elif node.func.attr == "timeout":
            yield _Timer(node, node.args, None)
    elif isinstance(node, ast.FunctionDef) and node.name in _TELLS_WHEN:
        for each in ast.walk(node):
            if isinstance(each, ast.Return):
                yield _Timer(each, None, _NEVER if node.name == "wait" else None)
    elif isinstance(node, ast.Assign) and ast.unparse(node).startswith("self.wake_at = until"):
        yield _Timer(node, None, None)
