"""How many connections the acceptor lets in, of all and of each client; and that those who have gone are not counted."""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from alphorn import Config, Server
from alphorn.core.asgi import Receive, Scope, Send
from alphorn.core.limits import Occupancy
from support.certificates import Pair, authority
from support.clock import ManualClock
from support.steered_app import SteeredApp
from support.waiting import turns, until, within

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


@dataclass
class House:
    """A server and those who visit it.

    Attributes:
        server: It accepts, and answers with "hello" unless told otherwise.
        clock: Its time.
        occupancy: Who is counted there.
    """

    server: Server
    clock: ManualClock
    occupancy: Occupancy
    visitors: list[socket.socket] = field(default_factory=list)

    async def wait_for(self, count: int) -> None:
        await until(lambda: self.occupancy.total == count, f"{count} connections")

    async def stop(self) -> None:
        """Stop the server, however long it takes in its own time."""
        stopping = asyncio.ensure_future(self.server.stop())
        async with within("the server to stop"):
            while not stopping.done():
                self.clock.advance(1)
                await turns(1)
        await stopping

    async def visit(self, data: bytes = b"", *, source: str = "127.0.0.1", url: int = 0) -> socket.socket:
        """Connect and send."""
        where = self.server.urls[url]
        loop = asyncio.get_running_loop()
        visitor: socket.socket
        if where.startswith("unix:"):
            visitor = socket.socket(socket.AF_UNIX)
            visitor.setblocking(False)
            await loop.sock_connect(visitor, where.removeprefix("unix:"))
        else:
            visitor = socket.socket()
            visitor.setblocking(False)
            visitor.bind((source, 0))
            await loop.sock_connect(visitor, ("127.0.0.1", int(where.rpartition(":")[2])))
        self.visitors.append(visitor)
        await loop.sock_sendall(visitor, data)
        return visitor


async def hears(visitor: socket.socket) -> bytes:
    """Return what comes until the server closes."""
    heard = b""
    async with within("the server to close"):
        with contextlib.suppress(ConnectionError):
            while data := await asyncio.get_running_loop().sock_recv(visitor, 65536):
                heard += data
    return heard


async def hears_something(visitor: socket.socket) -> bytes:
    async with within("an answer"):
        return await asyncio.get_running_loop().sock_recv(visitor, 65536)


def is_left_waiting(visitor: socket.socket) -> bool:
    try:
        visitor.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


async def hello(scope: Scope, _: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})


@contextlib.asynccontextmanager
async def open_house(app: Any = hello, **settings: Any) -> AsyncIterator[House]:
    """Serve; when everybody has left, nobody may be counted."""
    clock = ManualClock()
    defaults: dict[str, Any] = {"bind": ("127.0.0.1:0",), "graceful_timeout": 0.0, "lifespan": "off"}
    async with Server(app, Config(**(defaults | settings)), clock=clock) as server:
        assert server._running is not None
        house = House(server, clock, server._running.limits.occupancy)
        try:
            yield house
            for visitor in house.visitors:
                visitor.close()
            await house.wait_for(0)
            assert not house.occupancy._by_client
        finally:
            for visitor in house.visitors:
                visitor.close()


def tls_settings(pair: Pair) -> dict[str, Any]:
    return {"certfile": (pair.certfile,), "keyfile": (pair.keyfile,)}


async def tls_client(house: House) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(house.server.urls[0].rpartition(":")[2])
    return await asyncio.open_connection("127.0.0.1", port, ssl=authority().client_context())


# --- max_connections


@pytest.mark.parametrize("kind", ["clear", "unix", "proxy", "tls"])
async def test_beyond_the_most_connections_the_next_is_served_as_soon_as_one_has_ended(
    kind: str, tmp_path: Path, certificate: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "clear": {},
        "unix": {"bind": (f"unix:{tmp_path}/s",)},
        "proxy": {"proxy_protocol": True, "trusted_proxies": ("127.0.0.1",)},
        "tls": tls_settings(certificate),
    }
    beginning = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n" if kind == "proxy" else b""
    async with open_house(max_connections=2, **kinds[kind]) as house:
        there = [await house.visit(beginning) for _ in range(2)]
        await house.wait_for(2)
        if kind == "tls":
            waiting = asyncio.ensure_future(tls_client(house))
            await until(lambda: bool(house.server.limits_hit), "somebody to wait")
            there[0].close()
            reader, writer = await waiting
            writer.write(LAST)
            assert (await reader.read()).endswith(b"hello")
            writer.close()
        else:
            assert not house.server.limits_hit, "there is place for all that came"
            third, fourth = await house.visit(beginning + LAST), await house.visit(beginning + LAST)
            await until(lambda: bool(house.server.limits_hit), "somebody to wait")
            assert is_left_waiting(third)
            there[0].close()
            assert (await hears(third)).endswith(b"hello")
            third.close()
            assert (await hears(fourth)).endswith(b"hello")
        assert house.occupancy.total <= 2
        assert house.server.limits_hit.keys() == {"max_connections"}
    lines = [line for line in caplog.messages if "--max-connections" in line]
    assert len(lines) == house.server.limits_hit.get("max_connections", len(lines))


