"""The HTTP scope: what the application is told about a request and its connection."""

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from h2.settings import SettingCodes

from alphorn.core.asgi import Receive, Scope, Send
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.certificates import authority
from support.conversation import Begin
from support.exchange import Client
from support.http1_client import Http1Client
from support.http2_client import Http2Client
from support.http_client import ALPN
from support.serving import Connect, Serve
from support.steered_app import SteeredApp
from support.wire import Wire

over_http1 = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
over_http2 = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

FILES = {"http.response.pathsend", "http.response.zerocopysend"}


async def test_the_scope_says_what_was_asked_and_how(begin: Begin, carrier: Carrier) -> None:
    _, _, call = await begin("PATCH", "/a?b=c")

    scope = call.scope
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == carrier.http_version
    assert scope["scheme"] == ("https" if carrier.secure else "http")
    assert scope["method"] == "PATCH"
    assert scope["path"] == "/a"
    assert scope["raw_path"] == b"/a"
    assert scope["query_string"] == b"b=c"
    assert scope["root_path"] == ""


async def test_addresses_are_hosts_with_ports_that_are_numbers(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    """Defect 6: a port is an int."""
    url = await serve(app)
    client = await connect(url)
    await client.request("GET", "/")
    scope = (await app.next_call()).scope

    assert list(scope["client"]) == list(client.wire._socket.getsockname())
    assert list(scope["server"]) == ["127.0.0.1", urlsplit(url).port]
    assert all(type(scope[end][1]) is int for end in ("client", "server"))


async def test_on_a_unix_socket_the_server_is_its_path_and_the_client_nobody(
    serve: Serve, app: SteeredApp, carrier: Carrier, tmp_path: Path
) -> None:
    """Defect 6: the server of a unix socket is its whole path, without a port."""
    path = str(tmp_path / "s")
    await serve(app, bind=(f"unix:{path}",), port=8000)
    client = await connect_unix(path, carrier)
    try:
        await client.request("GET", "/")
        scope = (await app.next_call()).scope
    finally:
        client.close()

    assert list(scope["server"]) == [path, None]
    assert scope["client"] is None


async def connect_unix(path: str, carrier: Carrier) -> Client:
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(path)
    connected.setblocking(False)
    wire = Wire(connected)
    if carrier.secure:
        context = authority().client_context(ALPN[carrier.http_version])
        await wire._start_tls(context, "localhost")
    if carrier.http_version == "1.1":
        return Http1Client(wire, b"localhost")
    client = Http2Client(wire, b"localhost")
    await client.start()
    return client


@over_http1
async def test_http_1_0_is_called_so(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    """Defect 6: the version has both its numbers."""
    client = await connect.http1(await serve(app))
    await client.request_raw(b"GET / HTTP/1.0\r\n\r\n")

    assert (await app.next_call()).scope["http_version"] == "1.0"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%20b", "/a b"),
        ("/caf%C3%A9/%E2%82%AC", "/café/€"),
        ("/%ff", "/\ufffd"),
        ("/%2Fa%3Fb%25", "//a?b%"),
        ("/100%", "/100%"),
        ("/a;b=c/", "/a;b=c/"),
        ("//a", "//a"),
        ("/a+b", "/a+b"),
    ],
)
async def test_the_path_is_decoded_once_and_the_raw_path_never(begin: Begin, target: str, path: str) -> None:
    _, _, call = await begin("GET", target + "?q=%20+%C3%A9&r=a?b")

    assert call.scope["path"] == path
    assert call.scope["raw_path"] == target.encode()
    assert call.scope["query_string"] == b"q=%20+%C3%A9&r=a?b"


@pytest.mark.parametrize(("target", "query"), [("/", b""), ("/?", b""), ("/??", b"?")])
async def test_a_query_begins_at_the_first_question_mark(begin: Begin, target: str, query: bytes) -> None:
    _, _, call = await begin("GET", target)

    assert (call.scope["raw_path"], call.scope["query_string"]) == (b"/", query)


async def test_the_path_includes_the_root_path(begin: Begin) -> None:
    _, _, call = await begin("GET", "/users", root_path="/api")

    assert call.scope["root_path"] == "/api"
    assert call.scope["path"] == "/api/users"
    assert call.scope["raw_path"] == b"/users"


async def test_fields_keep_their_order_and_their_duplicates(begin: Begin) -> None:
    fields = [(b"x-b", b"1"), (b"accept", b"a"), (b"x-b", b"2"), (b"x-empty", b""), (b"x-b", b"1")]
    _, _, call = await begin("GET", "/", fields)

    assert [tuple(field) for field in call.scope["headers"] if field[0] != b"host"] == fields


async def test_field_values_are_bytes_of_any_encoding(begin: Begin) -> None:
    _, _, call = await begin("GET", "/", [(b"x-name", "Zoë €".encode())])

    assert (b"x-name", "Zoë €".encode()) in map(tuple, call.scope["headers"])


