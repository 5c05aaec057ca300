"""An ASGI application steered from the test, so that a test reads as a conversation.

    exchange = await client.request("GET", "/")
    call = await app.next_call()
    assert (await call.receive())["type"] == "http.request"
    await call.respond(200, body=b"hello")
    call.finish()
    assert (await exchange.response()).body == b"hello"

What the test awaits on a call runs in tasks that belong to that call, as in a real application:
when the server cancels the application, they end too.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Literal, TypeVar

from alphorn.core.asgi import Field, Message, Receive, Scope, Send

from .waiting import within

Result = TypeVar("Result")
Outcome = Literal["done", "crashed", "cancelled"]


class ApplicationCancelled(Exception):  # noqa: N818 - it says what happened
    """The server cancelled the application while the test waited in one of its calls."""


class SteeredApp:
    """An ASGI 3 application: each time it is started, the test gets a `Call`.

    Attributes:
        calls: All calls so far, in the order they were started.
    """

    def __init__(self, *, steer_lifespan: bool = False) -> None:
        self.calls: list[Call] = []
        self._steer_lifespan = steer_lifespan
        self._waiting: asyncio.Queue[Call] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and not self._steer_lifespan:
            await accept_lifespan(receive, send)
            return
        call = Call(scope, receive, send)
        self.calls.append(call)
        self._waiting.put_nowait(call)
        await call.run()

    async def next_call(self) -> "Call":
        """Wait until the server starts the application once more."""
        async with within("the application to be called"):
            return await self._waiting.get()

    @property
    def called_again(self) -> bool:
        """Whether the server has started a call that the test has not taken."""
        return not self._waiting.empty()

    def finish_all(self) -> None:
        """Let every call return."""
        for call in self.calls:
            call.finish()


class Call:
    """One run of the application.

    Attributes:
        scope: As the server gave it.
        received: All messages `receive()` returned.
        outcome: How the run ended, or None while it runs.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.received: list[Message] = []
        self.outcome: Outcome | None = None
        self._receive = receive
        self._send = send
        self._steps: set[asyncio.Task[Any]] = set()
        self._verdict: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()

    async def receive(self) -> Message:
        """Await the application's `receive()`.

        Raises:
            ApplicationCancelled: The server cancelled the application.
        """
        message = await self._step(self._receive(), f"receive() of {self}")
        self.received.append(message)
        return message

    async def send(self, message: Message) -> None:
        """Await the application's `send()`; what the server raises comes out here.

        Raises:
            ApplicationCancelled: The server cancelled the application.
        """
        await self._step(self._send(message), f"send({message['type']}) of {self}")

    def finish(self) -> None:
        """Let the application return."""
        if not self._verdict.done():
            self._verdict.set_result(None)

    def crash(self, error: BaseException) -> None:
        """Let the application raise `error`."""
        if not self._verdict.done():
            self._verdict.set_exception(error)

    async def cancelled_or_done(self) -> Outcome:
        """Wait until the run has ended and tell how."""
        async with within(f"{self} to end"):
            await self._ended.wait()
        assert self.outcome is not None
        return self.outcome

    # --- Short forms of whole passages

    async def receive_body(self) -> bytes:
        """Receive `http.request` messages until the last one and return their bytes."""
        body = bytearray()
        while True:
            message = await self.receive()
            assert message["type"] == "http.request", f"the body ended with {message}"
            body += message["body"]
            if not message["more_body"]:
                return bytes(body)

    async def start(self, status: int = 200, fields: Sequence[Field] = (), **more: Any) -> None:
        """Send `http.response.start`."""
        await self.send({"type": "http.response.start", "status": status, "headers": list(fields), **more})

    async def body(self, data: bytes = b"", *, more: bool = False) -> None:
        """Send `http.response.body`."""
        await self.send({"type": "http.response.body", "body": data, "more_body": more})

    async def respond(self, status: int = 200, fields: Sequence[Field] = (), body: bytes = b"") -> None:
        """Send a whole response."""
        await self.start(status, fields)
        await self.body(body)

    async def accept(self, subprotocol: str | None = None, fields: Sequence[Field] = ()) -> None:
        """Receive `websocket.connect` and accept it."""
        message = await self.receive()
        assert message == {"type": "websocket.connect"}, message
        await self.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(fields)})

    # --- For the server's task

    async def run(self) -> None:
        """Be the application, until the test says how it ends or the server cancels it."""
        try:
            await self._verdict
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        except BaseException:
            self.outcome = "crashed"
            raise
        else:
            self.outcome = "done"
        finally:
            for step in self._steps:
                step.cancel()
            self._ended.set()

    async def _step(self, work: Awaitable[Result], what: str) -> Result:
        step = asyncio.ensure_future(work)
        self._steps.add(step)
        try:
            async with within(what):
                return await step
        except asyncio.CancelledError:
            if self.outcome == "cancelled" and step.cancelled():
                raise ApplicationCancelled(what) from None
            raise
        finally:
            self._steps.discard(step)

    def __str__(self) -> str:
        return f"{self.scope['type']} {self.scope.get('path', '')}".strip()


async def accept_lifespan(receive: Receive, send: Send) -> None:
    """Agree to startup and shutdown."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
