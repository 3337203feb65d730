"""`python -m bench` lists the benchmarks; with a NAME it runs that one, exit code 1 where it misses a bar."""

import ast
import importlib
import sys
from pathlib import Path

_HELPERS = {"__init__", "__main__", "figures"}


def names() -> dict[str, str]:
    """Every benchmark and the first line of its docstring, without importing any."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem in _HELPERS or path.stem.startswith("_"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def run(arguments: list[str]) -> int:
    """List, or run the one that is named; the exit code."""
    benchmarks = names()
    if not arguments:
        width = max(map(len, benchmarks), default=0)
        for name, line in benchmarks.items():
            print(f"{name:<{width}}  {line}")
        return 0
    if len(arguments) != 1 or arguments[0] not in benchmarks:
        print(f"no benchmark {' '.join(arguments)!r}; there are: {', '.join(benchmarks)}", file=sys.stderr)
        return 2
    code = importlib.import_module(f"bench.{arguments[0]}").main()
    return int(code)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