@over_http1
async def test_field_names_are_in_lower_case(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    client = await connect.http1(await serve(app))
    await client.request_raw(b"GET / HTTP/1.1\r\nHOST: Example.ORG\r\nX-Name:  Value \r\n\r\n")

    headers = (await app.next_call()).scope["headers"]
    assert list(map(tuple, headers)) == [(b"host", b"Example.ORG"), (b"x-name", b"Value")]


@over_http2
async def test_the_authority_becomes_the_first_field_and_no_pseudo_field_is_left(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http2(await serve(app))
    await client.open(
        [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"example.org"),
            (b":path", b"/"),
            (b"accept", b"a"),
            (b"host", b"example.org"),
        ],
        end=True,
    )

    headers = (await app.next_call()).scope["headers"]
    assert list(map(tuple, headers)) == [(b"host", b"example.org"), (b"accept", b"a")]


async def test_crumbs_of_a_cookie_are_joined_where_a_client_may_break_it(
    begin: Begin, carrier: Carrier
) -> None:
    """RFC 9113, 8.2.3; in HTTP/1.1 they are separate fields, and stay so."""
    _, _, call = await begin("GET", "/", [(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2; c=3")])

    cookies = [value for name, value in call.scope["headers"] if name == b"cookie"]
    assert cookies == ([b"a=1; b=2; c=3"] if carrier.http_version == "2" else [b"a=1", b"b=2; c=3"])


async def test_a_method_of_the_applications_own_is_passed_on(begin: Begin) -> None:
    _, _, call = await begin("PURGE", "/")

    assert call.scope["method"] == "PURGE"


async def test_a_method_that_is_not_in_upper_case_is_not_implemented(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    """Methods are case-sensitive (RFC 9110, 9.1) and a scope has them in upper case: it cannot say `get`."""
    client = await connect(await serve(app))
    exchange = await client.request("get", "/")

    assert (await exchange.response()).status == 501
    assert not app.called_again


@pytest.mark.parametrize(
    "fields",
    [b"", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nHost: b\r\n", b"Host: a b\r\n", b"Host: a/b\r\n"],
    ids=["none", "twice", "two", "space", "slash"],
)
@over_http1
async def test_a_request_without_exactly_one_host_is_refused(
    serve: Serve, connect: Connect, app: SteeredApp, fields: bytes
) -> None:
    """Defect 13: a missing or second Host is no request (RFC 9112, 3.2)."""
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")

    assert (await exchange.response()).status == 400
    assert not app.called_again


@pytest.mark.parametrize(
    "authorities",
    [
        [],
        [(b":authority", b"")],
        [(b":authority", b"a"), (b"host", b"b")],
        [(b"host", b"a"), (b"host", b"b")],
        [(b":authority", b"a b")],
    ],
    ids=["none", "empty", "contradicted", "two", "space"],
)
@over_http2
async def test_a_request_without_exactly_one_authority_is_refused(
    serve: Serve,
    connect: Connect,
    app: SteeredApp,
    authorities: list[tuple[bytes, bytes]],
) -> None:
    """Defect 13: the same over HTTP/2 (RFC 9113, 8.3.1)."""
    client = await connect.http2(await serve(app))
    # h2 would not send it.
    client.connection.config.validate_outbound_headers = False
    client.connection.config.normalize_outbound_headers = False
    exchange = await client.open(
        [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), *sorted(authorities)], end=True
    )

    await exchange.wait_reset()
    assert not app.called_again


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    ],
    ids=["length-and-chunked", "chunked-and-length", "bare-lf", "one-bare-lf"],
)
@over_http1
async def test_a_head_that_two_parties_could_read_differently_is_refused(
    serve: Serve, connect: Connect, app: SteeredApp, head: bytes
) -> None:
    """Defect 13: bare LF, and content-length beside transfer-encoding."""
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(head)

    assert (await exchange.response()).status == 400
    await client.wait_closed()
    assert not app.called_again


class Stateful(SteeredApp):
    """Leaves something in the lifespan state."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["pool"] = self.pool
        await super().__call__(scope, receive, send)


async def test_state_is_a_shallow_copy_of_the_lifespan_state_for_each_request(
    serve: Serve, connect: Connect
) -> None:
    app = Stateful()
    client = await connect(await serve(app))
    begin = Begin(serve, connect, app)
    _, first_exchange, first = await begin.on(client)
    first.scope["state"]["user"] = "first"
    first.scope["state"]["pool"].append("seen by all")
    await first.respond()
    await first_exchange.wait_closed()
    _, _, second = await begin.on(client)

    assert second.scope["state"] == {"pool": ["seen by all"]}
    assert second.scope["state"]["pool"] is app.pool


async def test_what_an_application_does_to_its_scope_no_other_request_sees(begin: Begin) -> None:
    client, exchange, first = await begin("GET", "/", [(b"x", b"y")])
    pristine = {key: list(value) if key == "headers" else value for key, value in first.scope.items()}
    spoil(first.scope)
    await first.respond()
    await exchange.wait_closed()
    _, _, second = await begin.on(client, "GET", "/", [(b"x", b"y")])

    assert {key: list(value) if key == "headers" else value for key, value in second.scope.items()} == {
        **pristine,
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "state": {},
        "extensions": second.scope["extensions"],
    }
    assert all("spoiled" not in value for value in second.scope["extensions"].values())
    assert "spoiled" not in second.scope["extensions"]


def spoil(value: Any) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            spoil(inner)
        value["spoiled"] = {}
    elif isinstance(value, list):
        value.append((b"spoiled", b""))


async def test_extensions_are_advertised_exactly_where_they_work(begin: Begin, carrier: Carrier) -> None:
    _, _, call = await begin()

    expected = FILES | {"http.response.early_hint", "http.response.trailers"}
    if carrier.http_version == "2":
        expected |= {"http.response.push"}
    if carrier.secure:
        expected |= {"tls"}
    assert set(call.scope["extensions"]) == expected
    assert all(isinstance(value, dict) for value in call.scope["extensions"].values())


@over_http1
async def test_http_1_0_has_no_extension_that_it_would_not_understand(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http1(await serve(app))
    await client.request_raw(b"GET / HTTP/1.0\r\n\r\n")

    assert set((await app.next_call()).scope["extensions"]) - {"tls"} == FILES


@over_http2
async def test_push_is_not_advertised_to_a_client_that_disabled_it(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http2(await serve(app), settings={SettingCodes.ENABLE_PUSH: 0})
    await client.request("GET", "/")

    assert "http.response.push" not in (await app.next_call()).scope["extensions"]
