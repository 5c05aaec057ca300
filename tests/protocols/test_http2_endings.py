"""The end of a connection: GOAWAY in and out, idle and shutting down, and what is under way meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from h2.errors import ErrorCodes

from support.carrier import HTTP2_CLEAR, HTTP2_TLS
from support.certificates import authority
from support.clock import ManualClock
from support.frames import (
    ANY,
    GET,
    POST,
    Data,
    FramePeer,
    Goaway,
    Headers,
    Ping,
    RstStream,
    Settings,
    WindowUpdate,
)
from support.http2_requests import EXTENDED
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.waiting import turns, within

clear = pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)
clear_and_tls = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

ANNOUNCE_SECONDS = 5
"""How long a shutdown waits for what is under way before it says GOAWAY."""


async def exchange(peer: FramePeer, app: SteeredApp, stream_id: int) -> None:
    """Make a request and get its answer."""
    await peer.sends(Headers(stream_id, GET, end_stream=True))
    call = await app.next_call()
    await answer(peer, call, stream_id)


async def answer(peer: FramePeer, call: Call, stream_id: int) -> None:
    """Answer a request."""
    await call.respond(204)
    await peer.expects(Headers(stream_id, [(b":status", b"204")], end_stream=True))
    call.finish()


async def keep_talking(peer: FramePeer) -> None:
    """Send until the connection is gone."""
    async with within("the server to cut the connection"):
        while True:
            await peer.sends(Ping())
            await turns(1)


class Stopping:
    """A server that is told to stop, while the test goes on."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._stopping: asyncio.Future[None] | None = None

    async def __call__(self) -> None:
        """Tell it; by the end of the next exchange with a client it has told its connections."""
        self._stopping = asyncio.ensure_future(self._serve.servers[0].stop())
        await turns()

    async def done(self) -> None:
        """Wait until it has stopped."""
        assert self._stopping is not None
        async with within("the server to stop"):
            await self._stopping


@pytest.fixture
async def stop(serve: Serve) -> AsyncIterator[Stopping]:
    """Tell the server to stop: `await stop()`, then `await stop.done()`."""
    stopping = Stopping(serve)
    yield stopping
    if stopping._stopping is not None:
        await stopping.done()


# ---------------------------------------------------------------------- idle


@clear
async def test_a_client_that_makes_no_request_is_sent_away(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock
) -> None:
    peer = await connect.frames(await serve(app, clock=clock, head_timeout=10.0))
    clock.advance(9)
    await peer.sends(Ping(b"nothing!"))  # is no request
    await peer.expects(Ping(b"nothing!", ack=True))
    clock.advance(1)
    await peer.expects(Goaway(0, ErrorCodes.NO_ERROR))
    await peer.expects_end()


@clear
async def test_a_head_that_never_ends_is_no_request(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock
) -> None:
    peer = await connect.frames(await serve(app, clock=clock, head_timeout=10.0))
    await peer.sends(peer.serialize(Headers(1, GET))[:20])
    clock.advance(10)
    await peer.expects(Goaway(0, ErrorCodes.NO_ERROR))
    await peer.expects_end()


@clear_and_tls
async def test_an_idle_connection_is_closed_with_goaway(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock
) -> None:
    peer = await connect.frames(await serve(app, clock=clock, keep_alive_timeout=60.0))
    await exchange(peer, app, 1)
    clock.advance(59)
    await exchange(peer, app, 3)
    clock.advance(59)
    await peer.expects_nothing()
    clock.advance(1)
    await peer.expects(Goaway(3, ErrorCodes.NO_ERROR))
    await peer.expects_end()


@clear
async def test_a_connection_with_a_stream_is_not_idle(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock
) -> None:
    peer = await connect.frames(await serve(app, clock=clock, keep_alive_timeout=60.0))
    await peer.sends(Headers(1, POST))
    call = await app.next_call()
    clock.advance(1000)
    await peer.expects_nothing()
    await peer.sends(Data(1, b"content", end_stream=True))
    assert await call.receive_body() == b"content"
    await answer(peer, call, 1)
    clock.advance(60)
    await peer.expects(Goaway(1, ErrorCodes.NO_ERROR))
    await peer.expects_end()


