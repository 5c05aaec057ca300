"""The application behind `serve --demo`: one page that shows what the server does, on bare ASGI.

Routes: the page itself, `/negotiated` (what this very request came over, as JSON), `/events`
(server-sent events), `/chat` (WebSocket), `/digest` (counts and hashes an upload), `/echo`
(sends an upload back while it arrives) and `/download`.

Invariants:
- Uses nothing of the server but its types: it runs on any ASGI server, with or without lifespan.
- Memory is bounded whatever clients do: bodies pass in parts, and nothing is kept of them.
- What a client wrote is never markup: what goes into the page is escaped, and its content
  security policy allows no script or style but the files beside this one.
"""

import asyncio
import contextlib
import hashlib
import html
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import resources
from string import Template
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from . import __version__
from .core.asgi import Address, Application, Field, Fields, Receive, Scope, Send
from .demo_chat import Room, talk

MEBIBYTE = 1024 * 1024
PART_BYTES = 64 * 1024
DOWNLOAD_MEBIBYTES = (1, 16, 64, 256, 1024)

CIPHER_SUITES = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
"""The suites in use today, by their number in the IANA registry (TLS 1.3, and RFC 5289 and 7905 for 1.2)."""

TLS_VERSIONS = {0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}

CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_FIELDS: Fields = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
NOT_KEPT = (b"cache-control", b"no-store")
KEPT = (b"cache-control", b"max-age=60")
"""For what early hints name: a browser would fetch it a second time if it could not be kept."""

EARLY_LINKS = [b"<demo.css>; rel=preload; as=style", b"<demo.js>; rel=preload; as=script"]
ICON = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="7" fill="#12303f"/>
<path d="M3 24 12 9l5 8 3-4 9 11z" fill="#8fc7d8"/>
<path d="M4 5 20 21c2 2 4 1 4-4l-1-4h7l-2 7c-2 7-7 8-11 5L3 6z" fill="#f0a35e"/>
</svg>"""


def _file(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()


PAGE = Template(_file("demo.html").decode())
FILES = {
    "/demo.css": (b"text/css; charset=utf-8", _file("demo.css")),
    "/demo.js": (b"text/javascript; charset=utf-8", _file("demo.js")),
    "/favicon.svg": (b"image/svg+xml", ICON),
}


class Shared:
    """What all requests share: the counters on the page and the chat.

    Attributes:
        tick_seconds: Time between two server-sent events.
        open: How many exchanges are under way.
        served: How many have begun since the start.
        room: The chat.
    """

    def __init__(self, tick_seconds: float, pace_seconds: float) -> None:
        self.tick_seconds = tick_seconds
        self.open = 0
        self.served = 0
        self.room = Room(pace_seconds)
        self._started = time.monotonic()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count one exchange while it lasts."""
        self.served += 1
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def statistics(self) -> dict[str, Any]:
        """Return the counters as `/events` shows them; times in seconds."""
        return {
            "time": time.time(),
            "uptime": time.monotonic() - self._started,
            "open": self.open,
            "served": self.served,
            "tabs": len(self.room),
        }


