"""The life of a stream: refused, reset, ended early, spoken to when it is gone (RFC 9113, 5.1 and 8.1)."""

import asyncio

import pytest
from h2.errors import ErrorCodes

from support.carrier import HTTP2_CLEAR
from support.exchange import Fields
from support.frames import (
    ANY,
    GET,
    POST,
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
from support.http2_requests import CONNECT, EXTENDED, replacing
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

pytestmark = pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)

FRAME = bytes(16384)


def granted(peer: FramePeer, stream_id: int) -> int:
    """How many bytes of window the server has given so far, in all."""
    updates = [frame for frame in peer.seen if isinstance(frame, WindowUpdate)]
    return sum(update.increment for update in updates if update.stream_id == stream_id)


# ---------------------------------------------------------------------- what the server announces


async def test_limits_are_announced_in_the_first_frame(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(
        await serve(
            app, max_streams=7, stream_window=100_000, connection_window=300_000, max_head_bytes=20_000
        )
    )
    assert isinstance(peer.seen[0], Settings)
    expected = {0x2: 0, 0x3: 7, 0x4: 100_000, 0x6: 20_000, 0x8: 1, 0x9: 1}
    assert expected.items() <= peer.server_settings.items()
    await peer.expects_nothing()
    assert granted(peer, 0) == 300_000 - 65_535


# ---------------------------------------------------------------------- refused and answered without an application


async def test_a_stream_above_the_limit_is_refused_and_served_when_there_is_room(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, max_streams=2))
    named = [*POST, (b"x-client", b"in the table of HPACK from here on")]
    await peer.sends(Headers(1, GET, end_stream=True), Headers(3, GET, end_stream=True))
    first, second = await app.next_call(), await app.next_call()
    await peer.sends(Headers(5, named), Data(5, FRAME), Data(5, FRAME, end_stream=True))
    await peer.expects(RstStream(5, ErrorCodes.REFUSED_STREAM))
    await peer.expects_nothing()

    await first.respond(204)
    await peer.expects(Headers(1, [(b":status", b"204")], end_stream=True))
    await peer.sends(Headers(7, named, end_stream=True))
    call = await app.next_call()
    assert named[-1] in call.scope["headers"]
    await second.respond(204)
    await peer.expects(Headers(3, [(b":status", b"204")], end_stream=True))


REFUSED: dict[str, tuple[Fields, bytes]] = {
    "connect": (CONNECT, b"501"),
    "connect-udp": ([(b":method", b"CONNECT"), (b":protocol", b"connect-udp"), *GET[1:]], b"501"),
    "lower-case-method": (replacing(b":method", b"get"), b"501"),
    "websocket-without-version": (EXTENDED, b"426"),
    "old-websocket": ([*EXTENDED, (b"sec-websocket-version", b"8")], b"426"),
    "large": ([*GET, (b"x-large", b"v" * 2000)], b"431"),
    "many-fields": ([*GET, *[(b"x-%d" % number, b"v") for number in range(10)]], b"431"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("end_stream", [True, False], ids=["ended", "open"])
async def test_some_requests_are_answered_without_an_application(
    serve: Serve, connect: Connect, app: SteeredApp, refused: tuple[Fields, bytes], end_stream: bool
) -> None:
    section, status = refused
    peer = await connect.frames(await serve(app, max_head_bytes=1024, max_fields=8, max_drain=0))
    await peer.sends(Headers(1, section, end_stream=end_stream))
    await peer.expects(Headers(1, [(b":status", status)], end_stream=True))
    if not end_stream:
        await peer.expects(RstStream(1, ErrorCodes.NO_ERROR))
        await peer.sends(Data(1, b"late"))
    await peer.expects_nothing()
    assert not app.called_again


async def test_a_head_far_above_the_limit_ends_the_connection(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, max_head_bytes=1024))
    # Thousands of fields in few bytes: each is one byte, an index into the table (HPACK bomb).
    block = peer.encoder.encode([*GET, (b"x", b"v" * 200)]) + b"\xbe" * 5000
    await peer.sends(HeadersPart(1, block, end_stream=True, end_headers=True))
    await peer.expects(Goaway(ANY, ErrorCodes.ENHANCE_YOUR_CALM))
    await peer.expects_end()


# ---------------------------------------------------------------------- reset by the client


async def test_a_reset_is_told_to_the_application_of_that_stream_alone(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, POST), Headers(3, POST))
    reset, other = await app.next_call(), await app.next_call()
    await peer.sends(RstStream(1, ErrorCodes.CANCEL), Data(3, b"content", end_stream=True))
    assert (await reset.receive())["type"] == "http.disconnect"
    with pytest.raises(OSError, match="gone"):
        await reset.respond(200)
    assert await other.receive_body() == b"content"
    await other.respond(204)
    await peer.expects(Headers(3, [(b":status", b"204")], end_stream=True))


