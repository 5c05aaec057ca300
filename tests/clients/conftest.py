"""The servers that all clients of this folder visit: one application, in the clear and over TLS."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.certificates import Pair
from support.process import ServerProcess

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def clear() -> Iterator[ServerProcess]:
    """The application in the clear."""
    with ServerProcess("one_app:app", folder=HERE) as server:
        yield server


@pytest.fixture(scope="session")
def secure(certificate: Pair, cafile: str) -> Iterator[ServerProcess]:
    """The application over TLS; `secure.cafile` is whom to trust."""
    with ServerProcess("one_app:app", folder=HERE, certificate=certificate, cafile=cafile) as server:
        yield server


@pytest.fixture
def fresh_server(certificate: Pair, cafile: str) -> Iterator[Callable[[bool], ServerProcess]]:
    """Start a server for this test alone, TLS or not, so that its memory tells of this test alone."""
    started: list[ServerProcess] = []

    def start(with_tls: bool) -> ServerProcess:
        server = ServerProcess(
            "one_app:app",
            folder=HERE,
            certificate=certificate if with_tls else None,
            cafile=cafile if with_tls else None,
        )
        started.append(server)
        return server

    yield start
    for server in started:
        assert server.stop() == 0, server.log