async def test_nobody_who_waits_is_lost_when_many_come_at_once() -> None:
    async with open_house(max_connections=3) as house:
        visitors = [await house.visit(LAST) for _ in range(100)]

        async def one(visitor: socket.socket) -> bytes:
            heard = await hears(visitor)
            visitor.close()
            return heard

        for heard in await asyncio.gather(*map(one, visitors)):
            assert heard.endswith(b"hello")


async def test_to_be_full_is_one_hit_however_often_a_connection_finds_its_protocol(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_house(max_connections=3) as house:
        there = [await house.visit() for _ in range(3)]
        await house.wait_for(3)
        late = await house.visit(LAST)
        await until(lambda: bool(house.server.limits_hit), "somebody to wait")
        for visitor in there:  # leaves the arrivals, enters the connections
            await asyncio.get_running_loop().sock_sendall(visitor, GET)
            await hears_something(visitor)
        assert is_left_waiting(late)
        assert house.server.limits_hit == {"max_connections": 1}
        there[0].close()
        assert (await hears(late)).endswith(b"hello")
    assert len([line for line in caplog.messages if "--max-connections" in line]) == 1


async def test_redirects_share_the_count(certificate: Pair) -> None:
    settings = tls_settings(certificate) | {"redirect_bind": ("127.0.0.1:0",)}
    async with open_house(max_connections=2, **settings) as house:
        there = [await house.visit(url=0), await house.visit(url=1)]
        await house.wait_for(2)
        late = await house.visit(LAST, url=1)
        later = asyncio.ensure_future(tls_client(house))
        await until(lambda: house.server.limits_hit.get("max_connections") == 2, "both to wait")
        there[0].close()
        assert b" 308 " in await hears(late)
        late.close()
        _, writer = await later
        writer.close()
        await writer.wait_closed()


async def test_a_server_that_stops_while_it_is_full_stops() -> None:
    async with open_house(max_connections=1) as house:
        first = await house.visit(GET)
        await hears_something(first)
        second = await house.visit(GET)
        await until(lambda: bool(house.server.limits_hit), "somebody to wait")
        await house.stop()
        assert await hears(first) == await hears(second) == b""
        assert house.occupancy.total == 0


# --- max_connections_per_address


async def test_a_client_beyond_its_share_is_closed_and_others_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_house(max_connections_per_address=2) as house:
        there = [await house.visit(source="127.0.0.2") for _ in range(2)]
        await house.wait_for(2)
        assert await hears(await house.visit(GET, source="127.0.0.2")) == b""
        assert (await hears(await house.visit(LAST, source="127.0.0.3"))).endswith(b"hello")
        assert house.server.limits_hit == {"max_connections_per_address": 1}
        there[0].close()
        await house.wait_for(1)
        assert (await hears(await house.visit(LAST, source="127.0.0.2"))).endswith(b"hello")
    (line,) = [line for line in caplog.messages if "--max-connections-per-address" in line]
    assert line.startswith("127.0.0.2:")


async def test_behind_a_load_balancer_the_client_it_names_counts_and_it_does_not() -> None:
    header = b"PROXY TCP4 %b 198.51.100.2 56324 443\r\n"
    settings = {"proxy_protocol": True, "trusted_proxies": ("127.0.0.1",)}
    async with open_house(max_connections_per_address=1, **settings) as house:
        first = await house.visit(header % b"192.0.2.1" + GET)
        assert (await hears_something(first)).endswith(b"hello")
        assert await hears(await house.visit(header % b"192.0.2.1" + GET)) == b""
        assert (await hears(await house.visit(header % b"192.0.2.2" + LAST))).endswith(b"hello")
        both = [await house.visit(b"PROXY UNKNOWN\r\n" + GET) for _ in range(2)]
        for visitor in both:
            assert (await hears_something(visitor)).endswith(b"hello")


async def test_a_trusted_proxy_may_come_for_many() -> None:
    async with open_house(max_connections_per_address=1, trusted_proxies=("127.0.0.1",)) as house:
        for visitor in [await house.visit(GET) for _ in range(3)]:
            assert (await hears_something(visitor)).endswith(b"hello")
        assert not house.server.limits_hit


# --- Nobody who has gone is counted

Ending = Callable[[House, Pair], Awaitable[None]]


async def silent(house: House, _: Pair) -> None:
    await house.visit()
    await house.wait_for(1)


async def times_out(house: House, _: Pair) -> None:
    visitor = await house.visit()
    await house.wait_for(1)
    house.clock.advance(100)
    await hears(visitor)


async def resets(house: House, _: Pair) -> None:
    visitor = await house.visit(GET)
    await house.wait_for(1)
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    visitor.close()


async def talks_nonsense(house: House, _: Pair) -> None:
    await hears(await house.visit(b"\x00nonsense\r\n\r\n"))


async def is_served(house: House, _: Pair) -> None:
    await hears(await house.visit(LAST))


async def stays_idle_too_long(house: House, _: Pair) -> None:
    visitor = await house.visit(GET)
    await hears_something(visitor)
    house.clock.advance(1000)
    await hears(visitor)


async def speaks_http2(house: House, _: Pair) -> None:
    visitor = await house.visit(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    await hears_something(visitor)


async def fails_its_handshake(house: House, _: Pair) -> None:
    port = int(house.server.urls[0].rpartition(":")[2])
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())


async def stops_in_its_handshake(house: House, _: Pair) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority().client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    visitor = await house.visit(outgoing.read())
    assert (await hears_something(visitor))[:1] == b"\x16"
    house.clock.advance(100)
    await hears(visitor)
    assert house.server.limits_hit == {"handshake_timeout": 1}


async def breaks_off_its_hello(house: House, _: Pair) -> None:
    visitor = await house.visit(b"\x16\x03\x01")
    await house.wait_for(1)
    await until(lambda: all(a._begun for a in _arrivals(house)), "its bytes")
    house.clock.advance(100)
    await hears(visitor)
    assert house.server.limits_hit == {"handshake_timeout": 1}


async def is_served_over_tls(house: House, _: Pair) -> None:
    reader, writer = await tls_client(house)
    writer.write(LAST)
    assert (await reader.read()).endswith(b"hello")
    writer.close()


def _arrivals(house: House) -> list[Any]:
    assert house.server._running is not None
    return [
        arrival for acceptor in house.server._running._acceptors for arrival in acceptor._reception.arrivals
    ]


CLEAR = [silent, times_out, resets, talks_nonsense, is_served, stays_idle_too_long, speaks_http2]
SECURE = [
    *(silent, times_out, resets, talks_nonsense, is_served),  # in the clear, on a TLS port
    *(fails_its_handshake, stops_in_its_handshake, breaks_off_its_hello, is_served_over_tls),
]


@pytest.mark.parametrize("ending", CLEAR, ids=lambda each: each.__name__)
async def test_whoever_has_gone_is_not_counted(ending: Ending, certificate: Pair) -> None:
    async with open_house(max_connections_per_address=10) as house:
        await ending(house, certificate)


@pytest.mark.parametrize("ending", SECURE, ids=lambda each: each.__name__)
async def test_whoever_has_gone_is_not_counted_with_tls(ending: Ending, certificate: Pair) -> None:
    async with open_house(max_connections_per_address=10, **tls_settings(certificate)) as house:
        await ending(house, certificate)


async def test_after_a_shutdown_nobody_is_counted(certificate: Pair) -> None:
    app = SteeredApp()
    async with open_house(app) as house, open_house(app, **tls_settings(certificate)) as secure:
        for each in (house, secure):
            await each.visit()
            await each.visit(GET)
        await app.next_call()
        await secure.visit(b"\x16\x03\x01")
        await house.wait_for(2)
        await secure.wait_for(3)
        for each in (house, secure):
            await each.stop()
            assert each.occupancy.total == 0


# --- Who begins and does not come to an end


@pytest.mark.parametrize(
    ("first", "limit"),
    [(b"", None), (b"PRI * HT", "head_timeout"), (b"GET / HT", "head_timeout")],
    ids=["silent", "preface", "head"],
)
async def test_only_whoever_has_begun_is_counted_as_too_late(
    first: bytes, limit: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_house() as house:
        visitor = await house.visit(first)
        await house.wait_for(1)
        await until(lambda: not first or all(a._begun for a in _arrivals(house)), "its bytes")
        house.clock.advance(100)
        await hears(visitor)
        assert house.server.limits_hit == ({limit: 1} if limit else {})
    assert len([line for line in caplog.messages if "timeout" in line]) == bool(limit)


async def test_a_proxy_that_does_not_finish_its_header_is_counted() -> None:
    async with open_house(proxy_protocol=True, trusted_proxies=("127.0.0.1",)) as house:
        visitor = await house.visit(b"PROXY TCP4")
        await house.wait_for(1)
        await until(lambda: all(a._seen for a in _arrivals(house)), "its bytes")
        house.clock.advance(100)
        await hears(visitor)
        assert house.server.limits_hit == {"handshake_timeout": 1}


async def test_the_answer_to_a_refused_client_is_heard_out_up_to_a_bound(certificate: Pair) -> None:
    async with open_house(max_drain=1000, **tls_settings(certificate)) as house:
        visitor = await house.visit(GET)
        assert b"speaks HTTPS" in await hears(visitor)
        await asyncio.get_running_loop().sock_sendall(visitor, bytes(2000))
        (arrival,) = _arrivals(house)
        await until(lambda: arrival._dropped > 1000, "the bound")
        house.clock.advance(house.server.config.linger_timeout + 1)
        await house.wait_for(0)
        assert not house.server.limits_hit
