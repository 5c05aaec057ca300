"""Workers that are replaced under load over TLS, with HTTP/2 besides: everybody is told, and nothing is lost."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.certificates import Pair, authority
from support.http2_load import Http2Load
from support.http_client import open_wire
from support.load import APP, SOCKETS, Requests, Talkers, told
from support.process import ServerProcess

pytestmark = pytest.mark.skipif("sys.platform == 'win32'", reason="sockets cannot be handed on there")


@pytest.fixture
def certificate(tmp_path: Path) -> Pair:
    pair = Pair(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    renew(pair, "old.test")
    return pair


def renew(pair: Pair, name: str) -> None:
    new = authority().issue(Path(pair.certfile).parent, (name, "127.0.0.1"))
    Path(new.certfile).replace(pair.certfile)
    Path(new.keyfile).replace(pair.keyfile)


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path, certificate: Pair) -> Iterator[ServerProcess]:
    """Two workers; a test may give more options."""
    options = ("--workers", "2", *getattr(request, "param", ()))
    (tmp_path / "shop.py").write_text(APP)
    with ServerProcess("shop:app", *options, folder=tmp_path, certificate=certificate, quiet=True) as server:
        server.wait_for("worker 1 (pid")
        server.wait_for("worker 2 (pid")
        yield server


def workers_of(server: ServerProcess) -> set[str]:
    """Return the processes of the first two workers."""
    lines = [server.wait_for(f"worker {number} (pid") for number in (1, 2)]
    return {line.partition("(pid ")[2].partition(")")[0] for line in lines}


class Load(NamedTuple):
    talkers: Talkers
    http2: Http2Load


@contextlib.asynccontextmanager
async def load(needs_tool: Callable[[str], str], url: str) -> AsyncIterator[Load]:
    """Talk over WebSockets, HTTP/1.1 and HTTP/2 before, during and after a block of code; lose no request."""
    async with (
        Talkers(url, authority().client_context()) as talkers,
        Http2Load(url, authority().client_context()) as http2,
    ):
        with Requests(needs_tool("h2load"), url) as requests:
            await talkers.everybody_is_heard_again()
            await http2.more_is_answered()
            yield Load(talkers, http2)
            await talkers.everybody_is_heard_again()
            await http2.more_is_answered()
            await talkers.until(lambda: requests.succeeded)
    assert requests.failures == []
    assert not http2.lost


async def test_a_rolling_restart_loses_no_request_and_no_message(
    needs_tool: Callable[[str], str], server: ServerProcess
) -> None:
    old = workers_of(server)
    async with load(needs_tool, server.url) as (talkers, http2):
        server.send_signal(signal.SIGHUP)
        await told(server, "2 workers were replaced")
        await http2.everybody_has_moved()
    assert http2.answered.keys() - old
    assert set(talkers.closings) == {1012}


@pytest.mark.parametrize("server", [("--max-requests", "2000")], indirect=True)
async def test_recycling_among_workers_that_come_and_go_loses_no_request_and_no_message(
    needs_tool: Callable[[str], str], server: ServerProcess
) -> None:
    async with load(needs_tool, server.url) as (talkers, _):
        for number in (signal.SIGTTIN, signal.SIGHUP, signal.SIGTTOU):
            server.send_signal(number)
            await talkers.everybody_is_heard_again()
        for nth in range(1, 4):
            await told(server, "(--max-requests): replacing it", nth)
    assert set(talkers.closings) == {1012}


async def test_a_binary_upgrade_loses_no_request_and_no_message(
    needs_tool: Callable[[str], str], server: ServerProcess
) -> None:
    old = workers_of(server)
    successor = 0
    try:
        async with load(needs_tool, server.url) as (talkers, http2):
            server.send_signal(signal.SIGUSR2)
            line = await told(server, "has taken over: shutting down")
            successor = int(line.split()[4])
            await http2.everybody_has_moved()
    finally:
        if successor:
            os.kill(successor, signal.SIGTERM)
    assert http2.answered.keys() - old
    assert set(talkers.closings) == {1012}
    assert await asyncio.to_thread(server.wait) == 0


async def test_a_renewed_certificate_is_used_by_every_worker_and_disturbs_nobody(
    needs_tool: Callable[[str], str], server: ServerProcess, certificate: Pair
) -> None:
    async with load(needs_tool, server.url) as (talkers, http2):
        renew(certificate, "new.test")
        await told(server, "worker 1: new certificates are in use: new.test")
        await told(server, "worker 2: new certificates are in use: new.test")
        wire = await open_wire(server.url, "h2", tls=authority().client_context())
        assert wire.tls is not None
        certified = wire.tls.getpeercert()
        wire.close()
    assert certified is not None
    assert ("DNS", "new.test") in certified["subjectAltName"]
    assert not talkers.closings
    assert http2.connected == http2.connections  # so those that were there have gone on


def test_sighup_takes_up_certificates_at_once_even_where_the_restart_is_given_up(
    server: ServerProcess, tmp_path: Path, certificate: Pair
) -> None:
    (tmp_path / "shop.py").write_text("import shopp\n")
    renew(certificate, "new.test")
    server.send_signal(signal.SIGHUP)
    server.wait_for("the rolling restart is given up")
    for number in (1, 2):
        assert f"worker {number}: new certificates are in use: new.test" in server.log


async def test_of_a_worker_that_is_killed_only_its_own_connections_are_lost(server: ServerProcess) -> None:
    async with (
        Talkers(server.url, authority().client_context()) as talkers,
        Http2Load(server.url, authority().client_context()) as http2,
    ):
        await talkers.everybody_is_heard_again()
        await http2.more_is_answered()
        killed = http2.answered.most_common(1)[0][0]
        os.kill(int(killed), signal.SIGKILL)
        await told(server, "was ended by SIGKILL")
        await talkers.everybody_is_heard_again()
        await http2.more_is_answered()
    assert set(talkers.closings) == {1006}
    assert talkers.closings[1006] < SOCKETS
    cut = http2.connected - http2.connections
    assert set(http2.lost) == {f"the connection ended, that of {killed}"}
    assert http2.lost.total() <= cut * http2.streams
    assert not http2.again  # for nobody else was told to go
