"""Who may import whom: the rooms of docs/architecture.md, held against every import in the source.

import-linter checks the same in `make imports`; this needs no tool, says the file and the line, and
looks at imports inside functions too.
"""

import ast
import importlib.resources
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import alphorn

ROOT = Path(__file__).parents[2]
PACKAGE = "alphorn"
ROOMS = ("core", "protocols", "tls")

ALLOWED = {
    "core": {"core"},
    "protocols": {"core", "protocols"},
    "tls": {"core", "tls"},
    "admin": {"core", "prometheus", "protocols", "tls"},
    "log_config": {"core"},
    "prometheus": {"__init__", "core"},
    "server": {"admin", "core", "protocols", "tls"},
    "testing": {"server", "tls"},
    "gunicorn": {"core", "server"},
    "pytest_plugin": {"testing"},
    "demo": {"__init__", "core", "demo_chat"},
    "demo_chat": {"core"},
    "supervised": {"core", "log_config", "server"},
    "upgrade": {"core"},
    "worker_process": {"core"},
    "workers": {"admin", "core", "log_config", "reload", "server", "tls", "upgrade", "worker_process"},
    "reload": {"core", "worker_process"},
    "ctl": {"core"},
    "__main__": {"__init__", "core", "ctl", "workers"},
    "__init__": {"core", "server", "workers"},
    "setup": set(),
}
"""What of the package each room, or module of the root, may import."""

LIBRARIES = {
    "core": set(),
    "protocols": {"h11", "h2", "hpack", "hyperframe", "websockets", "wsproto"},
    "tls": {"cryptography"},
    "admin": set(),
    "log_config": {"yaml"},
    "prometheus": {"prometheus_client"},
    "server": {"uvloop"},
    "testing": set(),
    "gunicorn": {"gunicorn"},
    "pytest_plugin": {"pytest"},
    "demo": set(),
    "demo_chat": set(),
    "supervised": set(),
    "upgrade": set(),
    "worker_process": set(),
    "workers": set(),
    "ctl": {"click"},
    "reload": {"watchfiles"},
    "__main__": {"click"},
    "__init__": set(),
    "setup": {"mypyc", "setuptools"},
}
"""What each may import from elsewhere than the standard library."""


def sources() -> Iterator[tuple[str, Path]]:
    """Yield every module with the room it is in."""
    for file in ROOT.glob("*.py"):
        yield file.stem, file
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            yield room, file


SOURCES = sorted(sources())


def imports(room: str, file: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield line, imported room or library, and whether it is our own, for every import in a file."""
    inside = room in ROOMS
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name.partition(".")[0], False
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, (node.module or "").partition(".")[0], False
        elif isinstance(node, ast.ImportFrom):
            if inside and node.level == 1:
                yield node.lineno, room, True
            elif node.module:
                yield node.lineno, node.module.partition(".")[0], True
            else:
                for name in node.names:
                    known = (ROOT / f"{name.name}.py").exists() or name.name in ROOMS
                    yield node.lineno, name.name if known else "__init__", True


@pytest.mark.parametrize(("room", "file"), SOURCES, ids=lambda part: getattr(part, "name", part))
def test_a_module_imports_only_what_its_room_may(room: str, file: Path) -> None:
    for line, imported, own in imports(room, file):
        where = f"{file.relative_to(ROOT)}:{line}"
        if own:
            assert imported in ALLOWED[room], f"{where}: {room} may not import {imported}"
        elif imported not in sys.stdlib_module_names:
            assert imported != PACKAGE, f"{where}: imports inside the package are relative"
            known = LIBRARIES[room] | {"_typeshed"}  # types only
            assert imported in known, f"{where}: {room} may not import {imported}"


@pytest.mark.parametrize(("room", "file"), SOURCES, ids=lambda part: getattr(part, "name", part))
def test_ssl_is_for_tls_and_who_composes_alone(room: str, file: Path) -> None:
    if room in ("tls", "server", "testing", "gunicorn"):
        return
    for line, imported, _ in imports(room, file):
        assert imported != "ssl", f"{file.relative_to(ROOT)}:{line}"


def test_the_package_says_that_it_is_typed() -> None:
    assert importlib.resources.files(alphorn).joinpath("py.typed").is_file()
