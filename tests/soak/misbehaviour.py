"""What clients do wrong, each kind a coroutine: they break off in every phase, stall, talk nonsense, fail at TLS.

An action opens connections of its own, chooses what is left to chance by the generator that it is
given, and leaves nothing of its own behind. What the server makes of it is not looked at here.
"""

import asyncio
import contextlib
import random
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import h2.exceptions
import h11
import wsproto.utilities
from h2.settings import SettingCodes

from support.certificates import authority
from support.exchange import Client
from support.frames import (
    PREFACE,
    Continuation,
    Data,
    Frame,
    FramePeer,
    Goaway,
    Headers,
    HeadersPart,
    Ping,
    RstStream,
    Settings,
    WindowUpdate,
)
from support.http1_client import Http1Client
from support.http2_client import Http2Client
from support.http_client import ALPN, authority_of
from support.websocket_client import Offer, WebSocketClient, frame, open_websocket
from support.wire import Wire

STALL_SECONDS: Final = 4.0
"""How long those stall who stall: longer than the deadlines of the server under test."""

EXPECTED: Final = (
    OSError,
    AssertionError,  # of the clients here: they waited in vain, or the server refused
    h11.ProtocolError,
    h2.exceptions.H2Error,
    wsproto.utilities.ProtocolError,
)
"""What may come of an action; anything else is a mistake in this file."""


@dataclass(frozen=True)
class Target:
    """A server, and by what chance it is attacked.

    Attributes:
        url: Where it listens; over https it speaks TLS.
        chance: What is left to chance comes from here.
    """

    url: str
    chance: random.Random

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.url.startswith("https:")

    @contextlib.asynccontextmanager
    async def wire(self, version: str = "1.1", receive_buffer: int | None = None) -> AsyncIterator[Wire]:
        """Connect for a version of HTTP; leave in one of the ways there are."""
        tls = TRUSTING[version] if self.secure else None
        wire = await Wire.open(self.url, tls=tls, receive_buffer=receive_buffer)
        try:
            yield wire
        finally:
            if self.chance.random() < 0.5:
                wire.reset()
            else:
                wire.close()

    @contextlib.asynccontextmanager
    async def http1(self, receive_buffer: int | None = None) -> AsyncIterator[Http1Client]:
        """Connect with HTTP/1.1."""
        async with self.wire(receive_buffer=receive_buffer) as wire:
            yield Http1Client(wire, authority_of(self.url))

    @contextlib.asynccontextmanager
    async def http2(self, window: int = 65535) -> AsyncIterator[Http2Client]:
        """Connect with HTTP/2 and a window for each stream."""
        async with self.wire("2") as wire:
            client = Http2Client(wire, authority_of(self.url))
            await client.start({SettingCodes.INITIAL_WINDOW_SIZE: window})
            yield client

    @contextlib.asynccontextmanager
    async def frames(self) -> AsyncIterator[FramePeer]:
        """Connect with HTTP/2, frame by frame."""
        async with self.wire("2") as wire:
            peer = FramePeer(wire)
            await peer.start()
            yield peer

    @contextlib.asynccontextmanager
    async def either(self) -> AsyncIterator[Client]:
        """Connect with one of the two."""
        async with self.http1() if self.chance.random() < 0.5 else self.http2() as client:
            yield client

    @contextlib.asynccontextmanager
    async def websocket(self, *, deflate: bool = False) -> AsyncIterator[WebSocketClient]:
        """Open a WebSocket, over one of the two."""
        async with self.either() as client:
            yield await open_websocket(client, "/talk", Offer(deflate=deflate))

    def some_bytes(self, at_most: int) -> bytes:
        """Return bytes without any meaning."""
        return self.chance.randbytes(self.chance.randint(1, at_most))

    def request_head(self) -> list[tuple[bytes, bytes]]:
        """Return the head of a request in HTTP/2."""
        path = self.chance.choice([b"/hello", b"/big?pieces=100", b"/wait", b"/fail"])
        scheme = b"https" if self.secure else b"http"
        pseudo = {
            b":method": b"GET",
            b":scheme": scheme,
            b":authority": authority_of(self.url),
            b":path": path,
        }
        return list(pseudo.items())


