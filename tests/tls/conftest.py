"""Every test of this folder that is a coroutine runs on both event loops."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from support.certificates import Pair, authority


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001 - pytest passes both by name
    item: pytest.Item,  # noqa: ARG001
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
    if sys.platform != "win32" and sys.implementation.name == "cpython":
        import uvloop

        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate for the local names, signed by `authority()`."""
    folder: Path = tmp_path_factory.mktemp("pair")
    return authority().issue(folder)