@dataclass(frozen=True, slots=True)
class Request:
    """One exchange as the routes see it: the three things ASGI gives, and what everybody shares."""

    shared: Shared
    scope: Scope
    receive: Receive
    send: Send

    @property
    def path(self) -> str:
        """The path below the one the application is mounted at."""
        path: str = self.scope["path"]
        root: str = self.scope.get("root_path", "")
        return path.removeprefix(root)

    @property
    def protocol(self) -> str:
        """What carries the exchange, such as "HTTP/2"."""
        return f"HTTP/{self.scope['http_version']}"

    @property
    def secure(self) -> bool:
        """Whether the exchange is encrypted, by us or before us."""
        return str(self.scope["scheme"]) in {"https", "wss"}

    @property
    def extensions(self) -> dict[str, dict[str, Any]]:
        """The ASGI extensions that work on this exchange."""
        return self.scope.get("extensions") or {}

    def field(self, wanted: bytes) -> str | None:
        """Return the value of a header field, or None without it."""
        return next(
            (value.decode("latin-1") for name, value in self.scope["headers"] if name == wanted), None
        )

    def query(self, wanted: str) -> str:
        """Return the first value of a query parameter; empty without it."""
        query: bytes = self.scope["query_string"]
        return parse_qs(query.decode("latin-1")).get(wanted, [""])[0]

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the request body in parts.

        Raises:
            ConnectionAbortedError: The client left before its end.
        """
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionAbortedError
            yield message.get("body", b"")
            more = message.get("more_body", False)

    async def start(self, status: int, content_type: bytes, *more: Field) -> None:
        """Start the response."""
        fields = [(b"content-type", content_type), *more, *SECURITY_FIELDS]
        await self.send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, part: bytes) -> None:
        """Send a part of the response; waits while the client does not read."""
        await self.send({"type": "http.response.body", "body": part, "more_body": True})

    async def finish(self, rest: bytes = b"") -> None:
        """Send the end of the response, which a HEAD request asks not to see."""
        await self.send(
            {"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else rest}
        )

    async def respond(self, content_type: bytes, body: bytes, *more: Field, status: int = 200) -> None:
        """Send a whole response."""
        await self.start(status, content_type, (b"content-length", b"%d" % len(body)), *more)
        await self.finish(body)

    async def respond_text(self, status: int, text: str, *more: Field) -> None:
        """Send a whole response of one line."""
        await self.respond(b"text/plain; charset=utf-8", f"{text}\n".encode(), NOT_KEPT, *more, status=status)

    async def respond_json(self, **values: Any) -> None:
        """Send a whole response of one JSON object."""
        await self.respond(b"application/json", json.dumps(values).encode(), NOT_KEPT)


class Demo:
    """The application. What its requests share is made at startup and travels in the lifespan state.

    Args:
        tick_seconds: Time between two server-sent events.
        pace_seconds: Time between two lines of one tab in the chat, at the least.
    """

    def __init__(self, tick_seconds: float = 1.0, pace_seconds: float = 0.05) -> None:
        self._make_shared = partial(Shared, tick_seconds, pace_seconds)
        self._without_lifespan = self._make_shared()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope (ASGI 3.0)."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        shared = scope.get("state", {}).get("shared", self._without_lifespan)
        request = Request(shared, scope, receive, send)
        # A client may leave at any time; send() then raises an OSError, and nobody is left to be told.
        with shared.counted(), contextlib.suppress(OSError):
            await (chat(request) if scope["type"] == "websocket" else _route(request))

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if "state" in scope:
            scope["state"]["shared"] = self._make_shared()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def page(request: Request) -> None:
    """Send the page, with what was negotiated for this request already in it."""
    if "http.response.early_hint" in request.extensions:
        await request.send({"type": "http.response.early_hint", "links": EARLY_LINKS})
    facts = negotiated(request)
    host = request.field(b"host") or facts["server"]
    texts = {
        **{name: _as_text(value) for name, value in facts.items()},
        "origin": f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}",
        "http2_flag": "--http2" if request.secure else "--http2-prior-knowledge",
        "software": f"Alphorn {__version__}",
    }
    filled = PAGE.substitute({name: html.escape(text) for name, text in texts.items()})
    await request.respond(b"text/html; charset=utf-8", filled.encode(), NOT_KEPT)


async def file(request: Request) -> None:
    """Send one of the files that belong to the page."""
    content_type, body = FILES[request.path]
    await request.respond(content_type, body, KEPT)


async def show_negotiated(request: Request) -> None:
    """Send what was negotiated for this request as JSON."""
    await request.respond_json(**negotiated(request))


async def events(request: Request) -> None:
    """Send the counters, one server-sent event per tick, until the client leaves."""
    await request.start(200, b"text/event-stream", NOT_KEPT)
    if request.scope["method"] != "HEAD":
        leaving = asyncio.create_task(_wait_disconnected(request.receive))
        try:
            while not leaving.done():
                event = {"protocol": request.protocol, **request.shared.statistics()}
                await request.write(f"data: {json.dumps(event)}\n\n".encode())
                await asyncio.wait({leaving}, timeout=request.shared.tick_seconds)
        finally:
            leaving.cancel()
    await request.finish()


async def _wait_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def digest(request: Request) -> None:
    """Count and hash the request body while it arrives; answer with bytes, seconds and SHA-256."""
    started = time.perf_counter()
    sha256 = hashlib.sha256()
    count = 0
    async for part in request.content():
        sha256.update(part)
        count += len(part)
    seconds = time.perf_counter() - started
    await request.respond_json(
        bytes=count, seconds=seconds, sha256=sha256.hexdigest(), protocol=request.protocol
    )


async def echo(request: Request) -> None:
    """Send the request body back while it arrives: reading waits for writing, so neither piles up."""
    await request.start(200, b"application/octet-stream", NOT_KEPT)
    async for part in request.content():
        await request.write(part)
    await request.finish()


async def download(request: Request) -> None:
    """Send as many MiB of zeros as `?mebibytes=` asks for."""
    sizes = {str(number): number * MEBIBYTE for number in DOWNLOAD_MEBIBYTES}
    size = sizes.get(request.query("mebibytes"))
    if size is None:
        await request.respond_text(400, f"mebibytes must be one of {', '.join(sizes)}.")
        return
    await request.start(200, b"application/octet-stream", (b"content-length", b"%d" % size), NOT_KEPT)
    if request.scope["method"] != "HEAD":
        part = bytes(PART_BYTES)
        for _ in range(size // PART_BYTES):
            await request.write(part)
    await request.finish()


async def chat(request: Request) -> None:
    """Let a tab into the chat, under the name it wants as `?name=`."""
    await request.receive()
    if request.path != "/chat" or not _same_origin(request):
        await request.send({"type": "websocket.close"})
        return
    await request.send({"type": "websocket.accept"})
    await talk(request.shared.room, request.query("name"), request.protocol, request.receive, request.send)


def _same_origin(request: Request) -> bool:
    """Whether a page of this very host opened the WebSocket: browsers let any page try (RFC 6455, 10.2)."""
    origin = request.field(b"origin")
    return origin is None or origin.partition("://")[2] == request.field(b"host")


class Route(NamedTuple):
    """What answers a path, and to which methods."""

    handler: Callable[[Request], Awaitable[None]]
    methods: tuple[str, ...] = ("GET", "HEAD")


ROUTES = {
    "/": Route(page),
    **dict.fromkeys(FILES, Route(file)),
    "/negotiated": Route(show_negotiated),
    "/events": Route(events),
    "/download": Route(download),
    "/digest": Route(digest, ("POST", "PUT")),
    "/echo": Route(echo, ("POST", "PUT")),
}


async def _route(request: Request) -> None:
    route = ROUTES.get(request.path)
    if route is None:
        await request.respond_text(404, "There is no such page.")
    elif request.scope["method"] not in route.methods:
        allow = ", ".join(route.methods)
        await request.respond_text(405, f"Allowed: {allow}.", (b"allow", allow.encode()))
    else:
        await route.handler(request)


def negotiated(request: Request) -> dict[str, Any]:
    """Return what was agreed for one request: protocol, TLS, who talks to whom, what else works on it."""
    tls, cipher = _tls(request)
    return {
        "protocol": request.protocol,
        "tls": tls,
        "cipher": cipher,
        "client": _address(request.scope.get("client")),
        "server": _address(request.scope.get("server")),
        "extensions": sorted(request.extensions),
    }


def _tls(request: Request) -> tuple[str, str] | tuple[None, None]:
    """Return the names of the TLS version and the cipher suite, as far as the server tells."""
    tls = request.extensions.get("tls")
    if tls is not None:
        return _name(TLS_VERSIONS, tls["tls_version"]), _name(CIPHER_SUITES, tls["cipher_suite"])
    return ("TLS", "unknown") if request.secure else (None, None)


def _name(names: dict[int, str], number: int | None) -> str:
    return "unknown" if number is None else names.get(number, f"0x{number:04X}")


def _address(address: Address | None) -> str:
    """Write a host and port, or the path of a unix socket, as one text."""
    if address is None:
        return "unix socket"
    host, port = address
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _as_text(value: str | list[str] | None) -> str:
    if value is None:
        return "no TLS"
    return ", ".join(value) or "none" if isinstance(value, list) else value


app: Application = Demo()
