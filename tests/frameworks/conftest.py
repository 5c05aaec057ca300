"""Servers of framework applications, and a client that visits them with either version of HTTP.

A test module names its application in `APP`; it is started once, over TLS, in a process of its own.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from support.certificates import Pair, authority
from support.process import ServerProcess

APPS = Path(__file__).parent / "apps"


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, certificate: Pair, cafile: str) -> Iterator[ServerProcess]:
    """The server of this module's application."""
    app: str = request.module.APP
    with ServerProcess(app, folder=APPS, certificate=certificate, cafile=cafile) as running:
        yield running


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
async def visitor(request: pytest.FixtureRequest, server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that server, once with each version of HTTP."""
    client = httpx.AsyncClient(
        base_url=server.url,
        http1=request.param == "HTTP/1.1",
        http2=request.param == "HTTP/2",
        verify=authority().client_context(),
        trust_env=False,
        timeout=20,
    )
    async with client:
        yield client
