"""Flow control, in both directions: per stream, per connection, and by a transport that is full (RFC 9113, 5.2)."""

import asyncio
from typing import Any

import pytest
from h2.errors import ErrorCodes

from alphorn.core.asgi import Receive, Scope, Send
from support.carrier import HTTP2_CLEAR
from support.frames import (
    ANY,
    GET,
    POST,
    Data,
    FramePeer,
    Goaway,
    Headers,
    Ping,
    Settings,
    WindowUpdate,
)
from support.http_client import open_wire
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.waiting import stays_pending

pytestmark = pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)

INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 0x4, 0x5
HIGH_MARK = 64 * 1024
WINDOW = 65_535
"""Of a connection and of its streams, until somebody says otherwise (RFC 9113, 6.9.2)."""

FRAME = bytes(16384)
CHUNK = bytes(16 * 1024)


async def ask(peer: FramePeer, app: SteeredApp, stream_id: int) -> Call:
    """Make a request whose response the application has begun."""
    await peer.sends(Headers(stream_id, GET, end_stream=True))
    call = await app.next_call()
    await call.start()
    return call


async def pour(call: Call) -> int:
    """Send chunks until `send` waits for room; return how many bytes it took, that last chunk included."""
    taken = 0
    while True:
        sending = asyncio.ensure_future(call.body(CHUNK, more=True))
        taken += len(CHUNK)
        if await stays_pending(sending, 0.05):
            sending.cancel()
            await asyncio.wait({sending})
            return taken


async def read_data(peer: FramePeer, stream_id: int, size: int) -> list[int]:
    """Read DATA of a stream, exactly `size` bytes; return the sizes of the frames."""
    sizes: list[int] = []
    while sum(sizes) < size:
        sizes.append(len((await peer.expects(Data(stream_id, ANY, end_stream=ANY))).data))
    assert sum(sizes) == size
    return sizes


# ---------------------------------------------------------------------- from the application to the client


async def test_defect_2_no_more_than_the_high_mark_is_held_for_a_client_that_gives_no_window(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, write_high_mark=HIGH_MARK), {INITIAL_WINDOW_SIZE: 0})
    call = await ask(peer, app, 1)
    taken = await pour(call)
    assert HIGH_MARK <= taken < HIGH_MARK + len(CHUNK)
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects_nothing()

    # A sibling has a high mark, and room, of its own.
    other = await ask(peer, app, 3)
    assert await pour(other) == taken


async def test_a_stream_sends_as_far_as_its_window_goes(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {INITIAL_WINDOW_SIZE: 10})
    call = await ask(peer, app, 1)
    await call.body(b"x" * 25)
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"x" * 10))
    await peer.expects_nothing()
    await peer.sends(WindowUpdate(1, 1))
    await peer.expects(Data(1, b"x"))
    await peer.sends(WindowUpdate(1, 100))
    await peer.expects(Data(1, b"x" * 14, end_stream=True))


async def test_the_streams_share_the_window_of_the_connection(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {INITIAL_WINDOW_SIZE: 1_000_000})
    first, second = await ask(peer, app, 1), await ask(peer, app, 3)
    await first.body(bytes(WINDOW - 10))
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await read_data(peer, 1, WINDOW - 10)
    await second.body(bytes(25))
    await peer.expects(Headers(3, [(b":status", b"200")]))
    await peer.expects(Data(3, bytes(10)))
    await peer.expects_nothing()
    await peer.sends(WindowUpdate(3, 1000))
    await peer.expects_nothing()
    await peer.sends(WindowUpdate(0, 15))
    await peer.expects(Data(3, bytes(15), end_stream=True))


