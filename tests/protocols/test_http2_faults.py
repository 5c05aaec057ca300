"""The client's faults: which end a stream, which end the connection, and with what code (RFC 9113, 5.4)."""

import struct

import pytest
from h2.errors import ErrorCodes

from alphorn import Config
from alphorn.protocols.http2_fast_machine import Http2FastMachine
from alphorn.protocols.http2_machine import Http2Machine
from support.carrier import HTTP2_CLEAR
from support.frames import (
    ACK,
    ANY,
    END_HEADERS,
    END_STREAM,
    GET,
    PADDED,
    POST,
    PREFACE,
    PRIORITY,
    Continuation,
    Data,
    Frame,
    FramePeer,
    Goaway,
    Headers,
    HeadersPart,
    Ping,
    PushPromise,
    Raw,
    RstStream,
    Settings,
    WindowUpdate,
    priority_update,
)
from support.http2_requests import EXTENDED, MALFORMED
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

pytestmark = pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)

DATA, PRIORITY_FRAME, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 2, 3, 4, 6, 7, 8
ALTSVC, UNKNOWN = 0xA, 0xFE
NOT_HPACK = b"\x80"
"""An indexed field with index 0 (RFC 7541, 6.1)."""


@pytest.fixture
async def peer(serve: Serve, connect: Connect, app: SteeredApp) -> FramePeer:
    """A peer of the steered application, prefaces exchanged."""
    return await connect.frames(await serve(app))


async def expect_service(peer: FramePeer, app: SteeredApp, stream_id: int) -> None:
    """Prove that the connection still serves."""
    await peer.sends(Headers(stream_id, GET, end_stream=True))
    call = await app.next_call()
    await call.respond(204)
    await peer.expects(Headers(stream_id, [(b":status", b"204")], end_stream=True))
    call.finish()


# ---------------------------------------------------------------------- of a stream


async def test_a_malformed_request_ends_its_stream_and_nobody_else_notices(
    peer: FramePeer, app: SteeredApp
) -> None:
    await peer.sends(Headers(1, GET, end_stream=True))
    neighbour = await app.next_call()
    stream_id = 1
    for name, section in MALFORMED.items():
        stream_id += 2
        await peer.sends(Headers(stream_id, section, end_stream=True))
        frame = await peer.expects(RstStream(stream_id, ANY))
        assert frame.code == ErrorCodes.PROTOCOL_ERROR, name
    assert not app.called_again
    await neighbour.respond(204)
    await peer.expects(Headers(1, [(b":status", b"204")], end_stream=True))
    await expect_service(peer, app, stream_id + 2)


@pytest.mark.parametrize("status", [b"103", b"200"])
async def test_a_request_with_a_status_ends_its_stream(
    peer: FramePeer, app: SteeredApp, status: bytes
) -> None:
    await peer.sends(Headers(1, [(b":status", status), *GET], end_stream=True))
    await peer.expects(RstStream(1, ErrorCodes.PROTOCOL_ERROR))
    await peer.sends(Headers(3, [(b":status", status), *GET]), Data(3, b"late"))
    await peer.expects(RstStream(3, ErrorCodes.PROTOCOL_ERROR))
    await peer.expects_nothing()
    await expect_service(peer, app, 5)


@pytest.mark.parametrize(
    "content",
    [
        [Data(1, b"too much")],
        [Data(1, b"1"), Data(1, b"345"), Data(1, b"6")],
        [Data(1, b"few", end_stream=True)],
        [Data(1, b"few"), Data(1, end_stream=True)],
        [Data(1, b"few"), Headers(1, [(b"x-digest", b"0")], end_stream=True)],
        [Data(1, b"1", padding=3), Data(1, end_stream=True)],
    ],
    ids=["more", "more-in-parts", "less", "less-in-parts", "less-before-trailers", "padding-is-no-content"],
)
async def test_content_of_another_length_than_announced_ends_its_stream(
    peer: FramePeer, app: SteeredApp, content: list[Frame]
) -> None:
    await peer.sends(Headers(1, [*POST, (b"content-length", b"4")]))
    call = await app.next_call()
    await peer.sends(*content)
    await peer.expects(RstStream(1, ErrorCodes.PROTOCOL_ERROR))
    while (message := await call.receive())["type"] == "http.request":
        assert message["more_body"], "the application takes the content for complete"
    await expect_service(peer, app, 3)


async def test_content_that_is_announced_and_never_begins_is_malformed(
    peer: FramePeer, app: SteeredApp
) -> None:
    await peer.sends(Headers(1, [*POST, (b"content-length", b"4")], end_stream=True))
    await peer.expects(RstStream(1, ErrorCodes.PROTOCOL_ERROR))
    assert not app.called_again
    await expect_service(peer, app, 3)