TRUSTING: Final = {version: authority().client_context(protocol) for version, protocol in ALPN.items()}
SOMEBODY_ELSES: Final = ssl.create_default_context()

Action: TypeAlias = Callable[[Target], Awaitable[None]]


# ------------------------------------------------------------------ HTTP/1.1

HEAD: Final = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n"


async def leave_within_a_head(target: Target) -> None:
    async with target.wire() as wire:
        await wire.write(HEAD[: target.chance.randrange(1, len(HEAD))])


async def stall_within_a_head(target: Target) -> None:
    async with target.wire() as wire:
        await wire.write(HEAD[: target.chance.randrange(1, len(HEAD))])
        await hear_out(wire)


async def drip_a_head(target: Target) -> None:
    async with target.wire() as wire:
        for byte in HEAD[:50]:
            await wire.write(bytes([byte]))
            await asyncio.sleep(0.05)


async def leave_within_the_content(target: Target) -> None:
    async with target.wire() as wire:
        await wire.write(HEAD + bytes(target.chance.randrange(99_999)))
        if target.chance.random() < 0.5:
            await hear_out(wire)


async def stall_within_the_content(target: Target) -> None:
    async with target.wire() as wire:
        await wire.write(HEAD + bytes(100))
        await hear_out(wire)


async def break_the_chunks(target: Target) -> None:
    async with target.wire() as wire:
        await wire.write(
            b"POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
        )
        await wire.write(target.some_bytes(100))
        await hear_out(wire)


async def pipeline_and_leave(target: Target) -> None:
    async with target.wire() as wire:
        request = b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n"
        paths = [b"/hello", b"/big?pieces=20", b"/wait", b"/fail"]
        await wire.write(b"".join(request % target.chance.choice(paths) for _ in range(20)))
        if target.chance.random() < 0.5:
            await hear_out(wire)


async def talk_nonsense(target: Target) -> None:
    async with target.wire() as wire:
        await wire.write(target.some_bytes(5000))
        await hear_out(wire)