async def test_what_carries_no_content_waits_for_no_window(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {INITIAL_WINDOW_SIZE: 1_000_000})
    stalled, ending = await ask(peer, app, 1), await ask(peer, app, 3)
    await peer.sends(Headers(5, [*GET, (b"te", b"trailers")], end_stream=True))
    trailing = await app.next_call()
    await trailing.start(trailers=True)
    for stream_id, call in (3, ending), (5, trailing):
        await call.body(b"x", more=True)
        await peer.expects(Headers(stream_id, [(b":status", b"200")]))
        await peer.expects(Data(stream_id, b"x"))
    await stalled.body(bytes(WINDOW), more=True)
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await read_data(peer, 1, WINDOW - 2)
    await peer.expects_nothing()

    await ending.body()
    await peer.expects(Data(3, b"", end_stream=True))
    await trailing.body()
    await trailing.send({"type": "http.response.trailers", "headers": [(b"x-digest", b"0")]})
    await peer.expects(Headers(5, [(b"x-digest", b"0")], end_stream=True))
    await peer.sends(Headers(7, GET, end_stream=True))
    await (await app.next_call()).respond(204)
    await peer.expects(Headers(7, [(b":status", b"204")], end_stream=True))


async def test_trailers_wait_for_the_content_before_them(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {INITIAL_WINDOW_SIZE: 3})
    await peer.sends(Headers(1, [*GET, (b"te", b"trailers")], end_stream=True))
    call = await app.next_call()
    await call.start(trailers=True)
    await call.body(b"12345")
    await call.send({"type": "http.response.trailers", "headers": [(b"x-digest", b"0")]})
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"123"))
    await peer.expects_nothing()
    await peer.sends(WindowUpdate(1, 2))
    await peer.expects(Data(1, b"45"))
    await peer.expects(Headers(1, [(b"x-digest", b"0")], end_stream=True))


async def test_new_settings_move_the_windows_of_streams_under_way(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {INITIAL_WINDOW_SIZE: 10})
    call = await ask(peer, app, 1)
    await call.body(b"x" * 30)
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"x" * 10))
    await peer.sends(Settings({INITIAL_WINDOW_SIZE: 4}))  # the window of stream 1 is now -6
    await peer.expects_nothing()
    await peer.sends(WindowUpdate(1, 6))
    await peer.expects_nothing()
    await peer.sends(WindowUpdate(1, 1))
    await peer.expects(Data(1, b"x"))
    await peer.sends(Settings({INITIAL_WINDOW_SIZE: 9}))
    await peer.expects(Data(1, b"x" * 5))
    await peer.sends(WindowUpdate(1, 100))
    await peer.expects(Data(1, b"x" * 14, end_stream=True))


@pytest.mark.parametrize(("allowed", "largest"), [(16384, 16384), (20_000, 20_000), (2**24 - 1, 65_536)])
async def test_a_frame_is_as_large_as_the_client_takes_but_never_so_large_that_others_wait(
    serve: Serve, connect: Connect, app: SteeredApp, allowed: int, largest: int
) -> None:
    peer = await connect.frames(await serve(app), {MAX_FRAME_SIZE: allowed, INITIAL_WINDOW_SIZE: 1_000_000})
    await peer.sends(WindowUpdate(0, 1_000_000))
    call = await ask(peer, app, 1)
    await call.body(bytes(200_000))
    await peer.expects(Headers(1, [(b":status", b"200")]))
    assert max(await read_data(peer, 1, 200_000)) == largest


async def test_small_pieces_of_one_loop_turn_share_a_frame(serve: Serve, connect: Connect) -> None:
    async def talkative(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(100):
            await send({"type": "http.response.body", "body": b"%d," % number, "more_body": number < 99})

    peer = await connect.frames(await serve(talkative, lifespan="off"))
    await peer.sends(Headers(1, GET, end_stream=True))
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"".join(b"%d," % number for number in range(100)), end_stream=True))


