"""Attacks over WebSocket: on memory, on the application's attention, on patience."""

import itertools
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, Carrier
from support.frames import Data, Headers
from support.websocket_client import frame as websocket_frame

from .attack import Attack, Target, unique, wait_given_up
from .intruder import Http1Intruder, Http2WebSocketIntruder, WebSocketIntruder, forever, handshake

CONTINUE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MEBIBYTE: Final = 1024 * 1024


async def fragments(target: Target) -> str:
    """Send a message that never ends, a byte at a time."""
    begin, more = websocket_frame(TEXT, b"a", fin=False), websocket_frame(CONTINUE, b"a", fin=False)
    return await attack(target, itertools.chain([begin], forever(more, 2000)))


async def empty_fragments(target: Target) -> str:
    begin, more = websocket_frame(TEXT, b"a", fin=False), websocket_frame(CONTINUE, b"", fin=False)
    return await attack(target, itertools.chain([begin], forever(more, 2000)))


async def large_message(target: Target) -> str:
    """Send a message that never ends, in fragments of a mebibyte."""
    begin = websocket_frame(BINARY, bytes(MEBIBYTE), fin=False)
    more = websocket_frame(CONTINUE, bytes(MEBIBYTE), fin=False)
    return await attack(target, itertools.chain([begin], forever(more)))


async def giant_frame(target: Target) -> str:
    """Announce more than any computer has."""
    return await attack(
        target, itertools.chain([struct.pack("!BBQ", 0x82, 0xFF, 2**62)], forever(bytes(4096)))
    )


def bomb_frame() -> bytes:
    """Return a frame of 64 KiB that inflates to 64 MiB."""
    compress = zlib.compressobj(9, wbits=-15)
    zeros = bytes(MEBIBYTE)
    data = b"".join(compress.compress(zeros) for _ in range(64)) + compress.flush(zlib.Z_SYNC_FLUSH)
    return websocket_frame(BINARY, data[:-4], rsv=4)


async def bomb(target: Target) -> str:
    return await attack(target, forever(bomb_frame()), deflate=True)


async def pings(target: Target) -> str:
    return await attack(target, forever(websocket_frame(PING, b"?"), 1000))


async def pongs(target: Target) -> str:
    return await attack(target, forever(websocket_frame(PONG, b"!"), 1000))


async def messages_for_nobody(target: Target) -> str:
    """Send small messages to an application that does not read."""
    intruder = await WebSocketIntruder.open(target, "/deaf?seconds=4")
    return await intruder.provoke(forever(websocket_frame(TEXT, b"a"), 1000), may_stall=True)


async def early_data(target: Target) -> str:
    """Send before the handshake is answered."""
    pieces = itertools.chain([handshake("/late?seconds=4")], forever(websocket_frame(BINARY, bytes(65000))))
    return await Http1Intruder(await target.connect()).provoke(pieces, may_stall=True)


async def never_answer_a_ping(target: Target) -> str:
    return await (await WebSocketIntruder.open(target, "/echo")).provoke(seconds=target.patience)


class Unmoved(WebSocketIntruder):
    """Hears a close frame, and waits for the connection to end."""

    @property
    def _satisfied(self) -> bool:
        return False

    def _seen(self) -> str:
        return "cut"


async def never_close(target: Target) -> str:
    return await (await Unmoved.open(target, "/leave")).provoke(seconds=target.patience)


async def never_read(target: Target) -> str:
    wire = await target.connect(receive_buffer=4096)
    name = unique("/pour")
    try:
        await wire.write(handshake(name))
        return await wait_given_up(target, name, wire)
    finally:
        wire.reset()


async def over_http2(target: Target, pieces: Iterable[bytes], *, deflate: bool = False) -> str:
    """Open a WebSocket with an extended CONNECT (RFC 8441), then send pieces in DATA."""
    intruder = await Http2WebSocketIntruder.open(target, content_with_reset=True)
    fields = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"http"),
        (b":authority", b"localhost"),
        (b":path", b"/echo"),
        (b"sec-websocket-version", b"13"),
    ]
    if deflate:
        fields.append((b"sec-websocket-extensions", b"permessage-deflate"))
    data = (intruder.frames(Data(1, piece)) for piece in pieces)
    return await intruder.provoke(itertools.chain([intruder.frames(Headers(1, fields))], data))


async def pings_over_http2(target: Target) -> str:
    # As many as the windows have room for at once.
    return await over_http2(target, [websocket_frame(PING, b"?") * 1000] * 30)


async def bomb_over_http2(target: Target) -> str:
    data = bomb_frame()
    pieces = [data[start : start + 16384] for start in range(0, len(data), 16384)]
    return await over_http2(target, pieces, deflate=True)


async def attack(target: Target, pieces: Iterable[bytes], *, deflate: bool = False) -> str:
    """Open a WebSocket and send pieces, whatever is said to it."""
    return await (await WebSocketIntruder.open(target, "/echo", deflate=deflate)).provoke(pieces)


_MESSAGE: Final = ("ws_max_message",)
_CONTROL: Final = ("max_control_frames",)


def _attack(
    name: str,
    what: str,
    settings: tuple[str, ...],
    attempt: Callable[[Target], Awaitable[str]],
    carrier: Carrier = HTTP1_CLEAR,
    *,
    clients: int = 0,
) -> Attack:
    """Describe an attack; `clients`, if given, are many that wait."""
    return Attack(
        f"websocket-{name}",
        what,
        carrier,
        settings,
        attempt,
        websocket=True,
        clients=clients or 1,
        waits=clients > 0,
    )


ATTACKS: Final = (
    _attack("fragments", "a message without end, a byte per fragment", (*_CONTROL, *_MESSAGE), fragments),
    _attack("empty-fragments", "a message without end, of empty fragments", _CONTROL, empty_fragments),
    _attack("large-message", "a message without end, a mebibyte per fragment", _MESSAGE, large_message),
    _attack("giant-frame", "a frame that announces 4 EiB", ("ws_max_frame",), giant_frame),
    _attack("bomb", "a deflate bomb: 64 KiB that are 64 MiB", _MESSAGE, bomb, HTTP1_TLS),
    _attack("http2-bomb", "the same over HTTP/2", _MESSAGE, bomb_over_http2, HTTP2_CLEAR),
    _attack("pings", "pings", _CONTROL, pings),
    _attack("http2-pings", "pings over HTTP/2", _CONTROL, pings_over_http2, HTTP2_CLEAR),
    _attack("pongs", "pongs that nobody asked for", _CONTROL, pongs),
    _attack(
        "deaf-application",
        "messages for an application that does not read",
        ("stream_window",),
        messages_for_nobody,
    ),
    _attack("early-data", "frames before the handshake is answered", ("stream_window",), early_data),
    _attack(
        "unanswered-ping",
        "no answer to a ping",
        ("ws_ping_interval", "ws_ping_timeout"),
        never_answer_a_ping,
        clients=50,
    ),
    _attack("unanswered-close", "no answer to a close frame", ("ws_close_timeout",), never_close, clients=50),
    _attack(
        "deaf", "messages that are not read", ("write_timeout", "write_high_mark"), never_read, clients=20
    ),
)
