"""Generate `peerd/api` from the `.proto` files beside this script, or check that it is fresh.

Usage: python api/generate.py [--check] TARGET
"""

import filecmp
import sys
import tempfile
from importlib import resources
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE_DOC = '"""Generated from api/**/*.proto by `make proto`; never edited."""\n'


def generate(target: Path) -> None:
    """Write one `_pb2.py` and `_pb2.pyi` per `.proto` file below *target*.

    Raises:
        SystemExit: protoc refused a file; its own message is on standard error.
    """
    from grpc_tools import protoc

    protos = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    status = protoc.main(
        ["protoc", f"-I{HERE}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}", *protos]
    )
    if status:
        raise SystemExit(status)
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        if folder.name == "__pycache__":
            continue
        (folder / "__init__.py").write_text(PACKAGE_DOC)


def difference(fresh: Path, committed: Path) -> list[str]:
    """Names of files that differ, are missing or are left over."""
    wanted = {p.relative_to(fresh) for p in fresh.rglob("*.py*") if p.is_file()}
    present = {p.relative_to(committed) for p in committed.rglob("*.py*") if p.suffix in {".py", ".pyi"}}
    changed = {p for p in wanted & present if not filecmp.cmp(fresh / p, committed / p, shallow=False)}
    return sorted(str(p) for p in (wanted ^ present) | changed)


def main(arguments: list[str]) -> int:
    """Generate, or with `--check` report what is stale and return 1."""
    check = "--check" in arguments
    target = Path(arguments[-1])
    if not check:
        target.mkdir(exist_ok=True)
        generate(target)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = difference(Path(folder), target)
    if stale:
        print("generated code is stale, run `make proto`:", *stale, sep="\n  ")  # noqa: T201 (a command's answer)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
