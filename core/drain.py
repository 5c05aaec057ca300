"""The end of a worker's connections: announced, bounded, and told to the operator second by second."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from .asgi import Application, Receive, Scope, Send
from .clock import TICK_SECONDS, Clock, Timed
from .dispatch import Call
from .http import HttpExchange
from .log import error_log, format_address, printable
from .worker import Worker

# How long an endless response may go on without noticing that it shall end.
_DEAF_SECONDS: Final = 5.0
# After the grace period: what applications that were told to stop may take, then those that were cancelled.
_LAST_WORDS_SECONDS: Final = 1.0
_CANCEL_SECONDS: Final = 5.0
# What the last bytes may take to leave.
_FLUSH_SECONDS: Final = 1.0
_NAMED_IN_REPORT: Final = 3


class ToldOfShutdown:
    """An application whose scopes have the extension `alphorn.shutdown`, around one that need not know.

    For those who would rather hear of the end early than be told `http.disconnect` at the last.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._event = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Extend the scope, then run the application."""
        if scope["type"] != "lifespan":
            scope["extensions"]["alphorn.shutdown"] = {"event": self._event}
        await self._application(scope, receive, send)

    def tell(self) -> None:
        """Let everybody know who waits for the event."""
        self._event.set()


class Report:
    """Says every second what a block of code is waiting for.

    Attributes:
        deadline: When to say it next.
    """

    def __init__(self, clock: Clock, what: Callable[[], str]) -> None:
        self._clock = clock
        self._what = what
        self.deadline = clock.now() + TICK_SECONDS

    def __enter__(self) -> None:
        self._clock.watch(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._clock.forget(self)

    def expire(self) -> None:
        """Say it; again at the next tick."""
        error_log.info("waiting for %s", self._what())
        self.deadline = self._clock.now()


async def delay_drain(seconds: float, clock: Clock) -> None:
    """Go on as ever for a while, so that whoever asks for readiness has noticed before there is an end (`--drain-delay`)."""
    if seconds:
        error_log.info(
            "not ready any more; requests are taken for another %g seconds (--drain-delay)", seconds
        )
        await clock.sleep(seconds)


async def drain(worker: Worker, grace: float) -> bool:
    """Let what is under way finish, then end what has not. Cancelled, it ends everything at once.

    Args:
        worker: Whose connections; its listeners are closed already.
        grace: How long requests may go on, in seconds.

    Returns:
        Whether every request finished by itself, but for endless ones, and its answer was taken.
    """
    worker.closing = True
    for connection in list(worker.connections):
        connection.shutdown()
    try:
        with Report(worker.clock, lambda: _what_remains(worker)):
            complete = await _finish(worker, grace) or await _cut_short(worker, grace)
    finally:
        worker.dispatcher.close()
        worker.dispatcher.cancel()
        for connection in list(worker.connections):
            connection.terminate()
    await _within(_FLUSH_SECONDS, worker, worker.wait_disconnected)
    return complete


async def _finish(worker: Worker, grace: float) -> bool:
    """Wait for everybody; tell whether they were done when the grace period was over."""
    over = worker.clock.now() + grace
    everybody = (worker.dispatcher.wait_idle, worker.wait_disconnected)
    if await _within(min(grace, _DEAF_SECONDS), worker, *everybody):
        return True
    # Starlette's StreamingResponse, for one, never asks; its client loses nothing by this.
    worker.dispatcher.cancel(lambda call: isinstance(call, HttpExchange) and call.deaf)
    return await _within(over - worker.clock.now(), worker, *everybody)


async def _cut_short(worker: Worker, grace: float) -> bool:
    """End what is still there when the grace period is over: with a word first, then without.

    Returns:
        Whether there was nothing but bytes that had yet to leave.
    """
    idle, disconnected = worker.dispatcher.wait_idle, worker.wait_disconnected
    worker.dispatcher.close()
    running = worker.dispatcher.running
    if not running:
        return await _within(_FLUSH_SECONDS, worker, disconnected)
    error_log.warning("after %g seconds still %s: cancelling", grace, _what_remains(worker))
    for call in running:
        if isinstance(call, HttpExchange):  # a WebSocket was told at once
            call.feed_eof()
    if not await _within(_LAST_WORDS_SECONDS, worker, idle, disconnected):
        worker.dispatcher.cancel()
        await _within(_CANCEL_SECONDS, worker, idle)
        for call in worker.dispatcher.running:
            error_log.error("%s: the application ignores its cancellation", _path(call))
        await _within(_FLUSH_SECONDS, worker, disconnected)
    return False


async def _within(seconds: float, worker: Worker, *waits: Callable[[], Awaitable[None]]) -> bool:
    """Wait for one thing after the other; tell whether all of them came in time."""
    try:
        async with worker.clock.timeout(seconds):
            for wait in waits:
                await wait()
    except TimeoutError:
        return False
    return True


def _what_remains(worker: Worker) -> str:
    running = worker.dispatcher.running
    connections = _count(len(worker.connections), "connection")
    if not running:
        return f"{connections} to take what was answered"
    running.sort(key=lambda call: call.started_at)
    now = worker.clock.now()
    named = [
        f"{_path(call)} of {_client(call)} for {now - call.started_at:.0f} s"
        for call in running[:_NAMED_IN_REPORT]
    ]
    if len(running) > _NAMED_IN_REPORT:
        named.append("...")
    return f"{_count(len(running), 'request')} ({', '.join(named)}), {connections}"


def _path(call: Call) -> str:
    return printable(call.scope.get("path"))


def _client(call: Call) -> str:
    try:
        return format_address(call.scope["client"])
    except Exception:  # noqa: BLE001 - the scope is the application's, to spoil as it likes
        return "-"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


if TYPE_CHECKING:
    _: type[Timed] = Report