@clear
async def test_what_a_client_says_after_goaway_does_not_destroy_what_it_has_to_read(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock
) -> None:
    peer = await connect.frames(await serve(app, clock=clock, keep_alive_timeout=60.0))
    await exchange(peer, app, 1)
    clock.advance(60)
    for _ in range(10):  # a close that did not wait for these would make the kernel reset the connection
        await peer.sends(Headers(3, GET, end_stream=True), Ping(), Settings({3: 1}), WindowUpdate(0, 1))
        await turns(1)
    await peer.expects(Goaway(1, ErrorCodes.NO_ERROR))
    await peer.expects_end()
    assert not app.called_again


@clear
async def test_a_client_that_never_hangs_up_is_cut(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock
) -> None:
    peer = await connect.frames(await serve(app, clock=clock, keep_alive_timeout=60.0))
    await exchange(peer, app, 1)
    clock.advance(60)
    await peer.expects(Goaway(1, ErrorCodes.NO_ERROR))
    await peer.expects_end()
    clock.advance(60)
    with pytest.raises(ConnectionError):
        await keep_talking(peer)


# ---------------------------------------------------------------------- the client leaves


@clear
async def test_streams_under_way_finish_when_the_client_says_goaway(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, POST), Headers(3, GET, end_stream=True))
    first, second = await app.next_call(), await app.next_call()
    await peer.sends(Goaway(0, ErrorCodes.NO_ERROR), Data(1, b"content", end_stream=True))
    await answer(peer, second, 3)
    assert await first.receive_body() == b"content"
    await answer(peer, first, 1)
    await peer.expects(Goaway(3, ErrorCodes.NO_ERROR))
    await peer.expects_end()


@clear
@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.PROTOCOL_ERROR, 0xF0F0])
async def test_an_idle_connection_ends_when_the_client_says_goaway(
    serve: Serve, connect: Connect, app: SteeredApp, code: int
) -> None:
    peer = await connect.frames(await serve(app))
    await exchange(peer, app, 1)
    await peer.sends(Goaway(0, code, b"goodbye"))
    await peer.expects(Goaway(1, ErrorCodes.NO_ERROR))
    await peer.expects_end()


@clear
async def test_applications_learn_that_the_client_has_closed_the_connection(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, POST), Headers(3, GET, end_stream=True))
    first, second = await app.next_call(), await app.next_call()
    peer.close()
    assert (await first.receive())["type"] == "http.disconnect"
    await second.receive()
    assert (await second.receive())["type"] == "http.disconnect"
    with pytest.raises(OSError, match="gone"):
        await second.respond(200)


# ---------------------------------------------------------------------- the server stops


@clear_and_tls
async def test_an_idle_connection_is_told_at_once_that_the_server_stops(
    serve: Serve, connect: Connect, app: SteeredApp, stop: Stopping
) -> None:
    peer = await connect.frames(await serve(app))
    await exchange(peer, app, 1)
    await stop()
    await peer.expects(Goaway(1, ErrorCodes.NO_ERROR))
    await peer.expects_end()
    peer.close()


@clear_and_tls
async def test_streams_under_way_finish_before_the_server_stops(
    serve: Serve, connect: Connect, app: SteeredApp, stop: Stopping
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, POST))
    call = await app.next_call()
    await stop()
    await exchange(peer, app, 3)  # is served, for nothing has said that it would not be
    await peer.sends(Data(1, b"content", end_stream=True))
    assert await call.receive_body() == b"content"
    await call.respond(200, body=b"the end")
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"the end", end_stream=True))
    await peer.expects(Goaway(3, ErrorCodes.NO_ERROR))
    await peer.expects_end()
    peer.close()
    call.finish()


@clear
async def test_a_stream_that_takes_long_learns_of_the_end_and_later_ones_are_refused(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock, stop: Stopping
) -> None:
    peer = await connect.frames(await serve(app, clock=clock, graceful_timeout=60.0))
    await peer.sends(Headers(1, GET, end_stream=True))
    call = await app.next_call()
    await stop()
    await peer.expects_nothing()
    clock.advance(ANNOUNCE_SECONDS)
    await peer.expects(Goaway(2**31 - 1, ErrorCodes.NO_ERROR))
    await exchange(peer, app, 3)  # has crossed it
    clock.advance(1)
    await peer.expects(Goaway(3, ErrorCodes.NO_ERROR))
    await peer.sends(Headers(5, POST), Data(5, b"late", end_stream=True))
    await peer.expects(RstStream(5, ErrorCodes.REFUSED_STREAM))
    await answer(peer, call, 1)
    await peer.expects_end()  # two of them are enough
    peer.close()
    assert not app.called_again


