"""Server push: what is promised, to whom, and that a promise is a stream of its own (RFC 9113, 8.4)."""

from typing import Any

import pytest
from h2.errors import ErrorCodes

from support.carrier import HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.exchange import Fields
from support.frames import (
    ANY,
    GET,
    Data,
    FramePeer,
    Goaway,
    Headers,
    PushPromise,
    RstStream,
    Settings,
    WindowUpdate,
)
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp

clear = pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)
clear_and_tls = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 0x2, 0x3
PUSH = "http.response.push"


async def begin(peer: FramePeer, app: SteeredApp) -> Call:
    """Make a request on stream 1 whose response has begun."""
    await peer.sends(Headers(1, GET, end_stream=True))
    call = await app.next_call()
    await call.start()
    await call.body(b"parent", more=True)
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"parent"))
    return call


async def push(call: Call, path: str, fields: Fields | None = None) -> None:
    """Let the application push."""
    message: dict[str, Any] = {"type": PUSH, "path": path, "headers": fields or []}
    await call.send(message)


@clear_and_tls
async def test_a_push_is_promised_and_its_response_is_the_applications(
    serve: Serve, connect: Connect, app: SteeredApp, carrier: Carrier
) -> None:
    peer = await connect.frames(await serve(app))
    call = await begin(peer, app)
    await push(call, "/style.css?v=1", [(b"accept", b"text/css"), (b"cookie", b"a=1")])
    scheme = "https" if carrier.secure else "http"
    promise = await peer.expects(PushPromise(1, 2, ANY))
    assert promise.fields == [
        (b":method", b"GET"),
        (b":scheme", scheme.encode()),
        (b":authority", b"localhost"),
        (b":path", b"/style.css?v=1"),
        (b"accept", b"text/css"),
        (b"cookie", b"a=1"),
    ]
    pushed = await app.next_call()
    assert pushed.scope["method"] == "GET"
    assert pushed.scope["scheme"] == scheme
    assert (pushed.scope["path"], pushed.scope["query_string"]) == ("/style.css", b"v=1")
    assert pushed.scope["headers"] == [
        (b"host", b"localhost"),
        (b"accept", b"text/css"),
        (b"cookie", b"a=1"),
    ]
    assert await pushed.receive() == {"type": "http.request", "body": b"", "more_body": False}
    await pushed.respond(200, body=b"p {}")
    await peer.expects(Headers(2, [(b":status", b"200")]))
    await peer.expects(Data(2, b"p {}", end_stream=True))
    await call.body()
    await peer.expects(Data(1, b"", end_stream=True))


@clear
async def test_what_a_promised_request_cannot_have_is_left_out(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    call = await begin(peer, app)
    unfit = [
        (b"connection", b"keep-alive"),
        (b"content-length", b"5"),
        (b"expect", b"100-continue"),
        (b"host", b"elsewhere"),
        (b"te", b"gzip"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
    ]
    await push(call, "/", unfit)
    promise = await peer.expects(PushPromise(1, 2, ANY))
    assert [name for name, _ in promise.fields] == [b":method", b":scheme", b":authority", b":path"]
    assert (await app.next_call()).scope["headers"] == [(b"host", b"localhost")]


@clear
async def test_a_client_that_switched_push_off_is_not_pushed_to(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {ENABLE_PUSH: 0})
    call = await begin(peer, app)
    assert PUSH not in call.scope["extensions"]
    with pytest.raises(RuntimeError, match="extensions"):
        await push(call, "/style.css")


@clear
@pytest.mark.parametrize("change", [Settings({ENABLE_PUSH: 0}), Goaway(0, ErrorCodes.NO_ERROR)])
async def test_a_push_after_the_client_has_changed_its_mind_is_silently_nothing(
    serve: Serve, connect: Connect, app: SteeredApp, change: Settings | Goaway
) -> None:
    peer = await connect.frames(await serve(app))
    call = await begin(peer, app)
    await peer.sends(change)
    await peer.expects_nothing()
    await push(call, "/style.css")
    await peer.expects_nothing()
    assert not app.called_again


@clear
async def test_no_more_is_promised_than_the_client_takes_at_once(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {MAX_CONCURRENT_STREAMS: 1})
    call = await begin(peer, app)
    await push(call, "/first")
    await peer.expects(PushPromise(1, 2, ANY))
    first = await app.next_call()
    await push(call, "/second")
    await peer.expects_nothing()
    await first.respond(204)
    await peer.expects(Headers(2, [(b":status", b"204")], end_stream=True))
    await push(call, "/third")
    await peer.expects(PushPromise(1, 4, [(b":path", b"/third")]))
    assert (await app.next_call()).scope["path"] == "/third"


@clear
async def test_pushes_do_not_count_among_the_requests_of_the_client(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, max_streams=2))
    call = await begin(peer, app)
    for number in range(3):
        await push(call, f"/{number}")
        await peer.expects(PushPromise(1, 2 * number + 2, ANY))
        await app.next_call()
    await peer.sends(Headers(3, GET, end_stream=True))
    await (await app.next_call()).respond(204)
    await peer.expects(Headers(3, [(b":status", b"204")], end_stream=True))


@clear
async def test_a_pushed_response_can_neither_push_nor_hint(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    call = await begin(peer, app)
    await push(call, "/style.css")
    await peer.expects(PushPromise(1, 2, ANY))
    pushed = await app.next_call()
    assert pushed.scope["extensions"].keys().isdisjoint((PUSH, "http.response.early_hint"))
    with pytest.raises(RuntimeError, match="extensions"):
        await pushed.send({"type": "http.response.early_hint", "links": [b"</style.css>"]})


@clear
async def test_a_client_may_refuse_a_push_and_nobody_else_notices(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    call = await begin(peer, app)
    await push(call, "/style.css")
    await peer.expects(PushPromise(1, 2, ANY))
    pushed = await app.next_call()
    await peer.sends(RstStream(2, ErrorCodes.CANCEL))
    await pushed.receive()
    assert (await pushed.receive())["type"] == "http.disconnect"
    with pytest.raises(OSError, match="gone"):
        await pushed.respond(200)
    await call.body()
    await peer.expects(Data(1, b"", end_stream=True))


@clear
async def test_a_push_outlives_the_request_that_it_belongs_to(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app), {0x4: 2})
    await peer.sends(Headers(1, GET, end_stream=True))
    call = await app.next_call()
    await call.start()
    await push(call, "/style.css")
    await peer.expects(PushPromise(1, 2, ANY))
    pushed = await app.next_call()
    await peer.sends(RstStream(1, ErrorCodes.CANCEL))
    await pushed.respond(200, body=b"p {}")
    await peer.expects(Headers(2, [(b":status", b"200")]))
    await peer.expects(Data(2, b"p "))
    await peer.sends(WindowUpdate(2, 10))
    await peer.expects(Data(2, b"{}", end_stream=True))


@clear
async def test_a_request_that_was_reset_cannot_push(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    peer = await connect.frames(await serve(app))
    call = await begin(peer, app)
    await push(call, "/first")
    await peer.expects(PushPromise(1, 2, ANY))
    first = await app.next_call()
    await peer.sends(RstStream(2, ErrorCodes.REFUSED_STREAM), RstStream(1, ErrorCodes.CANCEL))
    await first.receive()
    assert (await first.receive())["type"] == "http.disconnect"
    with pytest.raises(OSError, match="gone"):
        await push(call, "/second")
    await peer.expects_nothing()
    assert not app.called_again
