"""Behind a proxy: what a trusted one says reaches the application, what anybody else says does not."""

import asyncio
from typing import Any

import pytest

from alphorn.core.asgi import Fields
from support.carrier import HTTP2_CLEAR, HTTP2_TLS
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

SAID: Fields = [
    (b"x-forwarded-for", b"6.6.6.6, 198.51.100.7, 10.0.0.2"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"shop.example"),
    (b"x-forwarded-prefix", b"/shop"),
]
TRUST: dict[str, Any] = {"trusted_proxies": ("127.0.0.1", "10.0.0.0/8")}


async def test_a_trusted_proxy_is_believed(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    client = await connect(await serve(app, root_path="/app", **TRUST))
    await client.request("GET", "/a%20b?c", SAID)
    scope = (await app.next_call()).scope
    assert scope["client"] == ("198.51.100.7", 0)
    assert scope["scheme"] == "https"
    assert scope["headers"][0] == (b"host", b"shop.example")
    assert [name for name, _ in scope["headers"]].count(b"host") == 1
    assert scope["root_path"] == "/app/shop"
    assert scope["path"] == "/app/shop/a b"
    assert scope["raw_path"] == b"/a%20b"
    assert set(SAID) <= set(scope["headers"])


async def test_what_an_untrusted_peer_says_stays_in_the_fields_and_changes_nothing(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect(await serve(app, trusted_proxies=("10.0.0.0/8",)))
    await client.request("GET", "/", SAID)
    scope = (await app.next_call()).scope
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == ("https" if connect.carrier.secure else "http")
    assert scope["headers"][0][1] != b"shop.example"
    assert scope["root_path"] == ""
    assert set(SAID) <= set(scope["headers"])


async def test_nobody_is_trusted_by_default(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    client = await connect(await serve(app))
    await client.request("GET", "/", SAID)
    assert (await app.next_call()).scope["client"][0] == "127.0.0.1"


async def test_the_other_family_of_fields_is_not_read(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect(await serve(app, forwarded_fields="forwarded", **TRUST))
    await client.request(
        "GET", "/", [*SAID, (b"forwarded", b"for=203.0.113.9;proto=http;host=other.example")]
    )
    scope = (await app.next_call()).scope
    assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 0), "http")
    assert scope["headers"][0] == (b"host", b"other.example")


async def test_a_host_that_is_not_served_is_misdirected(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect(await serve(app, allowed_hosts=("example.com", "*.example.org")))
    exchange = await client.request("GET", "/")
    assert (await exchange.response()).status == 421
    assert not app.calls


async def test_the_host_that_a_proxy_names_is_the_one_that_counts(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect(await serve(app, allowed_hosts=("shop.example",), **TRUST))
    await client.request("GET", "/", SAID)
    assert (await app.next_call()).scope["headers"][0] == (b"host", b"shop.example")


@pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)
async def test_a_websocket_is_told_the_same(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    url = await serve(app, **TRUST)
    opening = asyncio.ensure_future(connect.websocket(url, "/", fields=SAID))
    call = await app.next_call()
    assert (call.scope["client"], call.scope["scheme"]) == (("198.51.100.7", 0), "wss")
    await call.accept()
    await opening
