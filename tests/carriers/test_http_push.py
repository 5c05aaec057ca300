"""`http.response.push`: responses to requests that the server makes up (RFC 9113, 8.4)."""

from typing import Any

import pytest
from h2.settings import SettingCodes

from alphorn.core.errors import UnexpectedMessage
from support.carrier import HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.conversation import Begin
from support.http2_client import Http2Client, Http2Exchange
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

pytestmark = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)


def push(path: Any = "/style.css", headers: Any = ()) -> dict[str, Any]:
    return {"type": "http.response.push", "path": path, "headers": headers}


async def test_a_push_runs_the_application_for_a_request_of_its_own(
    begin: Begin, app: SteeredApp, carrier: Carrier
) -> None:
    _, exchange, call = await begin("GET", "/page")
    assert isinstance(exchange, Http2Exchange)
    await call.start()
    await call.send(push("/style.css?v=%C3%A9", [(b"Accept", b"text/css")]))
    pushed_call = await app.next_call()
    await pushed_call.respond(200, [(b"content-type", b"text/css")], b"a {}")
    await call.body(b"page")

    assert (await exchange.response()).body == b"page"
    (pushed,) = exchange.pushed
    response = await pushed.response()
    assert (response.body, response.field("content-type")) == (b"a {}", b"text/css")
    scheme = b"https" if carrier.secure else b"http"
    authority = dict(call.scope["headers"])[b"host"]
    assert pushed.pushed_request == [
        (b":method", b"GET"),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", b"/style.css?v=%C3%A9"),
        (b"accept", b"text/css"),
    ]


async def test_the_scope_of_a_push_is_that_of_a_get(begin: Begin, app: SteeredApp, carrier: Carrier) -> None:
    _, exchange, call = await begin("GET", "/page", [(b"host", b"example.org")])
    await call.start()
    await call.send(push("/a%20b?c", [(b"accept", b"text/css")]))
    scope = (await app.next_call()).scope
    await call.body()
    await exchange.wait_closed()

    assert (scope["type"], scope["method"], scope["http_version"]) == ("http", "GET", "2")
    assert scope["scheme"] == ("https" if carrier.secure else "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c")
    assert list(map(tuple, scope["headers"])) == [(b"host", b"example.org"), (b"accept", b"text/css")]
    assert (scope["client"], scope["server"]) == (call.scope["client"], call.scope["server"])
    assert "http.response.push" not in scope["extensions"]


async def test_a_pushed_request_has_no_content(begin: Begin, app: SteeredApp) -> None:
    _, _, call = await begin()
    await call.start()
    await call.send(push())
    pushed = await app.next_call()

    assert await pushed.receive() == {"type": "http.request", "body": b"", "more_body": False}


async def test_several_pushes_may_come_among_the_pieces_of_a_body(begin: Begin, app: SteeredApp) -> None:
    client, exchange, call = await begin()
    assert isinstance(exchange, Http2Exchange)
    await call.start()
    await call.send(push("/one"))
    await call.body(b"half", more=True)
    await call.send(push("/two"))
    for _ in range(2):
        pushed = await app.next_call()
        await pushed.respond(body=pushed.scope["raw_path"])
    await call.body(b"whole")

    assert (await exchange.response()).body == b"halfwhole"
    assert [(await pushed.response()).body for pushed in exchange.pushed] == [b"/one", b"/two"]
    _, exchange2, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange2.response()).body == b"next"


async def test_a_failed_push_harms_nobody(begin: Begin, app: SteeredApp) -> None:
    _, exchange, call = await begin()
    assert isinstance(exchange, Http2Exchange)
    await call.start()
    await call.send(push())
    (await app.next_call()).crash(RuntimeError())
    await call.body(b"page")

    assert (await exchange.response()).body == b"page"
    assert (await exchange.pushed[0].response()).status == 500


async def test_a_client_that_cancels_a_push_ends_only_that(begin: Begin, app: SteeredApp) -> None:
    client, exchange, call = await begin()
    assert isinstance(client, Http2Client)
    assert isinstance(exchange, Http2Exchange)
    await call.start()
    await call.send(push())
    pushed_call = await app.next_call()
    await client.until(lambda: bool(exchange.pushed), "the promise")
    await exchange.pushed[0].abandon()
    await pushed_call.receive_body()
    assert await pushed_call.receive() == {"type": "http.disconnect"}
    await call.body(b"page")

    assert (await exchange.response()).body == b"page"


async def test_a_push_before_the_start_is_refused(begin: Begin, app: SteeredApp) -> None:
    _, exchange, call = await begin()
    with pytest.raises(UnexpectedMessage, match="push' while the response is not started"):
        await call.send(push())
    await call.respond()
    await exchange.wait_closed()

    assert not app.called_again


async def test_a_push_after_the_end_is_ignored(begin: Begin, app: SteeredApp) -> None:
    client, exchange, call = await begin()
    assert isinstance(client, Http2Client)
    await call.respond()
    await call.send(push())
    await exchange.wait_closed()
    await client.ping()

    assert not app.called_again


@pytest.mark.parametrize(
    "path", ["style.css", "", "/a b", "/é", "/a\r\nb", "/a#b", b"/a", None, "https://example.org/"], ids=repr
)
async def test_a_path_that_is_none_is_refused(begin: Begin, app: SteeredApp, path: Any) -> None:
    _, exchange, call = await begin()
    await call.start()
    with pytest.raises(UnexpectedMessage, match="the path of a push"):
        await call.send(push(path))
    await call.body(b"page")

    assert (await exchange.response()).body == b"page"
    assert not app.called_again


async def test_fields_that_cannot_be_sent_are_refused(begin: Begin, app: SteeredApp) -> None:
    _, exchange, call = await begin()
    await call.start()
    with pytest.raises(UnexpectedMessage):
        await call.send(push("/a", [(b"x", b"a\nb")]))
    await call.body(b"page")

    assert (await exchange.response()).body == b"page"
    assert not app.called_again


async def test_nothing_is_pushed_to_a_client_that_has_meanwhile_disabled_it(
    begin: Begin, app: SteeredApp
) -> None:
    client, exchange, call = await begin()
    assert isinstance(client, Http2Client)
    assert isinstance(exchange, Http2Exchange)
    await call.start()
    client.connection.update_settings({SettingCodes.ENABLE_PUSH: 0})
    await client.flush()
    await client.ping()
    await call.send(push())
    await call.body(b"page")

    assert (await exchange.response()).body == b"page"
    await client.ping()
    assert exchange.pushed == []
    assert not app.called_again


async def test_a_push_to_a_client_that_never_allowed_it_is_refused(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http2(await serve(app), settings={SettingCodes.ENABLE_PUSH: 0})
    exchange = await client.request("GET", "/")
    call = await app.next_call()
    await call.start()
    with pytest.raises(UnexpectedMessage, match="not among the extensions"):
        await call.send(push())
    await call.body(b"page")

    assert (await exchange.response()).body == b"page"


async def test_pushes_beyond_what_the_client_wants_at_once_are_not_made(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http2(await serve(app), settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    exchange = await client.request("GET", "/")
    call = await app.next_call()
    await call.start()
    await call.send(push("/one"))
    await call.send(push("/two"))
    pushed = await app.next_call()
    await pushed.respond(body=pushed.scope["raw_path"])
    await call.body(b"page")

    assert (await exchange.response()).body == b"page"
    await client.ping()
    assert [(await pushed.response()).body for pushed in exchange.pushed] == [b"/one"]
    assert not app.called_again
