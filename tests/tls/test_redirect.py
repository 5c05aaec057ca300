"""`--redirect-bind` of a real server: clients of http end up on https."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from alphorn.core.errors import ConfigError
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, Carrier
from support.http_client import connect_http1, fetch
from support.serving import Serve
from support.steered_app import SteeredApp
from support.waiting import within


@pytest.fixture
def carrier() -> Carrier:
    return HTTP1_TLS


@pytest.fixture
async def urls(serve: Serve, app: SteeredApp) -> list[str]:
    """The URL of https, then that of http."""
    await serve(app, redirect_bind="127.0.0.1:0")
    return serve.servers[0].urls


def port_of(url: str) -> int | None:
    return urlsplit(url).port


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "QUERY"])
async def test_every_method_is_redirected(urls: list[str], method: str, app: SteeredApp) -> None:
    content = b"content" if method == "POST" else None
    response = await fetch(urls[1], HTTP1_CLEAR, method, "/a%20b/?c=d", content=content)
    assert response.status == 308
    assert response.field("location") == f"https://127.0.0.1:{port_of(urls[0])}/a%20b/?c=d".encode()
    assert response.field("connection") == b"close"
    assert app.calls == []


async def test_the_port_may_be_another_one_for_clients(serve: Serve, app: SteeredApp) -> None:
    await serve(app, redirect_bind=("127.0.0.1:0", "127.0.0.1:0"), redirect_port=443)
    for url in serve.servers[0].urls[1:]:
        assert (await fetch(url, HTTP1_CLEAR)).field("location") == b"https://127.0.0.1/"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a!.test\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n",
    ],
)
async def test_who_does_not_say_where_to_is_told_so(urls: list[str], head: bytes) -> None:
    client = await connect_http1(urls[1])
    response = await (await client.request_raw(head)).response()
    client.close()
    assert response.status == 400
    assert response.field("location") is None


async def test_an_absolute_target_says_the_host(urls: list[str]) -> None:
    client = await connect_http1(urls[1])
    request = b"GET http://a.test:80/x HTTP/1.1\r\nhost: b.test\r\n\r\n"
    response = await (await client.request_raw(request)).response()
    client.close()
    assert response.field("location") == f"https://a.test:{port_of(urls[0])}/x".encode()


async def test_a_client_that_follows_arrives(
    urls: list[str], cafile: str, app: SteeredApp, needs_tool: Callable[[str], str]
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(needs_tool("curl"), "--silent", "--show-error", "--location", "--cacert", cafile),
        *("--data", "content", f"http://localhost:{port_of(urls[1])}/upload"),
        stdout=asyncio.subprocess.PIPE,
    )
    async with within("curl", 20):
        call = await app.next_call()
        assert (call.scope["method"], call.scope["scheme"]) == ("POST", "https")
        assert await call.receive_body() == b"content"
        await call.respond(body=b"arrived")
        output, _ = await process.communicate()
    assert output == b"arrived"


async def test_an_address_in_use_leaves_nothing_open(serve: Serve, app: SteeredApp, urls: list[str]) -> None:
    with pytest.raises(ConfigError, match="the port is in use"):
        await serve(app, redirect_bind=f"127.0.0.1:{port_of(urls[1])}")


async def test_nothing_listens_after_the_stop(serve: Serve, urls: list[str]) -> None:
    client = await connect_http1(urls[1])  # an idle one is not waited for
    async with within("the stop"):
        await serve.servers[0].stop()
    client.close()
    with pytest.raises(ConnectionRefusedError):
        await connect_http1(urls[1])
