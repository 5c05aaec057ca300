"""The frames of a response: what is left out, what is added, how it fails (RFC 9113, 8.1; RFC 9110)."""

import asyncio

import pytest
from h2.errors import ErrorCodes

from support.carrier import HTTP2_CLEAR
from support.exchange import Fields
from support.frames import ANY, GET, POST, Data, Headers, RstStream
from support.http2_requests import replacing
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

pytestmark = pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)

HEAD: Fields = replacing(b":method", b"HEAD")


@pytest.mark.parametrize(
    ("request_fields", "status"), [(HEAD, 200), (HEAD, 404), (GET, 204), (GET, 205), (GET, 304)], ids=repr
)
async def test_what_has_no_content_ends_with_its_head_whatever_the_application_sends(
    serve: Serve, connect: Connect, app: SteeredApp, request_fields: Fields, status: int
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, request_fields, end_stream=True))
    call = await app.next_call()
    await call.start(status)
    await call.body(b"content", more=True)
    await call.body(b"and more")
    await peer.expects(Headers(1, [(b":status", b"%d" % status)], end_stream=True))
    await peer.expects_nothing()


async def test_an_empty_response_is_one_frame(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, GET, end_stream=True))
    await (await app.next_call()).respond(200)
    head = await peer.expects(Headers(1, [(b":status", b"200"), (b"content-length", b"0")], end_stream=True))
    assert head.fields[0] == (b":status", b"200")


async def test_fields_of_a_connection_are_left_out_and_names_are_in_lower_case(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app, server_header="here"))
    await peer.sends(Headers(1, GET, end_stream=True))
    fields = [
        (b"Connection", b"close"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"TE", b"trailers"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"X-Mine", b"kept"),
    ]
    await (await app.next_call()).respond(200, fields, b"x")
    head = await peer.expects(Headers(1, ANY))
    assert [name for name, _ in head.fields] == [b":status", b"x-mine", b"date", b"server", b"content-length"]
    assert (b"server", b"here") in head.fields


async def test_a_head_larger_than_a_frame_is_continued(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, GET, end_stream=True))
    large = [(b"x-%d" % number, bytes([33 + number]) * 10_000) for number in range(5)]
    await (await app.next_call()).respond(200, large)
    await peer.expects(Headers(1, [(b":status", b"200"), *large], end_stream=True))


async def test_early_hints_come_before_the_head(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, GET, end_stream=True))
    call = await app.next_call()
    await call.send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>"]})
    hint = await peer.expects(Headers(1, ANY))
    assert hint.fields == [
        (b":status", b"103"),
        (b"link", b"</a.css>; rel=preload"),
        (b"link", b"</b.js>"),
    ]
    await call.respond(200)
    await peer.expects(Headers(1, [(b":status", b"200")], end_stream=True))


async def test_100_continue_is_sent_once_and_only_when_the_application_waits_for_content(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    expecting = [*POST, (b"expect", b"100-continue")]
    await peer.sends(Headers(1, expecting), Headers(3, expecting), Headers(5, expecting), Data(5, b"at once"))
    reading, refusing, hasty = await app.next_call(), await app.next_call(), await app.next_call()
    await peer.expects_nothing()

    await refusing.respond(403)
    await peer.expects(Headers(3, [(b":status", b"403")], end_stream=True))
    assert (await hasty.receive())["body"] == b"at once"
    rest = asyncio.ensure_future(hasty.receive_body())
    await peer.expects_nothing()
    await peer.sends(Data(5, end_stream=True))
    assert await rest == b""

    async def read_in_parts() -> list[bytes]:
        return [(await reading.receive())["body"] for _ in range(2)]

    parts = asyncio.ensure_future(read_in_parts())
    await peer.expects(Headers(1, [(b":status", b"100")]))
    await peer.sends(Data(1, b"first"))
    await peer.expects_nothing()
    await peer.sends(Data(1, b"second", end_stream=True))
    assert await parts == [b"first", b"second"]
    await reading.respond(200)
    await peer.expects(Headers(1, [(b":status", b"200")], end_stream=True))


async def test_trailers_go_to_those_who_asked_for_them(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    trailers = {"type": "http.response.trailers", "headers": [(b"X-Digest", b"0"), (b"connection", b"x")]}
    await peer.sends(Headers(1, [*GET, (b"te", b"trailers")], end_stream=True))
    call = await app.next_call()
    await call.start(trailers=True)
    await call.body(b"content")
    await call.send(trailers)
    await peer.expects(Headers(1, [(b":status", b"200")]))
    await peer.expects(Data(1, b"content"))
    assert (await peer.expects(Headers(1, ANY, end_stream=True))).fields == [(b"x-digest", b"0")]

    await peer.sends(Headers(3, GET, end_stream=True))
    call = await app.next_call()
    await call.start(trailers=True)
    await call.body(b"content")
    await call.send(trailers)
    await peer.expects(Headers(3, [(b":status", b"200")]))
    await peer.expects(Data(3, b"content"))
    await peer.expects(Data(3, b"", end_stream=True))


async def test_an_application_that_dies_before_its_head_makes_a_500_and_later_a_reset(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, GET, end_stream=True), Headers(3, GET, end_stream=True))
    early, late = await app.next_call(), await app.next_call()
    await early.start()
    early.crash(ValueError("private"))
    await peer.expects(Headers(1, [(b":status", b"500")]))
    assert b"private" not in await peer.expects_body(1)

    await late.start()
    await late.body(b"the beginning", more=True)
    await peer.expects(Headers(3, [(b":status", b"200")]))
    await peer.expects(Data(3, b"the beginning"))
    late.crash(ValueError("private"))
    await peer.expects(RstStream(3, ErrorCodes.INTERNAL_ERROR))
    await peer.expects_nothing()


async def test_content_shorter_than_announced_never_looks_complete(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, GET, end_stream=True))
    call = await app.next_call()
    await call.start(200, [(b"content-length", b"10")])
    await call.body(b"four", more=True)
    await peer.expects(Headers(1, [(b":status", b"200"), (b"content-length", b"10")]))
    await peer.expects(Data(1, b"four"))
    with pytest.raises(RuntimeError, match="shorter"):
        await call.body()
    call.finish()
    await peer.expects(RstStream(1, ErrorCodes.INTERNAL_ERROR))
