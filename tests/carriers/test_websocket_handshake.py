"""The opening handshake of a WebSocket: what the application learns, and how it says yes."""

import asyncio
from collections.abc import Sequence

import pytest

from alphorn.core.asgi import Field
from alphorn.core.errors import UnexpectedMessage
from alphorn.core.websocket import WebSocketExchange
from alphorn.protocols.http1 import Http1Connection
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.conversation import Begin, settled
from support.exchange import Client, ClientExchange
from support.frames import ANY, PREFACE, Data, Headers, RstStream, Settings
from support.http2_client import Http2Client
from support.serving import Connect, Serve
from support.steered_app import SteeredApp
from support.talk import BeginTalk
from support.waiting import stays_pending
from support.websocket_client import WebSocketClient, frame

# Each of many cases once over each version of HTTP; TLS carries the same bytes.
in_the_clear = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
over_http1 = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
over_http2 = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")
UPGRADE = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
EXTENDED_CONNECT = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":authority", b"localhost"),
    (b":path", b"/"),
    VERSION,
]


TEXT_FRAME = b"\x81\x82\0\0\0\0hi"
PING_FRAME = b"\x89\x85\0\0\0\0early"
BINARY = 2
ONE_READ = 256 * 1024
"""As much as the event loops read at once, in bytes."""


def handshake_fields(version: Sequence[Field] = (VERSION,), key: Sequence[Field] = (KEY,)) -> list[Field]:
    return [*UPGRADE, *version, *key]


