"""A WSGI application (PEP 3333) as an ASGI 3 one: each request runs in a thread of a bounded pool.

Invariants:
- Nothing is buffered whole: `wsgi.input` pulls from `receive()` as the application reads, and each
  block of the answer waits in its thread until `send()` has taken it.
- A thread never waits for an exchange that is over: when the exchange ends, for whatever reason,
  reading and sending raise `Disconnected` in the thread, so that the application's iterable is
  closed and the thread is free again. Only code that does neither can keep its thread.

Offers no `wsgi.file_wrapper`, which PEP 3333 leaves to the server.
"""

import asyncio
import concurrent.futures
import contextvars
import io
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from .asgi import Message, Receive, Scope, Send
from .errors import Disconnected

if TYPE_CHECKING:
    from _typeshed import OptExcInfo, WriteableBuffer

T = TypeVar("T")

# What anyio gives the synchronous code of Starlette and FastAPI. Such threads mostly wait for a
# database, and one worker stays well under the 100 connections that PostgreSQL accepts by default.
THREADS = 40
# One read of the application costs a hop to the loop, so it should take what a wire usually feeds at once.
INPUT_BUFFER_BYTES = 64 * 1024

_DEFAULT_PORTS = {"http": 80, "https": 443}


class WsgiApplication:
    """A WSGI application that can be awaited as an ASGI 3 one.

    It takes part in the lifespan only to let its threads go; a WebSocket is refused with 403.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._pool: ThreadPoolExecutor | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope.

        Raises:
            Exception: Whatever the application raised.
            Disconnected: The client left before the exchange was complete.
        """
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            raise ValueError(f"WSGI has no scope of type {scope['type']!r}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        bridge = _Bridge(loop)
        environ = make_environ(scope, io.BufferedReader(_Input(bridge, receive), INPUT_BUFFER_BYTES))
        run = contextvars.copy_context().run
        try:
            await loop.run_in_executor(
                self._threads(), run, _respond, self._app, environ, _Response(bridge, send)
            )
        finally:
            bridge.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._pool is not None:
            self._pool.shutdown(wait=False)  # the loop must not wait for a thread
            self._pool = None
        await send({"type": "lifespan.shutdown.complete"})

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="wsgi")
        return self._pool


def make_environ(scope: Scope, body: io.BufferedIOBase) -> WSGIEnvironment:
    """Build the environ of one request (PEP 3333, "environ Variables"; RFC 3875, 4.1).

    Its strings carry bytes as Latin-1 ("A Note On String Types").
    """
    scheme = scope["scheme"]
    server_host, server_port = scope["server"] or ("", None)
    if server_port is None:  # on a unix socket there is none; PEP 3333 wants both all the same
        server_host, server_port = "localhost", _DEFAULT_PORTS[scheme]
    client_host, client_port = scope["client"] or ("", None)
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope["root_path"].rstrip("/").encode().decode("latin-1"),
        # raw_path is free of root_path, and keeps the bytes that path cannot show.
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server_host,
        "SERVER_PORT": str(server_port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client_host,  # RFC 3875 wants it even where a client has none
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,  # it ends where the content ends, with or without content-length
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,  # nobody here knows how many processes share the sockets
        "wsgi.run_once": False,
    }
    if client_port is not None:
        environ["REMOTE_PORT"] = str(client_port)
    for name, value in scope["headers"]:
        _add_field(environ, name, value.decode("latin-1"))
    return environ


def _add_field(environ: WSGIEnvironment, name: bytes, value: str) -> None:
    # `x_user` and `x-user` would become the same variable: a client could forge what a proxy has set.
    if b"_" in name:
        return
    key = name.decode("latin-1").upper().replace("-", "_")
    if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
        key = f"HTTP_{key}"
    if key in environ:
        # RFC 9110, 5.3: a list; RFC 6265, 5.4: but not of cookies.
        value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
    environ[key] = value


