"""Any client of HTTP/2 and applications that behave as its requests say; and what holds of all that the server says."""

from dataclasses import replace
from typing import Any

from alphorn.core.asgi import Receive, Scope, Send

from .frames import Data, Frame, Headers, PushPromise, RstStream
from .http2_memory import ApplicationMistake, MemoryConnection
from .waiting import turns

SMALL: dict[str, Any] = {"max_streams": 3, "stream_window": 1000, "max_head_bytes": 1024}
NARROW: dict[str, Any] = SMALL | {
    "max_resets": 2,
    "max_control_frames": 20,
    "max_requests_per_connection": 4,
    "max_body": 300,
    "max_drain": 200,
    "body_timeout": 5.0,
    "write_timeout": 10.0,
}
"""With these a client goes beyond every limit soon."""

# ---------------------------------------------------------------------- applications


async def receive_all(receive: Receive) -> bytes:
    """Receive the content of a request, or what comes of it."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    return body


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the content of the request."""
    body = await receive_all(receive)
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": scope["raw_path"] + b" " + body})
    await send({"type": "http.response.trailers", "headers": [(b"x-length", b"%d" % len(body))]})


async def refuse(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer at once, whatever is still to come."""
    if "http.response.early_hint" in scope["extensions"]:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>"]})
    await send({"type": "http.response.start", "status": 403, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


async def pour(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Send more than any window takes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(8):
        await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
    await send({"type": "http.response.body"})


async def push(scope: Scope, receive: Receive, send: Send) -> None:
    """Promise something, where the client lets us."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if "http.response.push" in scope["extensions"]:
        await send({"type": "http.response.push", "path": "/1", "headers": []})
        await receive()
        await send({"type": "http.response.push", "path": "/2", "headers": []})
    await send({"type": "http.response.body", "body": b"parent"})


async def crash(_scope: Scope, receive: Receive, send: Send) -> None:
    """Fail in the middle."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    await receive()
    raise ApplicationMistake


async def wait(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Never answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo, or deny."""
    if scope["path"] not in {"/0", "/"}:
        await send({"type": "websocket.close"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


BEHAVIOURS = [echo, refuse, pour, push, crash, wait]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Behave as the path says."""
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        path = scope["path"].strip("/*")
        number = int(path) if path.isdecimal() else len(path)
        await BEHAVIOURS[number % len(BEHAVIOURS)](scope, receive, send)


# ---------------------------------------------------------------------- what is said


class Judge:
    """Holds what the server says against what it may say."""

    def __init__(self) -> None:
        self._over: set[int] = set()
        self._headed: set[int] = set()

    def hear(self, frames: list[Frame], allowed: int) -> None:
        """Check all that the server has said.

        Args:
            frames: Of the whole connection.
            allowed: How much DATA the window of the connection was good for.
        """
        for frame in frames:
            match frame:
                case Headers(stream_id=number, fields=fields, end_stream=end):
                    assert number not in self._over, f"HEADERS on stream {number}, which has ended"
                    if dict(fields).get(b":status", b"")[:1] != b"1":
                        self._headed.add(number)
                    self._end(number, end=end)
                case Data(stream_id=number, data=data, end_stream=end):
                    assert number in self._headed, f"DATA before the head of stream {number}"
                    assert number not in self._over, f"DATA on stream {number}, which has ended"
                    allowed -= len(data)
                    self._end(number, end=end)
                case PushPromise(stream_id=number):
                    assert number not in self._over, f"a promise on stream {number}, which has ended"
                case RstStream(stream_id=number):
                    self._end(number, end=True)
        assert allowed >= 0, "more DATA than the window of the connection"

    def _end(self, number: int, *, end: bool) -> None:
        if end:
            self._over.add(number)


def undated(frame: Frame) -> Frame:
    """A frame without the time."""
    if not isinstance(frame, Headers):
        return frame
    return replace(frame, fields=[field for field in frame.fields if field[0] != b"date"])


async def take_steps(connection: MemoryConnection, steps: list[Any]) -> list[Frame]:
    """Let things happen, in this order; return what the server said."""
    for step in steps:
        match step:
            case "turn":
                await turns()
            case "read":
                await connection.reads()
            case "shutdown":
                if not connection.transport.is_closing() and not connection.transport.ended:
                    connection.server.shutdown()
            case "time":
                connection.clock.advance(7)
            case "hang_up":
                connection.transport.hang_up()
            case _:
                connection.sends(step)
    return await connection.reads()