@clear
async def test_a_worker_that_was_replaced_serves_what_crosses_its_goodbye(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock
) -> None:
    peer = await connect.frames(await serve(app, clock=clock))
    await exchange(peer, app, 1)
    stopping = asyncio.ensure_future(serve.servers[0]._stop(hold_seconds=1.0))
    await peer.expects(Goaway(2**31 - 1, ErrorCodes.NO_ERROR))
    await exchange(peer, app, 3)
    clock.advance(1)
    await peer.expects(Goaway(3, ErrorCodes.NO_ERROR))
    await peer.expects_end()
    peer.close()
    async with within("the server to stop"):
        await stopping


@clear
async def test_a_short_grace_period_is_announced_halfway(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock, stop: Stopping
) -> None:
    peer = await connect.frames(await serve(app, clock=clock, graceful_timeout=4.0))
    await peer.sends(Headers(1, GET, end_stream=True))
    call = await app.next_call()
    await stop()
    await peer.expects_nothing()
    clock.advance(2)
    await peer.expects(Goaway(2**31 - 1, ErrorCodes.NO_ERROR))
    await answer(peer, call, 1)
    clock.advance(1)
    await peer.expects(Goaway(1, ErrorCodes.NO_ERROR))
    await peer.expects_end()
    peer.close()


@clear
async def test_a_websocket_is_closed_with_the_server_and_its_neighbours_go_on(
    serve: Serve, connect: Connect, app: SteeredApp, stop: Stopping
) -> None:
    peer = await connect.frames(await serve(app))
    handshake = [(b"sec-websocket-version", b"13")]
    await peer.sends(Headers(1, [*EXTENDED, *handshake]), Headers(3, GET, end_stream=True))
    websocket, request = await app.next_call(), await app.next_call()
    await websocket.accept()
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await stop()
    close = await peer.expects(Data(1, ANY))
    assert close.data[2:4] == (1012).to_bytes(2)
    masked = bytes([0x88, 0x82, 0, 0, 0, 0]) + close.data[2:4]
    await peer.sends(Data(1, masked, end_stream=True))
    await peer.expects(Data(1, b"", end_stream=True))
    await answer(peer, request, 3)
    await peer.expects(Goaway(3, ErrorCodes.NO_ERROR))
    await peer.expects_end()
    peer.close()
    websocket.finish()


@clear_and_tls
async def test_defect_12_httpx_finishes_what_it_has_under_way_and_what_follows(
    serve: Serve, app: SteeredApp, stop: Stopping
) -> None:
    url = await serve(app)
    context = authority().client_context()
    async with httpx.AsyncClient(http1=False, http2=True, verify=context) as client:
        under_way = asyncio.ensure_future(client.get(f"{url}/under-way"))
        first = await app.next_call()
        await stop()
        following = asyncio.ensure_future(client.post(f"{url}/following", content=b"content"))
        second = await app.next_call()
        assert await second.receive_body() == b"content"
        await second.respond(200, body=b"following")
        assert (await following).text == "following"
        await first.start()
        await first.body(bytes(100_000), more=True)
        await first.body(b"the end")
        assert (await under_way).content.endswith(b"the end")
        first.finish()
        second.finish()


@clear_and_tls
async def test_defect_12_httpx_makes_a_new_connection_when_an_idle_one_was_closed(
    serve: Serve, app: SteeredApp, clock: ManualClock
) -> None:
    url = await serve(app, clock=clock, keep_alive_timeout=60.0)
    context = authority().client_context()
    async with httpx.AsyncClient(http1=False, http2=True, verify=context) as client:
        for _ in range(3):  # each time on a new connection, for it finds GOAWAY on the old one
            asking = asyncio.ensure_future(client.get(url))
            call = await app.next_call()
            await call.respond(200, body=b"served")
            assert (await asking).text == "served"
            call.finish()
            clock.advance(60)