def _respond(app: WSGIApplication, environ: WSGIEnvironment, response: "_Response") -> None:
    """Call the application and send its answer; runs in a thread of the pool."""
    try:
        blocks = app(environ, response.start)
        try:
            response.send_all(blocks)
        finally:
            close = getattr(blocks, "close", None)
            if close is not None:
                close()
    except StopIteration as error:  # a future cannot carry it; asyncio would wait for ever
        raise RuntimeError("the application raised StopIteration") from error


class _Bridge:
    """Runs coroutines on the loop for the threads of one exchange, until the exchange is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        # Guarded by the lock:
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        self._closed = False

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Await a call on the loop and wait for its result in this thread.

        Raises:
            Disconnected: The exchange is over.
        """

        async def on_loop() -> T:
            return await function(*arguments)

        # Under the lock: a call that begins after close() might wait for a loop that has stopped.
        with self._lock:
            if self._closed:
                raise Disconnected("this exchange is over")
            future = asyncio.run_coroutine_threadsafe(on_loop(), self._loop)
            self._waiting.add(future)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise Disconnected("this exchange was cancelled") from None
        finally:
            with self._lock:
                self._waiting.discard(future)

    def close(self) -> None:
        """Release every thread that waits, and let none wait again; called on the loop."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
        for future in waiting:
            future.cancel()


class _Input(io.RawIOBase):
    """The request content as a raw stream; `io.BufferedReader` makes `wsgi.input` of it."""

    def __init__(self, bridge: _Bridge, receive: Receive) -> None:
        self._bridge = bridge
        self._receive = receive
        self._rest = memoryview(b"")
        self._more_body = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        while not self._rest and self._more_body:
            message: Message = self._bridge.call(self._receive)
            if message["type"] == "http.disconnect":
                raise Disconnected("the client left before its request was complete")
            self._rest = memoryview(message["body"])
            self._more_body = message["more_body"]
        target = memoryview(buffer)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Response:
    """One answer: what `start_response` and the blocks of the application become."""

    def __init__(self, bridge: _Bridge, send: Send) -> None:
        self._bridge = bridge
        self._send = send
        self._head: Message | None = None
        self._head_sent = False

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None, /
    ) -> Callable[[bytes], None]:
        """Be `start_response`: keep the head until the first block (PEP 3333, "The start_response() Callable")."""
        if exc_info:
            try:
                if self._head_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # or traceback and frame would keep each other alive
        elif self._head is not None:
            raise RuntimeError("start_response was called again, without exc_info")
        if not (status[:3].isdecimal() and status[3:4] in {"", " "}):
            raise ValueError(f"the status {status!r} has to be three digits, a space and a phrase")
        self._head = {
            "type": "http.response.start",
            "status": int(status[:3]),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
        return self.write

    def write(self, block: bytes) -> None:
        """Be `write()`: send a block, and wait until it has been taken."""
        self._transmit(block, more_body=True)

    def send_all(self, blocks: Iterable[bytes]) -> None:
        """Send the blocks, then the end of the body."""
        # One block and the end in one message is one hop less, and lets the wire tell the length.
        single = _has_one(blocks)
        for block in blocks:
            self._transmit(block, more_body=not single)
        if not single:
            self._transmit(b"", more_body=False)

    def _transmit(self, block: bytes, *, more_body: bool) -> None:
        if not isinstance(block, bytes):
            raise TypeError(f"the application gave a block of type {type(block).__name__}, not bytes")
        if self._head is None:
            raise RuntimeError("the application gave a body before it called start_response")
        # An empty block must not send the head: start_response may still replace it.
        if block or not more_body:
            self._bridge.call(self._transmit_on_loop, self._head, block, more_body)

    async def _transmit_on_loop(self, head: Message, block: bytes, more_body: bool) -> None:
        if not self._head_sent:
            await self._send(head)
            self._head_sent = True
        await self._send({"type": "http.response.body", "body": block, "more_body": more_body})


def _has_one(blocks: Iterable[bytes]) -> bool:
    """Say whether there is exactly one block (PEP 3333, "Handling the Content-Length Header")."""
    try:
        return len(blocks) == 1  # type: ignore[arg-type]
    except TypeError:
        return False
