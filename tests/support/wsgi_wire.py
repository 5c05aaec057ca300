"""The other end of a WSGI application: exchanges made of a list of messages, and blocks that say when they are closed."""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from alphorn.core.asgi import Message, Scope
from alphorn.core.wsgi import WsgiApplication

PLAIN = [("Content-Type", "text/plain")]
PATIENCE_SECONDS = 20


def http_scope(**changes: Any) -> Scope:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"example.org")],
        "client": ("192.0.2.7", 50000),
        "server": ("192.0.2.1", 8000),
        **changes,
    }


class Wire:
    """The other end of one exchange: gives the request's messages, then waits; takes the response's.

    `log` has what happened in order: "receive" for a message handed out, and each body that was sent.
    """

    def __init__(self, *body: bytes, lost: bool = False) -> None:
        self.requests: list[Message] = [
            {"type": "http.request", "body": part, "more_body": lost or number < len(body)}
            for number, part in enumerate(body or (b"",), 1)
        ]
        if lost:
            self.requests.append({"type": "http.disconnect"})
        self.log: list[object] = []
        self.sent: list[Message] = []
        self.waiting = asyncio.Event()

    async def receive(self) -> Message:
        if not self.requests:
            self.waiting.set()
            await asyncio.Event().wait()
        self.log.append("receive")
        return self.requests.pop(0) if self.requests[0]["type"] == "http.request" else self.requests[0]

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.log.append(message["body"])

    @property
    def status(self) -> int:
        assert self.sent[0]["type"] == "http.response.start"
        status = self.sent[0]["status"]
        assert isinstance(status, int)
        return status

    @property
    def bodies(self) -> list[tuple[bytes, bool]]:
        return [(message["body"], message["more_body"]) for message in self.sent[1:]]


async def serve(app: WSGIApplication, *body: bytes, lost: bool = False, **changes: Any) -> Wire:
    """Run one exchange to its end."""
    wire = Wire(*body, lost=lost)
    await WsgiApplication(app)(http_scope(**changes), wire.receive, wire.send)
    return wire


async def happens(event: threading.Event) -> bool:
    """Wait for something that another thread does."""
    return await asyncio.to_thread(event.wait, PATIENCE_SECONDS)


class Blocks:
    """An iterable of blocks that says when it has been closed."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.blocks = iter(blocks)
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        return self.blocks

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


def answer(blocks: Iterable[bytes], status: str = "200 OK") -> WSGIApplication:
    """Make an application that answers so."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, PLAIN)
        return blocks

    return app