async def test_the_scope_says_who_knocks_and_where(talk: BeginTalk, carrier: Carrier) -> None:
    client, call, _ = await talk.knock(
        "/caf%C3%A9?a=1&b", fields=[(b"cookie", b"k=v"), (b"x-two", b"1"), (b"x-two", b"2")], root_path="/api"
    )
    scope = call.scope
    headers = scope["headers"]

    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == carrier.http_version
    assert scope["scheme"] == ("wss" if carrier.secure else "ws")
    assert scope["path"] == "/api/café"
    assert scope["raw_path"] == b"/caf%C3%A9"
    assert scope["query_string"] == b"a=1&b"
    assert scope["root_path"] == "/api"
    assert headers[0] == (b"host", client.authority)
    assert [pair for pair in headers if pair[0] in (b"cookie", b"x-two")] == [
        (b"cookie", b"k=v"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
    ]
    assert not any(name.startswith(b":") for name, _ in headers)
    assert all(type(name) is bytes and type(value) is bytes for name, value in headers)
    assert list(scope["client"]) == list(client.wire._socket.getsockname())
    assert scope["subprotocols"] == []
    assert scope["extensions"]["websocket.http.response"] == {}
    assert ("tls" in scope["extensions"]) is carrier.secure
    assert "method" not in scope


@over_http2
async def test_defect_1_what_is_advertised_as_websocket_over_http2_reaches_the_application_as_one(
    talk: BeginTalk,
) -> None:
    """Defect 1: an extended CONNECT is no ordinary HTTP request (RFC 8441)."""
    client, call, answer = await talk.knock()
    assert isinstance(client, Http2Client)
    assert (await client.settings()).enable_connect_protocol
    assert call.scope["type"] == "websocket"

    await call.accept()
    websocket = await answer
    await websocket.send("hello")

    assert websocket.head.status == 200
    assert await call.receive() == {"type": "websocket.receive", "text": "hello"}


async def test_the_application_is_asked_before_the_client_is_answered(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()

    assert await call.receive() == {"type": "websocket.connect"}
    assert await stays_pending(answer)
    await call.send({"type": "websocket.accept"})

    assert (await answer).accepted


async def test_subprotocols_are_split_at_commas_and_one_is_chosen(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock(
        subprotocols=["chat", "superchat"], fields=[(b"sec-websocket-protocol", b"v2,,v1")]
    )
    assert call.scope["subprotocols"] == ["chat", "superchat", "v2", "v1"]

    await call.accept("superchat")

    assert (await answer).subprotocol == "superchat"


async def test_without_a_choice_no_subprotocol_is_named(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock(subprotocols=["chat"])

    await call.accept()

    assert (await answer).subprotocol is None


@in_the_clear
@pytest.mark.parametrize("chosen", ["soap", "", b"chat", 1])
async def test_a_subprotocol_that_was_not_offered_is_refused(talk: BeginTalk, chosen: object) -> None:
    _, call, answer = await talk.knock(subprotocols=["chat"])
    await call.receive()

    with pytest.raises(UnexpectedMessage, match="subprotocol"):
        await call.send({"type": "websocket.accept", "subprotocol": chosen})
    await call.send({"type": "websocket.accept", "subprotocol": "chat"})

    assert (await answer).subprotocol == "chat"


async def test_defect_7_headers_of_accept_reach_the_client(talk: BeginTalk) -> None:
    """Defect 7: cookies set while accepting, among others."""
    _, call, answer = await talk.knock()

    await call.accept(fields=[(b"set-cookie", b"a=1"), (b"X-Mixed", b" v "), (b"set-cookie", b"b=2")])
    head = (await answer).head

    assert head.fields_named("set-cookie") == [b"a=1", b"b=2"]
    assert head.field("x-mixed") == b"v"
    assert head.field("server") == b"alphorn"
    assert head.field("date") is not None


async def test_an_application_that_names_itself_is_not_named_twice(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()

    await call.accept(fields=[(b"server", b"mine"), (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")])
    head = (await answer).head

    assert head.field("server") == b"mine"
    assert head.field("date") == b"Thu, 01 Jan 1970 00:00:00 GMT"


async def test_what_only_the_server_says_is_not_taken_from_the_headers_of_accept(
    talk: BeginTalk, carrier: Carrier
) -> None:
    _, call, answer = await talk.knock()
    own = [
        (b"connection", b"close"),
        (b"content-length", b"5"),
        (b"keep-alive", b"1"),
        (b"sec-websocket-accept", b"no"),
        (b"sec-websocket-extensions", b"x-none"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
    ]

    await call.accept(fields=own)
    websocket = await answer
    names = [name for name, _ in websocket.head.fields]

    assert not {b"content-length", b"keep-alive", b"sec-websocket-extensions", b"transfer-encoding"} & {
        *names
    }
    assert (websocket.head.field("upgrade") == b"websocket") is (carrier.http_version == "1.1")
    await websocket.send("works")
    assert (await call.receive())["text"] == "works"


@in_the_clear
@pytest.mark.parametrize(
    "headers",
    [
        [(b"sec-websocket-protocol", b"chat")],
        [(b"x", b"a\r\nset-cookie: b")],
        [(b"x y", b"a")],
        [("x", b"a")],
        [(b"x", "a")],
        [b"x"],
        5,
    ],
    ids=repr,
)
async def test_headers_that_cannot_be_sent_are_refused_before_anything_is(
    talk: BeginTalk, headers: object
) -> None:
    _, call, answer = await talk.knock(subprotocols=["chat"])
    await call.receive()

    with pytest.raises(UnexpectedMessage):
        await call.send({"type": "websocket.accept", "headers": headers})
    assert await stays_pending(answer, 0.02)
    await call.send({"type": "websocket.accept", "unknown": "is ignored"})

    assert (await answer).accepted


@in_the_clear
@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "too early"},
        {"type": "websocket.http.response.body"},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.receive", "text": "wrong way"},
        {"type": None},
        {"type": ["websocket.accept"]},
    ],
    ids=repr,
)
async def test_a_message_that_is_not_legal_yet_names_those_that_are(
    talk: BeginTalk, message: dict[str, object]
) -> None:
    _, call, answer = await talk.knock()
    await call.receive()

    with pytest.raises(UnexpectedMessage):
        await call.send(message)
    with pytest.raises(UnexpectedMessage, match=r"websocket\.accept, websocket\.close"):
        await call.send({"type": "websocket.send", "text": "too early"})
    await call.send({"type": "websocket.accept"})

    assert (await answer).accepted


async def test_accepting_twice_is_refused(talk: BeginTalk) -> None:
    websocket, call = await talk()

    with pytest.raises(UnexpectedMessage, match=r"is open; legal: websocket\.send, websocket\.close"):
        await call.send({"type": "websocket.accept"})
    await websocket.send("still there")

    assert (await call.receive())["text"] == "still there"


async def test_messages_sent_before_the_answer_are_kept_for_the_application(
    serve: Serve, app: SteeredApp, connect: Connect
) -> None:
    client = await connect(await serve(app))
    answer = asyncio.ensure_future(hasty_handshake(client, b"".join([TEXT_FRAME, PING_FRAME, TEXT_FRAME])))
    call = await app.next_call()
    await call.accept()
    websocket = await answer

    assert [await call.receive(), await call.receive()] == [{"type": "websocket.receive", "text": "hi"}] * 2
    await websocket.ping(b"later")
    assert websocket.pongs == [b"early", b"later"]


async def test_messages_sent_before_the_answer_are_held_as_far_as_the_window(
    serve: Serve, app: SteeredApp, connect: Connect
) -> None:
    window = 64 * 1024
    client = await connect(await serve(app, stream_window=window))
    message = bytes(16 * 1024 * 1024)
    answer = asyncio.ensure_future(hasty_handshake(client, frame(BINARY, message)))
    call = await app.next_call()
    await settled(lambda: client.wire.sent)
    assert await stays_pending(answer)
    worker = serve.servers[0]._running._worker  # type: ignore[union-attr]
    (connection,) = worker.connections
    (exchange,) = worker.dispatcher.running
    assert isinstance(exchange, WebSocketExchange)
    held = len(connection._buffer) if isinstance(connection, Http1Connection) else len(exchange._early or b"")
    assert 0 < held <= window + ONE_READ

    await call.accept()
    assert (await call.receive())["bytes"] == message
    await answer


async def hasty_handshake(client: Client, frames: bytes) -> WebSocketClient:
    """Send frames behind the handshake, without waiting for its answer."""
    exchange: ClientExchange
    if isinstance(client, Http2Client):
        await client.settings()
        exchange = await client.open(EXTENDED_CONNECT)
        await exchange.send(frames)
    else:
        exchange = await client.request("GET", "/", handshake_fields())
        await client.send_raw(frames)
    return WebSocketClient(exchange, await exchange.head(), accepted=True, extension=None)


async def test_handshakes_share_an_http2_connection_with_requests(
    serve: Serve, app: SteeredApp, connect: Connect, talk: BeginTalk
) -> None:
    """Over HTTP/1.1 each has its own; the second is then a connection more."""
    url = await serve(app)
    first = await connect(url)
    second = first if isinstance(first, Http2Client) else await connect(url)
    one, call_one = await talk.on(first)
    two, call_two = await talk.on(second)

    await one.send("to one")
    await two.send("to two")

    assert (await call_one.receive())["text"] == "to one"
    assert (await call_two.receive())["text"] == "to two"


# ------------------------------------------------------------------ what is no handshake


@over_http1
@pytest.mark.parametrize(
    "version",
    [[], [(b"sec-websocket-version", b"8")], [(b"sec-websocket-version", b"13, 8")], [VERSION, VERSION]],
    ids=["none", "8", "list", "twice"],
)
async def test_another_version_is_refused_with_the_one_that_works(
    serve: Serve, app: SteeredApp, connect: Connect, version: list[Field]
) -> None:
    """RFC 6455, 4.4; RFC 9110, 15.5.22 and 7.8."""
    response = await connect.fetch(await serve(app), "GET", "/", handshake_fields(version))

    assert response.status == 426
    assert response.field("sec-websocket-version") == b"13"
    assert response.field("upgrade") == b"websocket"
    assert b"upgrade" in response.fields_named("connection")
    assert not app.called_again


@over_http2
@pytest.mark.parametrize("version", [[], [(b"sec-websocket-version", b"8")]], ids=["none", "8"])
async def test_another_version_is_refused_with_the_one_that_works_over_http2(
    serve: Serve, app: SteeredApp, connect: Connect, version: list[Field]
) -> None:
    peer = await connect.frames(await serve(app))

    await peer.sends(Headers(1, EXTENDED_CONNECT[:-1] + version))

    await peer.expects(Headers(1, [(b":status", b"426"), (b"sec-websocket-version", b"13")], end_stream=True))
    assert not app.called_again


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
@pytest.mark.parametrize(
    "key",
    [
        [],
        [KEY, KEY],
        [(b"sec-websocket-key", b"")],
        [(b"sec-websocket-key", b"c2hvcnQ=")],
        [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZSwgYnV0IGxvbmdlcg==")],
        [(b"sec-websocket-key", b"!GhlIHNhbXBsZSBub25jZQ==")],
        [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=x")],
    ],
    ids=["none", "twice", "empty", "short", "long", "no base64", "bad end"],
)
async def test_a_key_that_is_not_16_bytes_in_base64_is_refused(
    serve: Serve, app: SteeredApp, connect: Connect, key: list[Field]
) -> None:
    """RFC 6455, 4.2.1."""
    response = await connect.fetch(await serve(app), "GET", "/", handshake_fields(key=key))

    assert response.status == 400
    assert not app.called_again


@over_http1
@pytest.mark.parametrize(
    ("method", "fields", "content"),
    [
        ("GET", handshake_fields(), b"content"),
        ("POST", handshake_fields(), None),
        ("GET", [(b"upgrade", b"websocket"), KEY, VERSION], None),
        ("GET", [(b"connection", b"upgrade"), KEY, VERSION], None),
        ("GET", [(b"upgrade", b"h2c"), (b"connection", b"upgrade"), KEY, VERSION], None),
    ],
    ids=["content", "POST", "no connection", "no upgrade", "h2c"],
)
async def test_an_upgrade_that_is_no_handshake_is_ignored(
    begin: Begin, method: str, fields: list[Field], content: bytes | None
) -> None:
    """RFC 9110, 7.8: a server may ignore what it does not want to switch to."""
    _, exchange, call = await begin(method, "/", fields, content)

    assert call.scope["type"] == "http"
    await call.respond(200, body=b"plain")
    assert (await exchange.response()).body == b"plain"


@over_http1
async def test_a_handshake_in_http_1_0_is_an_ordinary_request(
    serve: Serve, app: SteeredApp, connect: Connect
) -> None:
    """RFC 9110, 7.8: an upgrade in HTTP/1.0 is ignored."""
    client = await connect.http1(await serve(app))
    fields = b"".join(b"%s: %s\r\n" % field for field in handshake_fields())
    exchange = await client.request_raw(b"GET / HTTP/1.0\r\nhost: localhost\r\n" + fields + b"\r\n")
    call = await app.next_call()

    assert call.scope["type"] == "http"
    await call.respond(200)
    assert (await exchange.response()).status == 200


@over_http2
async def test_an_extended_connect_for_another_protocol_is_refused_by_itself(
    serve: Serve, app: SteeredApp, connect: Connect
) -> None:
    """RFC 8441, 4 and RFC 9220, 3: 501."""
    peer = await connect.frames(await serve(app))
    peer.skips += (RstStream,)  # of the first stream, with NO_ERROR
    other = [(name, b"connect-udp" if name == b":protocol" else value) for name, value in EXTENDED_CONNECT]

    await peer.sends(Headers(1, other), Headers(3, EXTENDED_CONNECT))
    await peer.expects(Headers(1, [(b":status", b"501")], end_stream=True))
    call = await app.next_call()
    await call.accept()

    await peer.expects(Headers(3, [(b":status", b"200")]))
    assert not app.called_again


@over_http2
async def test_an_extended_connect_need_not_wait_for_our_settings(
    serve: Serve, app: SteeredApp, connect: Connect
) -> None:
    """A client may know from before that this server speaks RFC 8441."""
    peer = await connect.frames(await serve(app), start=False)
    await peer.sends(PREFACE, Settings({}), Headers(1, EXTENDED_CONNECT))
    call = await app.next_call()
    await call.accept()

    await peer.expects(Headers(1, [(b":status", b"200")]))
    await call.send({"type": "websocket.send", "text": "hi"})
    await peer.expects(Data(1, b"\x81\x02hi"))
    assert peer.server_settings[0x8] == 1


@over_http2
async def test_a_handshake_that_ends_its_stream_is_over(
    serve: Serve, app: SteeredApp, connect: Connect
) -> None:
    peer = await connect.frames(await serve(app))
    await peer.sends(Headers(1, EXTENDED_CONNECT))
    call = await app.next_call()
    await peer.sends(Data(1, end_stream=True))
    await peer.expects(RstStream(1, ANY))

    assert await call.receive() == {"type": "websocket.connect"}
    assert (await call.receive())["type"] == "websocket.disconnect"
    with pytest.raises(OSError, match="gone"):
        await call.send({"type": "websocket.accept"})