async def test_content_as_long_as_announced_is_delivered(peer: FramePeer, app: SteeredApp) -> None:
    await peer.sends(
        Headers(1, [*POST, (b"content-length", b"4")]),
        Data(1, b"12", padding=7),
        Data(1, b"34", padding=0),
        Headers(1, [(b"x-digest", b"0")], end_stream=True),
    )
    call = await app.next_call()
    assert await call.receive_body() == b"1234"
    await expect_service(peer, app, 3)


@pytest.mark.parametrize(
    "trailers",
    [
        Headers(1, [(b":path", b"/")], end_stream=True),
        Headers(1, [(b":status", b"200")], end_stream=True),
        Headers(1, [(b":status", b"103")], end_stream=True),
        Headers(1, [(b"X-Digest", b"0")], end_stream=True),
        Headers(1, [(b"x-digest", b"a\r\nb")], end_stream=True),
        Headers(1, [(b"connection", b"close")], end_stream=True),
        Headers(1, [(b"x-digest", b"0")], end_stream=False),
        Headers(1, POST, end_stream=False),
    ],
    ids=["path", "status", "1xx", "upper-case", "line-end", "connection", "no-end", "a-second-head"],
)
async def test_malformed_trailers_end_their_stream(
    peer: FramePeer, app: SteeredApp, trailers: Headers
) -> None:
    await peer.sends(Headers(1, POST), Data(1, b"content"))
    call = await app.next_call()
    await peer.sends(trailers)
    await peer.expects(RstStream(1, ErrorCodes.PROTOCOL_ERROR))
    assert (await call.receive())["more_body"]
    assert (await call.receive())["type"] == "http.disconnect"
    await expect_service(peer, app, 3)


async def test_headers_in_a_tunnel_end_it(peer: FramePeer, app: SteeredApp) -> None:
    handshake = [(b"sec-websocket-version", b"13")]
    await peer.sends(Headers(1, [*EXTENDED, *handshake]))
    call = await app.next_call()
    await call.accept()
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.sends(Headers(1, [(b"x-digest", b"0")], end_stream=True))
    await peer.expects(RstStream(1, ErrorCodes.PROTOCOL_ERROR))
    assert (await call.receive())["type"] == "websocket.disconnect"
    await expect_service(peer, app, 3)


async def test_a_window_that_grows_beyond_31_bits_ends_its_stream(peer: FramePeer, app: SteeredApp) -> None:
    await peer.sends(Headers(1, GET, end_stream=True))
    call = await app.next_call()
    await peer.sends(WindowUpdate(1, 2**31 - 1))
    await peer.expects(RstStream(1, ErrorCodes.FLOW_CONTROL_ERROR))
    with pytest.raises(OSError, match="gone"):
        await call.respond(200)
    await expect_service(peer, app, 3)


@pytest.mark.parametrize("frame", [Data(1, b"more"), Headers(1, [(b"x-digest", b"0")], end_stream=True)])
async def test_whatever_follows_the_end_of_a_request_ends_its_stream(
    peer: FramePeer, app: SteeredApp, frame: Frame
) -> None:
    await peer.sends(Headers(1, GET, end_stream=True))
    call = await app.next_call()
    await peer.sends(frame)
    await peer.expects(RstStream(1, ErrorCodes.STREAM_CLOSED))
    assert (await call.receive())["type"] == "http.request"
    assert (await call.receive())["type"] == "http.disconnect"
    await expect_service(peer, app, 3)


# ---------------------------------------------------------------------- of the connection


def unfinished(size: int) -> bytes:
    """The beginning of a DATA frame of `size` bytes."""
    return size.to_bytes(3) + struct.pack("!BBL", DATA, 0, 1)


