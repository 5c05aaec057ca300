"""Nothing that a peer writes reaches a log as it is: wherever it can write, with the log level debug.

The logs are ours, as on a terminal. Each line of them has to be a line of ours, of printable ASCII
and of bounded length; what follows an exception is indented, so that no text in it begins a line.
"""

import base64
import contextlib
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import pytest

from alphorn.core.asgi import Receive, Scope, Send
from alphorn.core.log import configure_logging
from support.carrier import HTTP1_CLEAR
from support.certificates import Authority, Pair, authority
from support.client_hello import alpn, hello_with, server_name
from support.frames import Data, Frame, FramePeer, Goaway, Headers, Raw
from support.logs import unconfigured
from support.serving import Serve
from support.steered_app import accept_lifespan
from support.waiting import within
from support.websocket_client import frame
from support.wire import Wire

pytestmark = pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)  # what it shall be, each test says

EVIL: Final = {
    "escape": b"\x1b[2J\x1b]0;owned\x07",
    "new line": b"x\r\n1999-12-31 23:59:59 error   forged",
    "line feed": b"x\n1999-12-31 23:59:59 error   forged",
    "not UTF-8": b"\xff\xc3\x28\xed\xa0\x80",
    "controls of Unicode": "\u0085\u2028\u202e\u009b31m".encode(),
    "format": b"%s%n%(name)s{0}{x!r}",
    "long": b"A" * 20_000,
    "nothing": b"",
}
evils = pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)

LINE: Final = re.compile(r"(20\d\d-\d\d-\d\d \d\d:\d\d:\d\d (debug|info|warning|error) +|  |$)")
LONGEST_LINE: Final = 10_000
LONGEST_TRACE_LINE: Final = 33_000

