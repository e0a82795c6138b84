"""A plugin of pytest that leaves out what needs packages that are not installed: ROS, torch ...

A test file is collected when all is there that it, its helpers and the modules of the package
import when they load. A test that then asks for more is skipped.
"""

import ast
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.paths import ROOT

PACKAGE = ROOT / "seg_perception"
LEFT_OUT: Counter[str] = Counter()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a test file that would not load, and count what it lacks."""
    if collection_path.suffix != ".py":
        return None
    lacking = missing(collection_path)
    LEFT_OUT.update(lacking)
    LEFT_OUT["files"] += bool(lacking)
    return True if lacking else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skip a test that imports a package which is not installed."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many files were left out, and for what."""
    files = LEFT_OUT.pop("files")
    reasons = ", ".join(f"{count} {name}" for name, count in LEFT_OUT.most_common())
    terminalreporter.write_line(f"{files} test files were left out; they need: {reasons}")


def missing(file: Path) -> set[str]:
    """Return the packages that a file needs to load and that are not here."""
    waiting = list(imports(file))
    seen: set[str] = set()
    lacking: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        inner, top = source(name), name.partition(".")[0]
        if inner is not None:
            waiting += imports(inner)
        elif top != "seg_perception" and find_spec(top) is None:
            lacking.add(top)
    return lacking


def source(name: str) -> Path | None:
    """Return the file of a module of the package, or of a helper in a folder of pytest's path."""
    top, *parts = name.split(".")
    if top == "seg_perception":
        stem = PACKAGE.joinpath(*parts)
        places = [stem.with_suffix(".py"), stem / "__init__.py"]
    else:
        spec = find_spec(top)
        places = [Path(spec.origin)] if spec and spec.origin else []
    return next((p for p in places if p.is_file() and ROOT in p.parents), None)


@cache
def imports(file: Path) -> tuple[str, ...]:
    """Return every module that a file imports when it loads; of `from a import b` a and a.b."""
    return tuple(_imports(ast.parse(file.read_text("utf-8"))))


def _imports(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