CONNECTION_FAULTS: dict[str, tuple[list[Frame | bytes], int]] = {
    # 4.2: sizes
    "a frame above SETTINGS_MAX_FRAME_SIZE": ([unfinished(16385)], ErrorCodes.FRAME_SIZE_ERROR),
    "PING of seven bytes": ([Raw(PING, 0, 0, bytes(7))], ErrorCodes.FRAME_SIZE_ERROR),
    "RST_STREAM of five bytes": ([Raw(RST_STREAM, 0, 1, bytes(5))], ErrorCodes.FRAME_SIZE_ERROR),
    "PRIORITY of four bytes": ([Raw(PRIORITY_FRAME, 0, 1, bytes(4))], ErrorCodes.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of three bytes": ([Raw(WINDOW_UPDATE, 0, 0, bytes(3))], ErrorCodes.FRAME_SIZE_ERROR),
    "GOAWAY of seven bytes": ([Raw(GOAWAY, 0, 0, bytes(7))], ErrorCodes.FRAME_SIZE_ERROR),
    "SETTINGS of seven bytes": ([Raw(SETTINGS, 0, 0, bytes(7))], ErrorCodes.FRAME_SIZE_ERROR),
    "SETTINGS that acknowledge with values": (
        [Raw(SETTINGS, ACK, 0, struct.pack("!HL", 4, 1))],
        ErrorCodes.FRAME_SIZE_ERROR,
    ),
    # 4.3: field blocks
    "a block that is not HPACK": (
        [HeadersPart(1, NOT_HPACK, end_headers=True)],
        ErrorCodes.COMPRESSION_ERROR,
    ),
    "a block that is not HPACK on a stream that was reset": (
        [Headers(1, POST), RstStream(1, 8), HeadersPart(1, NOT_HPACK, end_headers=True)],
        ErrorCodes.COMPRESSION_ERROR,
    ),
    "trailers that are not HPACK": (
        [Headers(1, POST), HeadersPart(1, NOT_HPACK, end_stream=True, end_headers=True)],
        ErrorCodes.COMPRESSION_ERROR,
    ),
    "a truncated block": ([HeadersPart(1, b"\x00\x05ab", end_headers=True)], ErrorCodes.COMPRESSION_ERROR),
    "a block cut within a number": (
        [HeadersPart(1, b"\x00", end_headers=True)],
        ErrorCodes.COMPRESSION_ERROR,
    ),
    "a frame amid a field block": ([HeadersPart(1, b""), Ping()], ErrorCodes.PROTOCOL_ERROR),
    "an unknown frame amid a field block": (
        [HeadersPart(1, b""), Raw(UNKNOWN, 0, 0)],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "the block of another stream amid a field block": (
        [HeadersPart(1, b""), Continuation(3, b"", end_headers=True)],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    # 5.1: states
    "DATA on an idle stream": ([Data(1, b"x")], ErrorCodes.PROTOCOL_ERROR),
    "DATA on an idle stream behind others": (
        [Headers(1, GET, end_stream=True), Data(5, b"x")],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "RST_STREAM on an idle stream": ([RstStream(1, 8)], ErrorCodes.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream behind others": (
        [Headers(1, GET, end_stream=True), RstStream(5, 8)],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "RST_STREAM on an idle stream of the server": (
        [Headers(1, GET, end_stream=True), RstStream(2, 8)],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "WINDOW_UPDATE on an idle stream": ([WindowUpdate(1, 1)], ErrorCodes.PROTOCOL_ERROR),
    # 5.1.1: identifiers
    "a stream of the server": ([Headers(2, GET, end_stream=True)], ErrorCodes.PROTOCOL_ERROR),
    "DATA on a stream of the server": ([Headers(1, GET), Data(2, b"x")], ErrorCodes.PROTOCOL_ERROR),
    "a stream that was skipped": (
        [Headers(5, GET, end_stream=True), Headers(3, GET, end_stream=True)],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "HEADERS on the connection": ([Headers(0, GET)], ErrorCodes.PROTOCOL_ERROR),
    "DATA on the connection": ([Data(0, b"x")], ErrorCodes.PROTOCOL_ERROR),
    "RST_STREAM on the connection": ([RstStream(0, 8)], ErrorCodes.PROTOCOL_ERROR),
    "PRIORITY on the connection": ([Raw(PRIORITY_FRAME, 0, 0, bytes(5))], ErrorCodes.PROTOCOL_ERROR),
    "SETTINGS on a stream": ([Raw(SETTINGS, 0, 1)], ErrorCodes.PROTOCOL_ERROR),
    "PING on a stream": ([Raw(PING, 0, 1, bytes(8))], ErrorCodes.PROTOCOL_ERROR),
    "GOAWAY on a stream": ([Raw(GOAWAY, 0, 1, bytes(8))], ErrorCodes.PROTOCOL_ERROR),
    # 6.1 and 6.2: padding
    "DATA that is all padding, and more": (
        [Headers(1, POST), Raw(DATA, PADDED, 1, b"\x05" + bytes(4))],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "DATA padded without a byte for it": (
        [Headers(1, POST), Raw(DATA, PADDED, 1)],
        ErrorCodes.FRAME_SIZE_ERROR,
    ),
    "HEADERS that are all padding, and more": (
        [Raw(1, PADDED | END_HEADERS, 1, b"\x05" + bytes(4))],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    # 6.5: settings
    "SETTINGS_ENABLE_PUSH 2": ([Settings({2: 2})], ErrorCodes.PROTOCOL_ERROR),
    "SETTINGS_INITIAL_WINDOW_SIZE 2^31": ([Settings({4: 2**31})], ErrorCodes.FLOW_CONTROL_ERROR),
    "SETTINGS_MAX_FRAME_SIZE 16383": ([Settings({5: 16383})], ErrorCodes.PROTOCOL_ERROR),
    "SETTINGS_MAX_FRAME_SIZE 2^24": ([Settings({5: 2**24})], ErrorCodes.PROTOCOL_ERROR),
    "SETTINGS_ENABLE_CONNECT_PROTOCOL 2": ([Settings({8: 2})], ErrorCodes.PROTOCOL_ERROR),
    "SETTINGS_NO_RFC7540_PRIORITIES 2": ([Settings({9: 2})], ErrorCodes.PROTOCOL_ERROR),
    # 6.6: push
    "PUSH_PROMISE": ([Headers(1, POST), PushPromise(1, 2, GET)], ErrorCodes.PROTOCOL_ERROR),
    # 6.9: windows
    "WINDOW_UPDATE of nothing": ([WindowUpdate(0, 0)], ErrorCodes.PROTOCOL_ERROR),
    "a connection window beyond 31 bits": ([WindowUpdate(0, 2**31 - 1)], ErrorCodes.FLOW_CONTROL_ERROR),
    "an initial window that takes one beyond 31 bits": (
        [Headers(1, GET), WindowUpdate(1, 2**31 - 1 - 65535), Settings({4: 65536})],
        ErrorCodes.FLOW_CONTROL_ERROR,
    ),
    # 6.10: continuations
    "CONTINUATION of nothing": ([Continuation(1, b"", end_headers=True)], ErrorCodes.PROTOCOL_ERROR),
    "CONTINUATION on an open stream": (
        [Headers(1, POST), Continuation(1, b"", end_headers=True)],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "CONTINUATION on a stream that was reset": (
        [Headers(1, POST), RstStream(1, 8), Continuation(1, b"", end_headers=True)],
        ErrorCodes.PROTOCOL_ERROR,
    ),
    # RFC 9218, 7.1
    "PRIORITY_UPDATE on a stream": ([Raw(0x10, 0, 1, struct.pack("!L", 1))], ErrorCodes.PROTOCOL_ERROR),
    "PRIORITY_UPDATE for the connection": ([priority_update(0, b"u=1")], ErrorCodes.PROTOCOL_ERROR),
    "PRIORITY_UPDATE for a push that is idle": ([priority_update(2, b"u=1")], ErrorCodes.PROTOCOL_ERROR),
    "PRIORITY_UPDATE of three bytes": ([Raw(0x10, 0, 0, bytes(3))], ErrorCodes.FRAME_SIZE_ERROR),
    "priorities for more streams than may be": (
        [priority_update(2 * number + 1, b"u=1") for number in range(Config().max_streams + 1)],
        ErrorCodes.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize(("frames", "code"), CONNECTION_FAULTS.values(), ids=CONNECTION_FAULTS.keys())
async def test_the_connection_ends_with(peer: FramePeer, frames: list[Frame | bytes], code: int) -> None:
    peer.skips += (RstStream,)
    await peer.sends(*frames)
    await peer.expects(Goaway(ANY, code))
    await peer.expects_end()


async def test_a_fault_of_the_connection_is_told_to_its_applications(
    peer: FramePeer, app: SteeredApp
) -> None:
    await peer.sends(Headers(1, POST), Headers(3, GET, end_stream=True))
    first, second = await app.next_call(), await app.next_call()
    await peer.sends(WindowUpdate(0, 0))
    await peer.expects(Goaway(3, ErrorCodes.PROTOCOL_ERROR))
    assert (await first.receive())["type"] == "http.disconnect"
    with pytest.raises(OSError, match="gone"):
        await second.respond(200)


async def test_what_came_before_a_fault_in_the_same_read_is_not_begun(
    peer: FramePeer, app: SteeredApp
) -> None:
    await peer.sends(Headers(1, GET, end_stream=True), WindowUpdate(0, 0))
    await peer.expects(Goaway(1, ErrorCodes.PROTOCOL_ERROR))
    await peer.expects_end()
    assert not app.called_again


async def test_the_debug_data_of_a_goaway_is_short_and_printable(peer: FramePeer) -> None:
    await peer.sends(Settings({4: 2**31}))
    goaway = await peer.expects(Goaway(0, ErrorCodes.FLOW_CONTROL_ERROR))
    assert goaway.debug.decode("ascii").isprintable()
    assert 0 < len(goaway.debug) <= 200


async def test_a_bug_of_ours_costs_one_connection_and_tells_the_client_nothing_of_us(
    serve: Serve,
    connect: Connect,
    app: SteeredApp,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("our secret")

    url = await serve(app)
    peer, other = await connect.frames(url), await connect.frames(url)
    await peer.sends(Headers(1, POST))
    call = await app.next_call()
    with monkeypatch.context() as patch:
        for machine in (Http2Machine, Http2FastMachine):
            patch.setattr(machine, "is_idle", fail)
        await peer.sends(priority_update(3, b"u=1"))
        goaway = await peer.expects(Goaway(1, ErrorCodes.INTERNAL_ERROR))
        assert b"secret" not in goaway.debug
        await peer.expects_end()
    assert (await call.receive())["type"] == "http.disconnect"
    assert "our secret" in caplog.text
    await expect_service(other, app, 1)


@pytest.mark.parametrize(
    "first",
    [Settings(ack=True), Ping(), Headers(1, GET, end_stream=True), WindowUpdate(0, 1), Raw(UNKNOWN, 0, 0)],
)
async def test_the_first_frame_is_settings_or_the_connection_ends(
    serve: Serve, connect: Connect, app: SteeredApp, first: Frame
) -> None:
    peer = await connect.frames(await serve(app), start=False)
    await peer.sends(PREFACE, first)
    await peer.expects(Goaway(0, ErrorCodes.PROTOCOL_ERROR))
    await peer.expects_end()
    assert not app.called_again


# ---------------------------------------------------------------------- no fault


@pytest.mark.parametrize(
    "frames",
    [
        [Raw(UNKNOWN, 0xFF, 0, b"whatever"), Raw(UNKNOWN, 0, 9, b"")],
        [Raw(ALTSVC, 0, 0, b"\0\x01ah2"), Raw(ALTSVC, 0, 1, b"\0\0h2")],
        [Settings({0xF0F0: 7, 0: 2**32 - 1})],
        [Settings({1: 0}), Settings({1: 2**32 - 1}), Settings({1: 1}), Settings({1: 4096})],
        [Ping(b"answered", ack=True)],
        [Raw(PRIORITY_FRAME, 0, 1, struct.pack("!LB", 3, 200)), Raw(PRIORITY_FRAME, 0, 7, bytes(5))],
        [Raw(PING, 0xFE & ~ACK, 0, bytes(8))],
    ],
    ids=["unknown", "altsvc", "unknown-settings", "table-sizes", "ping-ack", "priority", "unknown-flags"],
)
async def test_a_server_takes_no_offence_at(peer: FramePeer, app: SteeredApp, frames: list[Frame]) -> None:
    peer.skips += (Ping,)
    await peer.sends(*frames)
    await expect_service(peer, app, 9)


async def test_a_head_may_come_in_parts_padded_and_with_a_priority(peer: FramePeer, app: SteeredApp) -> None:
    block = peer.encoder.encode([*POST, (b"x-long", b"v" * 100)])
    start = b"\x02" + struct.pack("!LB", 0x8000_0000, 15) + block[:5] + bytes(2)
    await peer.sends(
        Raw(1, PADDED | PRIORITY, 1, start),
        Continuation(1, block[5:9]),
        Continuation(1, b""),
        Continuation(1, block[9:], end_headers=True),
        Data(1, b"content", end_stream=True, padding=255),
    )
    call = await app.next_call()
    assert (b"x-long", b"v" * 100) in call.scope["headers"]
    assert await call.receive_body() == b"content"


async def test_the_reserved_bit_of_a_stream_identifier_is_overlooked(
    peer: FramePeer, app: SteeredApp
) -> None:
    block = peer.encoder.encode(GET)
    await peer.sends(Raw(1, END_HEADERS | END_STREAM, 0x8000_0001, block))
    call = await app.next_call()
    await call.respond(204)
    await peer.expects(Headers(1, [(b":status", b"204")], end_stream=True))


async def test_a_ping_is_answered_with_what_it_carries(peer: FramePeer) -> None:
    await peer.sends(Ping(b"12345678"), Ping(b"abcdefgh"))
    await peer.expects(Ping(b"12345678", ack=True))
    await peer.expects(Ping(b"abcdefgh", ack=True))


async def test_settings_are_acknowledged_each_time(peer: FramePeer) -> None:
    peer.skips = (WindowUpdate,)
    await peer.expects(Settings(ack=True))
    await peer.sends(Settings({3: 10}), Settings())
    await peer.expects(Settings(ack=True))
    await peer.expects(Settings(ack=True))