LookedAt: TypeAlias = Callable[[], contextlib.AbstractContextManager[list[str]]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Repeat all that a client said in an exception, as careless applications do."""
    if scope["type"] == "lifespan":
        await accept_lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            pass
        raise LookupError(message["reason"], scope["path"])
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        pass
    raise LookupError("".join([scope["path"], *(value.decode("latin-1") for _, value in scope["headers"])]))


@pytest.fixture
def looked_at(
    capsys: pytest.CaptureFixture[str],
) -> Callable[[], contextlib.AbstractContextManager[list[str]]]:
    """`with looked_at() as logs:` logs to the terminal at level debug, then looks at every line and leaves them."""

    @contextlib.contextmanager
    def looking() -> Iterator[list[str]]:
        logs: list[str] = []
        with unconfigured():
            configure_logging("debug")
            yield logs
        logs += "".join(capsys.readouterr()).splitlines()
        check(logs)

    return looking


def check(logs: list[str]) -> None:
    """Hold every line against what lines are like."""
    assert logs, "nothing was logged"
    for line in logs:
        traced = line.startswith("  ")  # in an exception, letters of any language may be
        assert line.isprintable(), repr(line[:200])
        assert line.isascii() or traced, line[:200]
        assert LINE.match(line), line[:200]
        assert len(line) < (LONGEST_TRACE_LINE if traced else LONGEST_LINE)
        for bug in ("went wrong", "could not be", "Logging error", "never retrieved"):
            assert bug not in line


async def say(url: str, *data: bytes, tls: ssl.SSLContext | None = None, name: str | None = None) -> None:
    """Connect, say this and nothing more, and hear the server out."""
    with contextlib.suppress(OSError):  # it may well not want to hear it
        wire = await Wire.open(url, tls=tls, server_name=name)
        try:
            await wire.write(b"".join(data))
            await wire.write_eof()
            async with within("the server to close"):
                while await wire.read():
                    pass
        finally:
            wire.close()


# ------------------------------------------------------------------ HTTP/1.1

KEY: Final = base64.b64encode(bytes(16))
UPGRADE: Final = b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
OPENING: Final = UPGRADE + b"sec-websocket-version: 13\r\nsec-websocket-key: " + KEY + b"\r\n"
FIELDS: Final = (
    *(b"content-length", b"transfer-encoding", b"connection", b"expect", b"te", b"cookie", b"user-agent"),
    *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"forwarded"),
)


def requests_with(evil: bytes) -> list[bytes]:
    """Return requests with something evil in each place that a request has."""
    return [
        b"%b / HTTP/1.1\r\nhost: a\r\n\r\n" % evil,
        b"GET /%b HTTP/1.1\r\nhost: a\r\n\r\n" % evil,
        b"GET /%b HTTP/1.1\r\nhost: a\r\n\r\n" % quote(evil).encode(),
        b"GET /?%b HTTP/1.1\r\nhost: a\r\n\r\n" % evil,
        b"GET / %b\r\nhost: a\r\n\r\n" % evil,
        b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % evil,
        b"GET / HTTP/1.1\r\nhost: a\r\n%b: x\r\n\r\n" % evil,
        *(b"GET / HTTP/1.1\r\nhost: a\r\n%b: %b\r\n\r\n" % (name, evil) for name in FIELDS),
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n%b\r\nx\r\n0\r\n\r\n" % evil,
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;%b\r\nx\r\n0\r\n\r\n" % evil,
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n%b: x\r\n\r\n" % evil,
        UPGRADE + b"sec-websocket-version: %b\r\nsec-websocket-key: %b\r\n\r\n" % (evil, KEY),
        UPGRADE + b"sec-websocket-version: 13\r\nsec-websocket-key: %b\r\n\r\n" % evil,
        OPENING + b"sec-websocket-protocol: %b\r\n\r\n" % evil,
        OPENING + b"sec-websocket-extensions: permessage-deflate; %b\r\n\r\n" % evil,
        OPENING + b"\r\n" + frame(8, b"\x03\xe8" + evil[:123]),
        OPENING + b"\r\n" + frame(1, evil) + frame(8),
        OPENING + b"\r\n" + frame(9, evil[:125]) + frame(8),
        OPENING + b"\r\n" + evil,
        evil,
    ]


@evils
async def test_whatever_is_in_an_http1_request(serve: Serve, looked_at: LookedAt, evil: bytes) -> None:
    with looked_at():
        url = await serve(app, trusted_proxies=("*",))
        for request in requests_with(evil):
            await say(url, request)


# ------------------------------------------------------------------ HTTP/2


def fields_with(evil: bytes) -> list[list[tuple[bytes, bytes]]]:
    """Return field sections with something evil in each place."""
    get = {b":method": b"GET", b":scheme": b"http", b":authority": b"a", b":path": b"/"}
    connect = {**get, b":method": b"CONNECT", b":protocol": b"websocket"}
    return [
        *(list({**get, name: evil}.items()) for name in (*get, b":protocol", b":evil", *FIELDS)),
        list({**get, b":path": b"/" + evil}.items()),
        list({**get, b":path": b"/" + quote(evil).encode()}.items()),
        [*get.items(), (evil, b"x")],
        [*get.items(), (b":" + evil, b"x")],
        list({**connect, b":protocol": evil}.items()),
        list({**connect, b"sec-websocket-version": evil}.items()),
        list({**connect, b"sec-websocket-version": b"13", b"sec-websocket-protocol": evil}.items()),
    ]


@evils
async def test_whatever_is_in_an_http2_request(serve: Serve, looked_at: LookedAt, evil: bytes) -> None:
    with looked_at():
        url = await serve(app, trusted_proxies=("*",), max_head_bytes=128 * 1024)
        for section in fields_with(evil):
            peer = FramePeer(await Wire.open(url))
            with contextlib.suppress(OSError):
                await peer.start()
                await peer.sends(*headers_of(peer, section), Goaway(0, 1, evil))
                async with within("the server to close"):
                    while await peer.wire.read():
                        pass
            peer.close()


def headers_of(peer: FramePeer, section: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Return HEADERS and CONTINUATION, for what does not fit one frame."""
    whole = peer.serialize(Headers(1, section, end_stream=True))[9:]
    parts = [whole[start : start + 16_000] for start in range(0, len(whole), 16_000)] or [b""]
    frames = [Raw(0x9 if number else 0x1, 0x1, 1, part) for number, part in enumerate(parts)]
    last = len(frames) - 1
    return [
        peer.serialize(Raw(each.type, (0x4 if number == last else 0) | (0 if number else 1), 1, each.payload))
        for number, each in enumerate(frames)
    ]


@evils
async def test_whatever_is_in_other_frames(serve: Serve, looked_at: LookedAt, evil: bytes) -> None:
    with looked_at():
        url = await serve(app)
        short = evil[:16_000]
        frames: list[Frame] = [
            Goaway(0, 2, short),
            Raw(0x10, 0, 0, b"\0\0\0\1" + short),  # PRIORITY_UPDATE
            Raw(0xA, 0, 0, short),  # ALTSVC
            Raw(0xEE, 0xFF, 1, short),
            Raw(0x4, 0, 0, short),
            Raw(0x6, 0, 0, short),
            Raw(0x1, 0x4, 1, short),
            Data(1, short),
        ]
        for each in frames:
            peer = FramePeer(await Wire.open(url))
            with contextlib.suppress(OSError):
                await peer.start()
                await peer.sends(each, Goaway(0, 0))
                async with within("the server to close"):
                    while await peer.wire.read():
                        pass
            peer.close()


# ------------------------------------------------------------------ before HTTP


@evils
async def test_whatever_is_in_a_client_hello(
    serve: Serve, looked_at: LookedAt, evil: bytes, certificate: Pair
) -> None:
    with looked_at():
        url = await serve(app, certfile=(certificate.certfile,), keyfile=(certificate.keyfile,))
        some = evil[:200]
        for hello in (
            hello_with(server_name(some)),
            hello_with(alpn(some) if some else b""),
            hello_with(server_name(some) + alpn(b"h2")),
            hello_with(evil[:10_000]),
            evil,
        ):
            await say(url, hello)
        if some.isascii() and 0 < len(some) < 60:
            await say(url, tls=authority().client_context(some.decode()))
            await say(url, tls=authority().client_context(), name=some.decode())


@pytest.mark.parametrize("evil", ["\x1b[2J\x1b]0;owned\x07", "x\r\n1999-12-31 forged", "\u202e%s"])
@pytest.mark.parametrize("trusted", [True, False])
async def test_whatever_is_in_the_certificate_of_a_client(
    serve: Serve,
    looked_at: LookedAt,
    *,
    evil: str,
    trusted: bool,
    certificate: Pair,
    cafile: str,
    tmp_path: Path,
) -> None:
    signer = authority() if trusted else Authority(evil)
    theirs = signer.issue(tmp_path, subject=evil)
    files: dict[str, Any] = {"certfile": (certificate.certfile,), "keyfile": (certificate.keyfile,)}
    with looked_at() as logs:
        url = await serve(app, **files, client_auth="required", client_ca=cafile)
        tls = authority().client_context("http/1.1")
        tls.load_cert_chain(*theirs)
        await say(url, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", tls=tls)
    assert any("exception in the application" in line for line in logs) is trusted


@evils
async def test_whatever_is_in_a_proxy_header(serve: Serve, looked_at: LookedAt, evil: bytes) -> None:
    with looked_at():
        url = await serve(app, proxy_protocol=True, trusted_proxies=("*",))
        for header in (
            b"PROXY %b\r\n" % evil,
            b"PROXY UNKNOWN %b\r\n" % evil,
            b"PROXY TCP4 %b 192.0.2.1 1 2\r\n" % evil,
            b"PROXY TCP4 192.0.2.1 192.0.2.1 %b 2\r\n" % evil,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(evil).to_bytes(2) + evil,
            b"\r\n\r\n\0\r\nQUIT\n" + evil,
        ):
            await say(url, header, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")


async def test_an_exception_of_any_length_is_cut(serve: Serve, looked_at: LookedAt) -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await accept_lifespan(receive, send)
            return
        raise ValueError("word \x1b[2J\n" * 1_000_000)

    with looked_at() as logs:
        url = await serve(endless)
        await say(url, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert any("characters are left out" in line for line in logs)
    assert sum(map(len, logs)) < 100_000