async def test_a_reset_unblocks_a_waiting_send(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    peer = await connect.frames(await serve(app), {0x4: 0})
    await peer.sends(Headers(1, GET, end_stream=True), Headers(3, GET, end_stream=True))
    call, other = await app.next_call(), await app.next_call()
    await call.start()
    sending = asyncio.ensure_future(call.body(bytes(1_000_000), more=True))
    await peer.expects(Headers(1, [(b":status", b"200")]))
    assert not sending.done()
    await peer.sends(RstStream(1, ErrorCodes.CANCEL))
    with pytest.raises(OSError, match="gone"):
        await sending
    await other.respond(204)
    await peer.expects(Headers(3, [(b":status", b"204")], end_stream=True))


async def test_a_request_that_is_reset_in_the_same_read_is_not_begun(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(
        *[
            frame
            for stream_id in range(1, 101, 2)
            for frame in (Headers(stream_id, GET, end_stream=True), RstStream(stream_id, ErrorCodes.CANCEL))
        ]
    )
    await peer.expects_nothing()
    assert not app.called_again


# ---------------------------------------------------------------------- answered before the request has ended


async def test_an_early_answer_is_followed_by_a_reset_without_an_error_where_nothing_is_drained(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, max_drain=0))
    await peer.sends(Headers(1, POST), Data(1, b"the beginning"))
    call = await app.next_call()
    await call.respond(413, body=b"too large")
    await peer.expects(Headers(1, [(b":status", b"413")]))
    await peer.expects(Data(1, b"too large", end_stream=True))
    await peer.expects(RstStream(1, ErrorCodes.NO_ERROR))


async def test_an_answer_to_a_request_that_has_ended_is_not(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, POST), Data(1, b"unread", end_stream=True))
    call = await app.next_call()
    await call.respond(200, body=b"fine")
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"fine", end_stream=True))
    await peer.expects_nothing()


async def test_defect_14_late_data_on_a_closed_stream_harms_nobody(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, connection_window=65_535, stream_window=65_535, max_drain=0))
    await peer.sends(Headers(1, GET, end_stream=True), Headers(3, POST))
    neighbour, call = await app.next_call(), await app.next_call()
    await call.respond(413)
    await peer.expects(Headers(3, [(b":status", b"413")], end_stream=True))
    await peer.expects(RstStream(3, ErrorCodes.NO_ERROR))

    # What the client had sent before it read that: content, and trailers that change its HPACK tables.
    digest = (b"x-digest", b"in the table of HPACK from here on")
    for _ in range(3):
        await peer.sends(Data(3, FRAME))
    await peer.sends(Headers(3, [digest], end_stream=True))
    await peer.expects_nothing()
    assert granted(peer, 0) >= 2 * len(FRAME)
    assert granted(peer, 3) == 0

    await neighbour.respond(204)
    await peer.expects(Headers(1, [(b":status", b"204")], end_stream=True))
    await peer.sends(Headers(5, [*GET, digest], end_stream=True))
    assert digest in (await app.next_call()).scope["headers"]


