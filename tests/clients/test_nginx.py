"""Behind nginx: whom its fields name, what else it passes on, and that no client can speak for it."""

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
from support.proxies import ProxyProcess, Upstream, nginx, stream_module
from support.waiting import within
from support.websocket_client import open_websocket

NeedsTool = Callable[[str], str]
Start = Callable[[str], ProxyProcess]

(GUIDE,) = (block.text for block in Page(ROOT / "docs" / "guide" / "proxies.md").blocks("nginx"))
SPOOFED = [
    (b"x-forwarded-for", b"6.6.6.6"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-forwarded-prefix", b"/evil"),
    (b"forwarded", b"for=6.6.6.6;proto=https;host=evil.example"),
]


@pytest.fixture
def start(needs_tool: NeedsTool, tmp_path: Path) -> Start:
    def start(body: str) -> ProxyProcess:
        return nginx(needs_tool("nginx"), tmp_path, body)

    return start


def as_the_guide_says(upstream: Upstream, listen: str = "listen {listen};") -> str:
    """The configuration of the guide, with what stands around it."""
    outside, _, location = GUIDE.partition("location /")
    location = "location /" + location.replace("/run/app.sock", upstream.address)
    return f"{outside} server {{ {listen} {location} }}"


def unix(tmp_path: Path) -> dict[str, Any]:
    return {"bind": (f"unix:{tmp_path}/app.sock",)}


def of_tls(certificate: Pair) -> str:
    return f"listen {{listen}} ssl http2; ssl_certificate {certificate.certfile}; ssl_certificate_key {certificate.keyfile};"


@pytest.fixture
def trusting() -> ssl.SSLContext:
    return authority().client_context()


# --- As the guide says


async def test_the_client_is_the_one_that_nginx_names_whatever_that_one_says(
    start: Start, tmp_path: Path
) -> None:
    async with Upstream(**unix(tmp_path)) as upstream:
        with (
            start(as_the_guide_says(upstream)) as proxy,
            contextlib.closing(await http_client.connect_http1(f"http://127.0.0.1:{proxy.port}")) as client,
        ):
            exchange = await client.request("POST", "/path?query", SPOOFED, content=b"hello")
            assert (await exchange.response()).body == b"hello"
    (scope,) = upstream.scopes
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"
    assert scope["root_path"] == ""
    assert scope["path"] == "/path"
    assert dict(scope["headers"])[b"host"] == b"127.0.0.1:%d" % proxy.port


async def test_tls_that_ends_at_nginx_is_https(
    start: Start, tmp_path: Path, certificate: Pair, trusting: ssl.SSLContext
) -> None:
    async with Upstream(**unix(tmp_path)) as upstream:
        with start(as_the_guide_says(upstream, of_tls(certificate))) as proxy:
            url = f"https://127.0.0.1:{proxy.port}"
            for connect in (http_client.connect_http1, http_client.connect_http2):
                with contextlib.closing(await connect(url, tls=trusting)) as client:
                    assert (await (await client.request("GET", "/")).response()).status == 200
    assert [scope["scheme"] for scope in upstream.scopes] == ["https", "https"]
    assert [scope["http_version"] for scope in upstream.scopes] == ["1.1", "1.1"]


async def test_a_websocket_passes(start: Start, tmp_path: Path) -> None:
    async with Upstream(**unix(tmp_path)) as upstream:
        with (
            start(as_the_guide_says(upstream)) as proxy,
            contextlib.closing(await http_client.connect_http1(f"http://127.0.0.1:{proxy.port}")) as client,
        ):
            websocket = await open_websocket(client)
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
            await websocket.close()
    assert upstream.scopes[0]["scheme"] == "ws"
    assert upstream.scopes[0]["client"][0] == "127.0.0.1"


async def test_an_upload_and_its_answer_of_many_megabytes_pass(start: Start, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    async with Upstream(**unix(tmp_path)) as upstream:
        body = "client_max_body_size 0;" + as_the_guide_says(upstream)
        with (
            start(body) as proxy,
            contextlib.closing(await http_client.connect_http1(f"http://127.0.0.1:{proxy.port}")) as client,
        ):
            exchange = await client.request("POST", "/", content=content)
            async with within("the echo", 20):
                assert await exchange.read() == content


# --- Other ways


async def test_forwarded_is_read_when_it_is_what_is_asked_for(start: Start, tmp_path: Path) -> None:
    body = """
        server {
            listen {listen};
            location / {
                proxy_pass http://unix:UPSTREAM;
                proxy_http_version 1.1;
                proxy_set_header Forwarded "for=$remote_addr;proto=https;host=shop.example";
            }
        }
    """
    async with Upstream(forwarded_fields="forwarded", **unix(tmp_path)) as upstream:
        with (
            start(body.replace("UPSTREAM", upstream.address)) as proxy,
            contextlib.closing(await http_client.connect_http1(f"http://127.0.0.1:{proxy.port}")) as client,
        ):
            await (await client.request("GET", "/", SPOOFED)).response()
    (scope,) = upstream.scopes
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "https"
    assert dict(scope["headers"])[b"host"] == b"shop.example"


PLAIN = """
    upstream app { server UPSTREAM; keepalive 4; }
    server {
        listen {listen};
        location / {
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
"""


async def test_a_proxy_that_is_not_trusted_is_the_client_and_its_fields_are_left(start: Start) -> None:
    async with Upstream(port=0) as upstream:
        with (
            start(PLAIN.replace("UPSTREAM", upstream.address)) as proxy,
            contextlib.closing(await http_client.connect_http1(f"http://127.0.0.1:{proxy.port}")) as client,
        ):
            await (await client.request("GET", "/", [(b"x-forwarded-for", b"192.0.2.1")])).response()
            visitor = client.wire._socket.getsockname()
    (scope,) = upstream.scopes
    assert scope["client"][0] == "127.0.0.1"
    assert scope["client"] != visitor
    assert dict(scope["headers"])[b"x-forwarded-for"] == b"192.0.2.1, 127.0.0.1"


async def test_of_several_trusted_proxies_the_outermost_names_the_client(start: Start) -> None:
    async with Upstream(port=0, trusted_proxies=("127.0.0.1", "10.0.0.0/8")) as upstream:
        with (
            start(PLAIN.replace("UPSTREAM", upstream.address)) as proxy,
            contextlib.closing(await http_client.connect_http1(f"http://127.0.0.1:{proxy.port}")) as client,
        ):
            said = b"6.6.6.6, 192.0.2.1, 10.1.1.1"  # the last two by a load balancer
            await (await client.request("GET", "/", [(b"x-forwarded-for", said)])).response()
    assert upstream.scopes[0]["client"][0] == "192.0.2.1"


async def test_connections_of_nginx_are_kept(start: Start) -> None:
    async with Upstream(port=0) as upstream:
        with start(PLAIN.replace("UPSTREAM", upstream.address)) as proxy:
            for _ in range(3):
                with contextlib.closing(
                    await http_client.connect_http1(f"http://127.0.0.1:{proxy.port}")
                ) as client:
                    await (await client.request("POST", "/", content=b"x")).response()
    assert len({scope["client"] for scope in upstream.scopes}) == 1


async def test_grpc_passes_both_ways_at_once(start: Start) -> None:
    body = "server { listen {listen} http2; location / { grpc_pass grpc://UPSTREAM; } }"
    async with Upstream(port=0) as upstream:
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


# --- Without HTTP

STREAM = (
    "stream { server { listen {listen}; proxy_pass UPSTREAM; proxy_bind 127.0.0.2; proxy_protocol on; } }"
)


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
async def test_the_proxy_protocol_names_the_client(
    start: Start, needs_tool: NeedsTool, secure: bool, certificate: Pair, trusting: ssl.SSLContext
) -> None:
    if stream_module() is None:
        needs_tool("nginx-stream-module")
    settings: dict[str, Any] = {"port": 0, "proxy_protocol": True, "trusted_proxies": ("127.0.0.2",)}
    if secure:
        settings |= {"certfile": (certificate.certfile,), "keyfile": (certificate.keyfile,)}
    async with Upstream(**settings) as upstream:
        with start(STREAM.replace("UPSTREAM", upstream.address)) as proxy:
            url = f"{'https' if secure else 'http'}://127.0.0.1:{proxy.port}"
            for connect in (http_client.connect_http1, http_client.connect_http2):
                with contextlib.closing(await connect(url, tls=trusting)) as client:
                    await (await client.request("GET", "/", SPOOFED)).response()
                    assert upstream.scopes[-1]["client"] == client.wire._socket.getsockname()
                    assert upstream.scopes[-1]["server"] == ("127.0.0.1", proxy.port)
                    assert upstream.scopes[-1]["scheme"] == ("https" if secure else "http")
    assert [scope["http_version"] for scope in upstream.scopes] == ["1.1", "2"]
