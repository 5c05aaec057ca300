"""Messages and scopes: only the types of the specification go out; what cannot be understood raises out of `send()`."""

import enum
from typing import Any

import pytest

from alphorn.core.errors import AlphornError, UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS
from support.conversation import Begin
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

PLAIN_TYPES = {bytes, str, int, float, list, dict, bool, type(None), tuple}
"""What the specification allows, exactly: a subclass might not survive a trip to another process.

Tuples count as lists there.
"""


def foreign(value: Any, where: str) -> list[str]:
    """Name the parts of a scope or message whose type the specification does not know."""
    if type(value) not in PLAIN_TYPES:
        return [f"{where} is a {type(value).__name__}"]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return [f"{where} has more than 64 bits"]
    found = []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += [] if type(key) is str else [f"{where} has the key {key!r}"]
            found += foreign(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            found += foreign(inner, f"{where}[{index}]")
    return found


def test_what_is_foreign_would_be_found() -> None:
    class Number(enum.IntEnum):
        ONE = 1

    values = [
        {"a": [bytearray()]},
        {"a": memoryview(b"")},
        {b"a": 1},
        {"a": Number.ONE},
        {"a": 2**63},
        {"a": {1}},
    ]
    assert all(foreign(value, "it") for value in values)
    assert not foreign({"a": [(b"", None), 1.5, True, {"b": "c"}]}, "it")


async def test_scopes_and_messages_have_only_the_types_of_the_specification(begin: Begin) -> None:
    fields = [(b"x-name", b"value"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"te", b"trailers")]
    _, exchange, call = await begin("POST", "/a%20b?c=d", fields, b"first", end=False)
    messages = [await call.receive()]
    await exchange.send(b"last", end=True)
    while messages[-1]["type"] == "http.request":
        if not messages[-1]["more_body"]:
            await call.respond(body=b"done")
        messages.append(await call.receive())

    assert foreign(call.scope, "scope") == []
    assert [problem for message in messages for problem in foreign(message, message["type"])] == []
    assert messages[-1] == {"type": "http.disconnect"}


async def test_every_message_is_a_dict_of_its_own(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.receive_body()
    await exchange.abandon()
    first = await call.receive()
    first["spoiled"] = True

    assert await call.receive() == {"type": "http.disconnect"}


NOT_STARTED: dict[str, Any] = {
    "no type": {"status": 200},
    "empty": {},
    "no dict": None,
    "a list": ["http.response.start"],
    "type of another kind": {"type": b"http.response.start", "status": 200},
    "type that is a list": {"type": ["http.response.start"], "status": 200},
    "unknown type": {"type": "http.response.begin"},
    "type of a server": {"type": "http.request", "body": b""},
    "type of a websocket": {"type": "websocket.accept"},
    "debug": {"type": "http.response.debug", "info": {}},
    "body first": {"type": "http.response.body", "body": b"x"},
    "trailers first": {"type": "http.response.trailers", "headers": []},
    "path first": {"type": "http.response.pathsend", "path": "/"},
    "no status": {"type": "http.response.start", "headers": []},
    "status str": {"type": "http.response.start", "status": "200"},
    "status float": {"type": "http.response.start", "status": 200.0},
    "status None": {"type": "http.response.start", "status": None},
    "status 100": {"type": "http.response.start", "status": 100},
    "status 101": {"type": "http.response.start", "status": 101},
    "status 199": {"type": "http.response.start", "status": 199},
    "status 1000": {"type": "http.response.start", "status": 1000},
    "status negative": {"type": "http.response.start", "status": -200},
    "headers None": {"type": "http.response.start", "status": 200, "headers": None},
    "headers dict": {"type": "http.response.start", "status": 200, "headers": {"x": "y"}},
    "headers str": {"type": "http.response.start", "status": 200, "headers": "x: y"},
    "headers int": {"type": "http.response.start", "status": 200, "headers": 3},
}

STARTED: dict[str, Any] = {
    "started again": {"type": "http.response.start", "status": 200},
    "body str": {"type": "http.response.body", "body": "x"},
    "body None": {"type": "http.response.body", "body": None},
    "body int": {"type": "http.response.body", "body": 3},
    "body list": {"type": "http.response.body", "body": [b"x"]},
    "unknown": {"type": "http.response.end"},
}


@pytest.mark.parametrize("message", NOT_STARTED.values(), ids=NOT_STARTED)
async def test_a_bad_message_raises_out_of_send_and_changes_nothing(begin: Begin, message: Any) -> None:
    _, exchange, call = await begin()
    with pytest.raises(UnexpectedMessage) as raised:
        await call._send(message)
    assert isinstance(raised.value, RuntimeError)
    assert not isinstance(raised.value, OSError)
    await call.respond(201, body=b"mended")

    response = await exchange.response()
    assert (response.status, response.body) == (201, b"mended")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("message", STARTED.values(), ids=STARTED)
async def test_a_bad_message_in_the_response_changes_nothing(
    begin: Begin, message: Any, streaming: bool
) -> None:
    _, exchange, call = await begin()
    await call.start()
    if streaming:
        await call.body(b"half", more=True)
    with pytest.raises(UnexpectedMessage):
        await call._send(message)
    await call.body(b"whole")

    response = await exchange.response()
    assert (response.status, response.body) == (200, b"halfwhole" if streaming else b"whole")


async def test_the_error_says_what_would_have_been_legal(begin: Begin) -> None:
    _, _, call = await begin()
    with pytest.raises(AlphornError) as raised:
        await call.body(b"x")

    assert str(raised.value) == (
        "'http.response.body' while the response is not started; "
        "legal: http.response.start, http.response.early_hint"
    )


async def test_unknown_keys_are_ignored(begin: Begin) -> None:
    _, exchange, call = await begin("GET", "/", [(b"te", b"trailers")])
    extra = {"x-later": object(), "more": True}
    await call.send({"type": "http.response.early_hint", "links": [b"</a>"], **extra})
    await call.send({"type": "http.response.start", "status": 200, "trailers": True, **extra})
    await call.send({"type": "http.response.body", "body": b"body", **extra})
    await call.send({"type": "http.response.trailers", "headers": [(b"x-a", b"b")], **extra})

    response = await exchange.response()
    assert (response.body, response.trailers, len(response.informational)) == (b"body", [(b"x-a", b"b")], 1)


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_an_extension_that_the_scope_does_not_have_is_refused(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.start()
    with pytest.raises(UnexpectedMessage, match="push' is not among the extensions of this scope"):
        await call.send({"type": "http.response.push", "path": "/a", "headers": []})
    await call.body(b"body")

    assert (await exchange.response()).body == b"body"


async def test_a_message_may_be_used_again_by_its_application(begin: Begin) -> None:
    """The server keeps nothing of a message and changes nothing in it."""
    start = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]}
    body = {"type": "http.response.body", "body": b"x"}
    client, exchange, call = await begin()
    for _ in range(3):
        await call.send(start)
        await call.send(body)
        response = await exchange.response()
        assert (response.body, response.fields_named("x-a")) == (b"x", [b"b"])
        _, exchange, call = await begin.on(client)

    assert start == {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]}
    assert body == {"type": "http.response.body", "body": b"x"}


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_connect_over_http1_starts_no_application(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    """RFC 9110, 9.3.6: it is for proxies, and no scope could say what it asks for."""
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")

    assert (await exchange.response()).status == 501
    assert not app.called_again


@pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)
async def test_connect_over_http2_starts_no_application(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http2(await serve(app))
    exchange = await client.open([(b":method", b"CONNECT"), (b":authority", b"a:1")], end=True)

    assert (await exchange.response()).status == 501
    assert not app.called_again