@pytest.mark.parametrize("how", ["answered", "reset", "crashed"])
async def test_content_that_nobody_takes_does_not_use_up_the_connection(
    serve: Serve, connect: Connect, app: SteeredApp, how: str
) -> None:
    peer = await connect.frames(await serve(app, connection_window=65_535, max_drain=0))
    peer.skips += (Headers, Data)
    rounds = 10
    for number in range(rounds):
        stream_id = 2 * number + 1
        await peer.sends(Headers(stream_id, POST), *[Data(stream_id, FRAME)] * 3)
        call = await app.next_call()
        match how:
            case "answered":
                await call.respond(204)
                await peer.expects(RstStream(stream_id, ErrorCodes.NO_ERROR))
            case "crashed":
                await call.start()
                await call.body(b"x", more=True)
                call.finish()
                await peer.expects(RstStream(stream_id, ErrorCodes.INTERNAL_ERROR))
            case _:
                await peer.sends(RstStream(stream_id, ErrorCodes.CANCEL))
    await peer.expects_nothing()
    sent = rounds * 3 * len(FRAME)
    assert sent - granted(peer, 0) < 65_535 // 2


# ---------------------------------------------------------------------- spoken to when it is gone


@pytest.mark.parametrize("frame", [Data(1, FRAME), Headers(1, [(b"x-digest", b"0")], end_stream=True)])
async def test_a_client_that_goes_on_after_its_own_reset_is_told_so(
    serve: Serve, connect: Connect, app: SteeredApp, frame: Frame
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, POST), RstStream(1, ErrorCodes.CANCEL), frame)
    await peer.expects(RstStream(1, ErrorCodes.STREAM_CLOSED))
    await peer.expects_nothing()


async def test_headers_on_a_stream_that_both_have_ended_end_the_connection(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, GET, end_stream=True))
    await (await app.next_call()).respond(204)
    await peer.expects(Headers(1, [(b":status", b"204")], end_stream=True))
    await peer.sends(Headers(1, GET, end_stream=True))
    await peer.expects(Goaway(1, ErrorCodes.STREAM_CLOSED))
    await peer.expects_end()


async def test_window_updates_resets_and_priorities_of_a_closed_stream_are_overlooked(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, GET, end_stream=True))
    await (await app.next_call()).respond(204)
    await peer.expects(Headers(1, [(b":status", b"204")], end_stream=True))
    await peer.sends(WindowUpdate(1, 1000), RstStream(1, ErrorCodes.CANCEL), RstStream(1, 0xF00))
    await peer.expects_nothing()


# ---------------------------------------------------------------------- side by side


async def test_defect_3_an_application_that_never_reads_delays_neither_a_sibling_nor_a_ping(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, stream_window=65_535))
    await peer.sends(Headers(1, POST), *[Data(1, FRAME)] * 3, Data(1, bytes(65_535 - 3 * 16384)))
    stalled = await app.next_call()
    await peer.sends(Ping(b"are you?"))
    await peer.expects(Ping(b"are you?", ack=True))
    await peer.sends(Headers(3, POST), Data(3, b"content", end_stream=True))
    call = await app.next_call()
    assert await call.receive_body() == b"content"
    await call.respond(200, body=b"at once")
    await peer.expects(Headers(3, [(b":status", b"200")]))
    await peer.expects(Data(3, b"at once", end_stream=True))
    assert granted(peer, 1) == 0

    # Stream 1 goes on as soon as its application takes what is there.
    assert len((await stalled.receive())["body"]) == 65_535
    await peer.expects(WindowUpdate(1, 65_535))


async def test_two_streams_are_served_in_whatever_order_their_applications_answer(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, GET, end_stream=True), Headers(3, GET, end_stream=True))
    first, second = await app.next_call(), await app.next_call()
    await first.start()
    await first.body(b"1a", more=True)
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"1a"))
    await second.respond(200, body=b"3")
    await peer.expects(Headers(3, [(b":status", b"200")]))
    await peer.expects(Data(3, b"3", end_stream=True))
    await first.body(b"1b")
    await peer.expects(Data(1, b"1b", end_stream=True))
