"""Behind HAProxy: whom its fields and its PROXY header name, what else it passes on, and that no client speaks for it."""

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from support import http_client
from support.certificates import Pair, authority
from support.pages import ROOT, Page
from support.proxies import ProxyProcess, Upstream, haproxy
from support.websocket_client import open_websocket

NeedsTool = Callable[[str], str]
Start = Callable[[str], ProxyProcess]

WITH_HTTP, WITHOUT_HTTP = (
    block.text for block in Page(ROOT / "docs" / "guide" / "proxies.md").blocks("haproxy")
)
SPOOFED = [
    (b"x-forwarded-for", b"6.6.6.6"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-forwarded-prefix", b"/evil"),
    (b"forwarded", b"for=6.6.6.6;proto=https;host=evil.example"),
]
PROXY = "127.0.0.2"  # where it comes from, that it is not where the clients come from
TRUSTING: dict[str, Any] = {"port": 0, "trusted_proxies": (PROXY,)}


@pytest.fixture
def start(needs_tool: NeedsTool, tmp_path: Path) -> Start:
    def start(body: str) -> ProxyProcess:
        return haproxy(needs_tool("haproxy"), tmp_path, body)

    return start


@pytest.fixture
def trusting() -> ssl.SSLContext:
    return authority().client_context()


def as_the_guide_says(guide: str, upstream: Upstream, bind: str = "bind {bind}") -> str:
    """A configuration of the guide, on a port of the test's and with the server of the test."""
    for line in guide.splitlines():
        if line.strip().startswith("bind "):
            guide = guide.replace(line.strip(), bind)
    server = f"{upstream.address} source {PROXY}"
    return guide.replace("10.0.0.5:8000", server).replace("10.0.0.5:443", server).rstrip()


def of_tls(certificate: Pair, tmp_path: Path) -> str:
    both = tmp_path / "both.pem"
    both.write_text(Path(certificate.certfile).read_text() + Path(certificate.keyfile).read_text())
    return f"bind {{bind}} ssl crt {both} alpn h2,http/1.1"


# --- As the guide says, with HTTP


async def test_the_client_is_the_one_that_haproxy_names_whatever_that_one_says(start: Start) -> None:
    async with Upstream(**TRUSTING) as upstream:
        with start(as_the_guide_says(WITH_HTTP, upstream)) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            with contextlib.closing(await http_client.connect_http1(url)) as client:
                exchange = await client.request("POST", "/path?query", SPOOFED, content=b"hello")
                assert (await exchange.response()).body == b"hello"
    (scope,) = upstream.scopes
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"
    assert scope["root_path"] == ""
    assert dict(scope["headers"])[b"host"] == b"127.0.0.1:%d" % proxy.port


async def test_tls_that_ends_at_haproxy_is_https(
    start: Start, certificate: Pair, tmp_path: Path, trusting: ssl.SSLContext
) -> None:
    async with Upstream(**TRUSTING) as upstream:
        with start(as_the_guide_says(WITH_HTTP, upstream, of_tls(certificate, tmp_path))) as proxy:
            url = f"https://127.0.0.1:{proxy.port}"
            for connect in (http_client.connect_http1, http_client.connect_http2):
                with contextlib.closing(await connect(url, tls=trusting)) as client:
                    assert (await (await client.request("GET", "/")).response()).status == 200
    assert [scope["scheme"] for scope in upstream.scopes] == ["https", "https"]


async def test_a_websocket_passes(start: Start) -> None:
    async with Upstream(**TRUSTING) as upstream:
        with start(as_the_guide_says(WITH_HTTP, upstream)) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            with contextlib.closing(await http_client.connect_http1(url)) as client:
                websocket = await open_websocket(client)
                await websocket.send("hello")
                assert await websocket.receive() == "hello"
                await websocket.close()
    assert upstream.scopes[0]["scheme"] == "ws"


async def test_connections_of_haproxy_are_kept(start: Start) -> None:
    async with Upstream(port=0) as upstream:
        with start(as_the_guide_says(WITH_HTTP, upstream)) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            with contextlib.closing(await http_client.connect_http1(url)) as client:
                for _ in range(3):
                    await (await client.request("POST", "/", content=b"x")).response()
    assert len({scope["client"] for scope in upstream.scopes}) == 1


# --- As the guide says, without HTTP


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
async def test_the_proxy_protocol_names_the_client(
    start: Start, version: str, secure: bool, certificate: Pair, trusting: ssl.SSLContext
) -> None:
    settings = TRUSTING | {"proxy_protocol": True}
    if secure:
        settings |= {"certfile": (certificate.certfile,), "keyfile": (certificate.keyfile,)}
    async with Upstream(**settings) as upstream:
        body = as_the_guide_says(WITHOUT_HTTP, upstream).replace("send-proxy-v2", version)
        with start(body) as proxy:
            url = f"{'https' if secure else 'http'}://127.0.0.1:{proxy.port}"
            for connect in (http_client.connect_http1, http_client.connect_http2):
                with contextlib.closing(await connect(url, tls=trusting)) as client:
                    await (await client.request("GET", "/", SPOOFED)).response()
                    assert upstream.scopes[-1]["client"] == client.wire._socket.getsockname()
                    assert upstream.scopes[-1]["server"] == ("127.0.0.1", proxy.port)
                    assert upstream.scopes[-1]["scheme"] == ("https" if secure else "http")
    assert [scope["http_version"] for scope in upstream.scopes] == ["1.1", "2"]


async def test_its_health_checks_are_no_clients(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with Upstream(**TRUSTING, proxy_protocol=True) as upstream:
        body = as_the_guide_says(WITHOUT_HTTP, upstream) + " check check-send-proxy inter 50ms"
        with start(body) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            for _ in range(2):
                with contextlib.closing(await http_client.connect_http1(url)) as client:
                    await (await client.request("GET", "/")).response()
    assert not caplog.messages


# --- Other ways

HTTP2 = """
frontend web
    mode http
    bind {bind} FRONT
    use_backend app
backend app
    mode http
    server one UPSTREAM proto h2 ws BACK
"""


async def test_grpc_passes_both_ways_at_once(start: Start) -> None:
    async with Upstream(port=0) as upstream:
        body = HTTP2.replace("FRONT", "proto h2").replace("BACK", "auto")
        with start(body.replace("UPSTREAM", upstream.address)) as proxy:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
                call = channel.stream_stream("/alphorn.test/Echo")()
                for message in (b"one", b"two"):
                    await call.write(message)
                    assert await call.read() == message
                await call.done_writing()
                assert await call.read() is grpc.aio.EOF
                assert await call.code() is grpc.StatusCode.OK
    assert upstream.scopes[0]["http_version"] == "2"


@pytest.mark.parametrize("back", ["h1", "h2"])
async def test_a_websocket_passes_from_http2_and_into_it(
    start: Start, back: str, certificate: Pair, tmp_path: Path, trusting: ssl.SSLContext
) -> None:
    async with Upstream(port=0) as upstream:
        body = HTTP2.replace("    bind {bind} FRONT", "    " + of_tls(certificate, tmp_path))
        body = body.replace("BACK", back).replace("UPSTREAM", upstream.address)
        with start(body) as proxy:
            url = f"https://127.0.0.1:{proxy.port}"
            for connect in (http_client.connect_http1, http_client.connect_http2):
                with contextlib.closing(await connect(url, tls=trusting)) as client:
                    websocket = await open_websocket(client)
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"
                    await websocket.close()
    version = {"h1": "1.1", "h2": "2"}[back]
    assert [scope["http_version"] for scope in upstream.scopes] == [version, version]


async def test_forwarded_is_read_when_it_is_what_is_asked_for(start: Start) -> None:
    body = """
listen web
    mode http
    bind {bind}
    http-request set-header Forwarded "for=%[src];proto=https;host=shop.example"
    server one UPSTREAM source 127.0.0.2
"""
    async with Upstream(forwarded_fields="forwarded", **TRUSTING) as upstream:
        with start(body.replace("UPSTREAM", upstream.address)) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            with contextlib.closing(await http_client.connect_http1(url)) as client:
                await (await client.request("GET", "/", SPOOFED)).response()
    (scope,) = upstream.scopes
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "https"
    assert dict(scope["headers"])[b"host"] == b"shop.example"


async def test_a_proxy_that_is_not_trusted_is_the_client_and_its_fields_are_left(start: Start) -> None:
    async with Upstream(port=0) as upstream:
        with start(as_the_guide_says(WITH_HTTP, upstream)) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            with contextlib.closing(await http_client.connect_http1(url)) as client:
                await (await client.request("GET", "/")).response()
                assert upstream.scopes[0]["client"] != client.wire._socket.getsockname()
    assert (b"x-forwarded-for", b"127.0.0.1") in upstream.scopes[0]["headers"]
