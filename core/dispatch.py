"""Dispatcher: the one place where an application is run, watched, counted and failed.

Each exchange has one task. A task starts eagerly where Python can (3.12 and later), so that an
application that never really waits has answered before the wire's callback returns.
"""

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol, cast

from .admission import Admission, Waiting
from .asgi import Application, Message, Scope
from .errors import Disconnected
from .exchange import Waiters
from .log import error_log, printable


class Call(Protocol):
    """What the dispatcher needs to know of an exchange.

    Attributes:
        running: Whether its application has been started and has not returned; the dispatcher says so.
        scope: What its application is called with, and may change.
        started_at: When it began, on the clock; a second earlier, if nobody keeps account of it.
    """

    running: bool
    scope: Scope
    started_at: float

    async def receive(self) -> Message:
        """Give the application its next event."""

    async def send(self, message: Message) -> None:
        """Act on a message of the application."""

    def finished(self, error: BaseException | None) -> str | None:
        """Complete what the application left open; return a complaint for the log, if there is one."""


class Request(Waiting, Call, Protocol):
    """A call of which there may be only so many at once."""


class Dispatcher:
    """Runs the application once per exchange.

    Attributes:
        started: How many exchanges were ever started.
    """

    def __init__(self, application: Application, admission: Admission[Request]) -> None:
        self._application = application
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        # A clean context per exchange: what one application call sets, no other sees.
        self._context = contextvars.copy_context()
        self._running: dict[asyncio.Task[None], Call] = {}
        self._idle = Waiters()
        self._cancelling = False
        self.started = 0

    def start(self, call: Call) -> None:
        """Run the application for one exchange."""
        task = self._start(call)
        if task is not None:
            task.add_done_callback(self._ended)

    def admit(self, request: Request) -> None:
        """Run the application for a request, now or when it is its turn (`--max-in-flight`)."""
        admission = self._admission
        if (admission.in_flight >= admission.share or admission.queue) and not admission.admits(request):
            admission.wait(request)
            return
        self._begin(request)
        if admission.queue:
            self._begin_waiting()

    @property
    def running(self) -> list[Call]:
        """The exchanges whose application has not returned."""
        return list(self._running.values())

    @property
    def tasks(self) -> Mapping[asyncio.Task[None], Call]:
        """The same, by the tasks they run in."""
        return self._running

    async def wait_idle(self) -> None:
        """Wait until no application is running."""
        while self._running:
            await self._idle.wait()

    def close(self) -> None:
        """Refuse the requests that wait for their turn: it will not come."""
        self._admission.close()

    def cancel(self, chosen: Callable[[Call], bool] | None = None) -> None:
        """Cancel the applications that are still running, those chosen or all; they end soon."""
        self._cancelling = True
        for task, call in self._running.items():
            if chosen is None or chosen(call):
                task.cancel()

    def _begin(self, request: Request) -> None:
        admission, client = self._admission, request.scope["client"]
        admission.in_flight += 1
        task = self._start(request)
        if task is None:
            admission.in_flight -= 1
        else:
            task.add_done_callback(self._request_ended)
            admission.enter(request, client)

    def _begin_waiting(self) -> None:
        """Begin the requests that wait, as far as there is room now."""
        while (waiting := self._admission.next()) is not None:
            self._begin(waiting)

    def _start(self, call: Call) -> asyncio.Task[None] | None:
        """Start the application; return its task, unless it has ended already."""
        self.started += 1
        task = _spawn(self._run(call), self._loop, self._context.copy())
        if task.done():
            return None
        call.running = True
        self._running[task] = call
        return task

    async def _run(self, call: Call) -> None:
        error: BaseException | None = None
        try:
            await self._application(call.scope, call.receive, call.send)
        except asyncio.CancelledError as cancellation:
            error = cancellation
            if not self._cancelling:
                error_log.error("%s: cancelled by the application itself", _describe(call.scope))
            raise
        except (GeneratorExit, KeyboardInterrupt) as interruption:  # the loop ends, or the process shall
            error = interruption
            raise
        except BaseException as raised:  # noqa: BLE001 - SystemExit in an application ends that call only
            error = raised
            _log_failure(call, raised)
        finally:
            complaint = call.finished(error)
            if complaint is not None:
                error_log.error("%s: %s", _describe(call.scope), complaint)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task).running = False
        if not self._running:
            self._idle.wake()

    def _request_ended(self, task: asyncio.Task[None]) -> None:
        self._admission.leave(cast(Request, self._running[task]))
        self._begin_waiting()
        self._ended(task)


if sys.version_info >= (3, 12):

    def _spawn(
        coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> asyncio.Task[None]:
        """Make the task of an exchange, which runs at once as far as it gets."""
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)

else:

    def _spawn(
        coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> asyncio.Task[None]:
        """Make the task of an exchange."""
        return loop.create_task(coroutine, context=context)


def _log_failure(call: Call, error: BaseException) -> None:
    """Log an exception of the application, unless all it says is that the client has gone."""
    if all(isinstance(leaf, Disconnected) for leaf in _leaves(error)):
        return
    name, kind = _describe(call.scope), type(error).__name__
    if all(_follows_disconnect(leaf) for leaf in _leaves(error)):
        # Frameworks turn our OSError into an exception of their own (Starlette: ClientDisconnect).
        error_log.info("%s: application ended with %s after the client had gone", name, kind)
        return
    try:
        error_log.error("%s: exception in the application", name, exc_info=error)
    except Exception:  # noqa: BLE001 - such as RecursionError, from groups in groups
        error_log.error("%s: exception in the application, too deep to be shown: %s", name, kind)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    unseen = [error]  # no recursion: groups may be in groups as deep as an application likes
    while unseen:
        each = unseen.pop()
        if isinstance(each, BaseExceptionGroup):
            unseen += each.exceptions
        else:
            yield each


def _follows_disconnect(error: BaseException) -> bool:
    """Whether an exception was raised because of a Disconnected, or while one was handled."""
    seen: set[int] = set()  # `raise error from error` makes a circle
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if all(isinstance(leaf, Disconnected) for leaf in _leaves(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _describe(scope: Scope) -> str:
    return f"{printable(scope.get('method', 'WEBSOCKET'))} {printable(scope.get('path'))}"
