"""`--proxy-protocol`: the client that a proxy names is the client, over TLS and in the clear."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from alphorn import Config, Server
from support.certificates import Pair, authority
from support.clock import ManualClock
from support.steered_app import SteeredApp
from support.waiting import turns, within

HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: 6.6.6.6\r\n\r\n"

Listen = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture
def listen(app: SteeredApp) -> Listen:
    @asynccontextmanager
    async def listen(clock: ManualClock | None = None, **settings: object) -> AsyncIterator[int]:
        config = Config(port=0, proxy_protocol=True, graceful_timeout=1.0, **settings)  # type: ignore[arg-type]
        async with Server(app, config, clock=clock) as server:
            yield int(server.urls[0].rpartition(":")[2])
            app.finish_all()

    return listen


async def says_nothing(reader: asyncio.StreamReader) -> bool:
    async with within("the server to close"):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


@pytest.mark.parametrize("cut", [len(HEADER), 1, 20, len(HEADER) - 1])
async def test_the_client_that_a_proxy_names_is_the_client(app: SteeredApp, listen: Listen, cut: int) -> None:
    async with listen(trusted_proxies=("127.0.0.1",)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADER[:cut])
        await writer.drain()
        writer.write(HEADER[cut:] + REQUEST)
        scope = (await app.next_call()).scope
        assert scope["client"] == ("192.0.2.1", 56324)
        assert scope["server"] == ("198.51.100.2", 443)
        writer.close()


async def test_tls_begins_behind_the_header(app: SteeredApp, listen: Listen, certificate: Pair) -> None:
    files = {"certfile": (certificate.certfile,), "keyfile": (certificate.keyfile,)}
    async with listen(trusted_proxies=("127.0.0.1",), **files) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADER)
        tls: ssl.SSLContext = authority().client_context()
        await writer.start_tls(tls, server_hostname="localhost")
        writer.write(REQUEST)
        scope = (await app.next_call()).scope
        assert scope["client"] == ("192.0.2.1", 56324)
        assert scope["scheme"] == "https"
        writer.close()


async def test_a_proxy_that_speaks_for_itself_is_the_client(app: SteeredApp, listen: Listen) -> None:
    async with listen(trusted_proxies=("127.0.0.1",)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PROXY UNKNOWN\r\n" + REQUEST.replace(b"x-forwarded-for", b"x-other"))
        assert (await app.next_call()).scope["client"][0] == "127.0.0.1"
        writer.close()


@pytest.mark.parametrize("beginning", [REQUEST, b"PROXY nonsense\r\n" + REQUEST, b"\x16\x03\x01"])
async def test_without_a_header_a_connection_is_closed(listen: Listen, beginning: bytes) -> None:
    async with listen(trusted_proxies=("127.0.0.1",)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(beginning)
        assert await says_nothing(reader)
        writer.close()


async def test_nobody_else_may_introduce_a_client(listen: Listen) -> None:
    async with listen(trusted_proxies=("10.0.0.0/8",)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADER + REQUEST)
        assert await says_nothing(reader)
        writer.close()


async def test_a_proxy_that_hangs_up_or_says_nothing_leaves_nothing(listen: Listen) -> None:
    clock = ManualClock()
    async with listen(clock, trusted_proxies=("127.0.0.1",)) as port:
        _, leaver = await asyncio.open_connection("127.0.0.1", port)
        leaver.write(HEADER[:10])
        leaver.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADER[:10])
        await writer.drain()
        async with within("the silent proxy to be dropped"):
            while not (reader.at_eof() or reader.exception()):
                clock.advance(Config().handshake_timeout + 1)
                await turns(1)
        writer.close()