async def test_a_client_that_does_not_read_holds_the_application_back_whatever_its_windows(
    serve: Serve, app: SteeredApp
) -> None:
    url = await serve(app, write_high_mark=HIGH_MARK)
    peer = FramePeer(await open_wire(url, "h2", receive_buffer=256 * 1024))
    try:
        await peer.start({INITIAL_WINDOW_SIZE: 2**31 - 1})
        await peer.sends(WindowUpdate(0, 2**31 - 1 - WINDOW))
        call = await ask(peer, app, 1)
        taken = await pour(call)
        # The stream's high mark, the transport's, a burst, and what the kernel holds on the way.
        assert taken < 3 * HIGH_MARK + 8 * 1024 * 1024
        waiting = asyncio.ensure_future(call.body(b"the ", more=True))
        assert await stays_pending(waiting)
        await peer.expects(Headers(1, [(b":status", b"200")]))
        reading = asyncio.ensure_future(peer.expects_body(1))
        await waiting
        await call.body(b"end")
        body = await reading
        assert body.endswith(b"the end")
        assert len(body) == taken + len(b"the end")
    finally:
        peer.close()


# ---------------------------------------------------------------------- from the client to the application


async def test_window_goes_back_when_the_application_takes_the_content_and_not_before(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, stream_window=40_000))
    peer.skips = (Settings,)
    await peer.expects(WindowUpdate(0, ANY))  # what the connection has beyond the default
    await peer.sends(Headers(1, POST), Data(1, FRAME), Data(1, FRAME), Data(1, bytes(40_000 - 2 * 16384)))
    call = await app.next_call()
    await peer.expects_nothing()
    message = await call.receive()
    assert (len(message["body"]), message["more_body"]) == (40_000, True)
    await peer.expects(WindowUpdate(1, 40_000))
    await peer.sends(Data(1, bytes(10), end_stream=True))
    assert await call.receive() == {"type": "http.request", "body": bytes(10), "more_body": False}


@pytest.mark.parametrize("stream_window", [1, 2, 3, 1000, 65_535])
async def test_an_upload_much_larger_than_the_window_arrives_whole(
    serve: Serve, connect: Connect, app: SteeredApp, stream_window: int
) -> None:
    client = await connect.http2(await serve(app, stream_window=stream_window, connection_window=65_535))
    content = bytes(range(256)) * (stream_window // 16 + 1)
    request = asyncio.ensure_future(client.request("POST", "/", content=content))
    call = await app.next_call()
    assert await call.receive_body() == content
    await call.respond(204)
    assert (await (await request).response()).status == 204


async def test_padding_is_given_back_at_once(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    peer = await connect.frames(await serve(app, stream_window=1000))
    await peer.sends(Headers(1, POST))
    for _ in range(20):  # five windows of nothing but padding, for an application that does not read
        await peer.sends(Data(1, b"", padding=249))
        await peer.expects_nothing()
    call = await app.next_call()
    await peer.sends(Data(1, b"content", padding=10, end_stream=True))
    assert await call.receive_body() == b"content"


@pytest.mark.parametrize("limit", ["stream_window", "connection_window"])
async def test_a_client_that_overruns_a_window_is_sent_away(
    serve: Serve, connect: Connect, app: SteeredApp, limit: str
) -> None:
    settings: dict[str, Any] = {"stream_window": 200_000, "connection_window": 200_000} | {limit: WINDOW}
    peer = await connect.frames(await serve(app, **settings))
    await peer.sends(Headers(1, POST), *[Data(1, FRAME)] * 3, Data(1, bytes(WINDOW - 3 * 16384)))
    await peer.expects_nothing()
    await peer.sends(Data(1, b"x"))
    await peer.expects(Goaway(1, ErrorCodes.FLOW_CONTROL_ERROR))
    await peer.expects_end()


async def test_a_stream_of_pings_beside_a_stalled_upload_is_answered(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, stream_window=WINDOW))
    await peer.sends(Headers(1, POST), *[Data(1, FRAME)] * 3, Data(1, bytes(WINDOW - 3 * 16384)))
    for number in range(50):
        await peer.sends(Ping(b"ping%4d" % number))
    for number in range(50):
        await peer.expects(Ping(b"ping%4d" % number, ack=True))