async def half_close(target: Target) -> None:
    async with target.wire() as wire:
        await wire.write(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await wire.write_eof()
        await hear_out(wire)


# ------------------------------------------------------------------ either version of HTTP


async def leave_within_a_response(target: Target) -> None:
    async with target.either() as client:
        exchange = await client.request("GET", "/big?pieces=200")
        await exchange.read_chunk()
        if target.chance.random() < 0.3:
            await exchange.abandon()


async def read_nothing(target: Target) -> None:
    connect = target.http1(16 * 1024) if target.chance.random() < 0.5 else target.http2(window=0)
    async with connect as client:
        await client.request("GET", "/big?pieces=2000")
        await asyncio.sleep(STALL_SECONDS)


async def read_slowly(target: Target) -> None:
    connect = target.http1(16 * 1024) if target.chance.random() < 0.5 else target.http2(window=5000)
    async with connect as client:
        exchange = await client.request("GET", "/big?pieces=200")
        for _ in range(40):
            await exchange.read_exactly(5000)
            await asyncio.sleep(0.05)


async def let_it_wait_and_leave(target: Target) -> None:
    async with target.either() as client:
        exchange = await client.request("GET", "/wait")
        await asyncio.sleep(target.chance.random() / 10)
        if target.chance.random() < 0.5:
            await exchange.abandon()


async def have_it_fail(target: Target) -> None:
    async with target.either() as client:
        exchange = await client.request("POST", "/fail", content=bytes(1000))
        await exchange.response()


async def idle(target: Target) -> None:
    async with target.either() as client:
        await (await client.request("GET", "/hello")).response()
        await hear_out(client.wire)


# ------------------------------------------------------------------ HTTP/2


async def send_a_preface_and_nonsense(target: Target) -> None:
    async with target.wire("2") as wire:
        await wire.write(PREFACE[: target.chance.randrange(len(PREFACE) + 1)] + target.some_bytes(1000))
        await hear_out(wire)


async def reset_rapidly(target: Target) -> None:
    async with target.frames() as peer:
        for number in range(1, 2 * target.chance.randrange(1, 400), 2):
            await peer.sends(Headers(number, target.request_head(), end_stream=True), RstStream(number, 8))


async def open_many_and_leave(target: Target) -> None:
    async with target.frames() as peer:
        heads = [Headers(number, target.request_head(), end_stream=True) for number in range(1, 300, 2)]
        await peer.sends(*heads)
        if target.chance.random() < 0.5:
            await hear_out(peer.wire)


async def flood_with_control_frames(target: Target) -> None:
    async with target.frames() as peer:
        kinds: list[Frame] = [Ping(bytes(8)), Settings({}), WindowUpdate(0, 1)]
        await peer.sends(*[target.chance.choice(kinds)] * 2000)
        await hear_out(peer.wire)


async def leave_within_a_field_block(target: Target) -> None:
    async with target.frames() as peer:
        block = peer.encoder.encode(target.request_head())
        await peer.sends(HeadersPart(1, block[:3], end_stream=True))
        if target.chance.random() < 0.5:
            await peer.sends(*[Continuation(1, b"", end_headers=False)] * 50)
        await hear_out(peer.wire)


async def leave_within_an_upload(target: Target) -> None:
    async with target.http2() as client:
        exchange = await client.request("POST", "/echo", content=bytes(30_000), end=False)
        if target.chance.random() < 0.5:
            await exchange.read_chunk()
            await exchange.abandon()


async def upload_to_nobody(target: Target) -> None:
    async with target.http2() as client:
        exchange = await client.request("POST", "/hello", content=bytes(60_000), end=False)
        await exchange.response()


async def break_the_rules_of_a_stream(target: Target) -> None:
    async with target.frames() as peer:
        await peer.sends(Headers(1, target.request_head(), end_stream=True))
        wrong: list[Frame] = [
            Data(1, b"behind the end"),
            Data(3, b"before the beginning"),
            WindowUpdate(1, 0),
            WindowUpdate(0, 2**31 - 1),
            Headers(2, target.request_head()),
            Headers(5, [(b":method", b"GET"), (b"Bad", b"\0")], end_stream=True),
        ]
        await peer.sends(target.chance.choice(wrong))
        await hear_out(peer.wire)


async def say_goaway(target: Target) -> None:
    async with target.frames() as peer:
        await peer.sends(
            Headers(1, target.request_head(), end_stream=True), Goaway(0, 2, target.some_bytes(100))
        )
        await hear_out(peer.wire)


# ------------------------------------------------------------------ WebSocket


async def talk_and_close(target: Target) -> None:
    async with target.websocket(deflate=target.chance.random() < 0.5) as websocket:
        for size in range(0, 50_000, 10_000):
            await websocket.send(bytes(size))
            await websocket.receive()
        await websocket.close()


async def leave_within_a_message(target: Target) -> None:
    async with target.websocket() as websocket:
        data = frame(2, bytes(50_000))
        await websocket.send_raw(data[: target.chance.randrange(1, len(data))])
        if target.chance.random() < 0.5:
            await websocket.hang_up()


async def never_answer_a_close(target: Target) -> None:
    async with target.websocket() as websocket:
        websocket.answers_close = False
        await websocket.send("close")
        await websocket.receive()
        await asyncio.sleep(STALL_SECONDS)


async def never_answer_a_ping(target: Target) -> None:
    async with target.websocket() as websocket:
        websocket.answers_pings = False
        await hear_out(websocket.exchange._client.wire, 2 * STALL_SECONDS)


async def read_no_messages(target: Target) -> None:
    async with target.http1(16 * 1024) as client:
        websocket = await open_websocket(client, "/talk")
        await websocket.send("2000")
        await asyncio.sleep(STALL_SECONDS)


async def flood_a_websocket(target: Target) -> None:
    async with target.websocket() as websocket:
        kinds = [frame(9), frame(10), frame(2, fin=False) + frame(0, fin=False) * 2, frame(2)]
        await websocket.send_raw(target.chance.choice(kinds) * 2000)
        await websocket.receive()


BOMB: Final = zlib.compress(bytes(4 * 1024 * 1024), 9, -15)
"""It ends with a final block, which ends no message (RFC 7692, 7.2.3.4)."""


async def inflate(target: Target) -> None:
    async with target.websocket(deflate=True) as websocket:
        await websocket.send_frame(2, BOMB, rsv=4)
        await websocket.receive()


async def break_the_rules_of_frames(target: Target) -> None:
    async with target.websocket() as websocket:
        wrong = [frame(3), frame(1, b"\xff"), frame(1, masked=False), frame(2, bytes(1 << 17))[:14]]
        await websocket.send_raw(target.chance.choice([*wrong, target.some_bytes(500)]))
        await websocket.receive()


# ------------------------------------------------------------------ TLS


async def shake_no_hands(target: Target) -> None:
    async with without_tls(target) as wire:
        await hear_out(wire)


async def greet_with_nonsense(target: Target) -> None:
    async with without_tls(target) as wire:
        await wire.write(b"\x16\x03\x01" * target.chance.randrange(2) + target.some_bytes(1000))
        await hear_out(wire)


async def leave_within_the_handshake(target: Target) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        TRUSTING["2"].wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    async with without_tls(target) as wire:
        await wire.write(hello[: target.chance.randrange(1, len(hello) + 1)])
        if target.chance.random() < 0.5:
            await hear_out(wire)


async def distrust_the_certificate(target: Target) -> None:
    await Wire.open(target.url, tls=SOMEBODY_ELSES)


async def speak_something_else(target: Target) -> None:
    await Wire.open(target.url, tls=authority().client_context("spdy/3"))


async def leave_after_the_handshake(target: Target) -> None:
    async with target.wire(target.chance.choice(list(ALPN))):
        pass


@contextlib.asynccontextmanager
async def without_tls(target: Target) -> AsyncIterator[Wire]:
    """Connect in the clear to whom one should not."""
    wire = await Wire.open(target.url)
    try:
        yield wire
    finally:
        wire.reset()


async def hear_out(wire: Wire, seconds: float = STALL_SECONDS) -> None:
    """Do nothing more, until the server or this client has had enough."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await wire.read():
                pass


ANYWHERE: Final[tuple[Action, ...]] = (
    leave_within_a_head,
    stall_within_a_head,
    drip_a_head,
    leave_within_the_content,
    stall_within_the_content,
    break_the_chunks,
    pipeline_and_leave,
    talk_nonsense,
    half_close,
    leave_within_a_response,
    read_nothing,
    read_slowly,
    let_it_wait_and_leave,
    have_it_fail,
    idle,
    send_a_preface_and_nonsense,
    reset_rapidly,
    open_many_and_leave,
    flood_with_control_frames,
    leave_within_a_field_block,
    leave_within_an_upload,
    upload_to_nobody,
    break_the_rules_of_a_stream,
    say_goaway,
    talk_and_close,
    leave_within_a_message,
    never_answer_a_close,
    never_answer_a_ping,
    read_no_messages,
    flood_a_websocket,
    inflate,
    break_the_rules_of_frames,
)
OVER_TLS: Final[tuple[Action, ...]] = (
    shake_no_hands,
    greet_with_nonsense,
    leave_within_the_handshake,
    distrust_the_certificate,
    speak_something_else,
    leave_after_the_handshake,
)
