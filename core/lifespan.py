"""Startup and shutdown with the application (ASGI lifespan 2.0).

There is no time limit on startup: a model may take minutes to load, and an application that was
never initialised must not be served. Shutdown has one, or a service that has been told to end might never do.
"""

import asyncio
from contextlib import nullcontext
from enum import Enum
from typing import Any, Final, Literal, NoReturn

from .asgi import LIFESPAN_VERSIONS, Application, Message
from .clock import Clock
from .errors import StartupFailed, UnexpectedMessage
from .log import error_log

END_SECONDS: Final = 5.0
"""What an application may take to end when it has refused to start, or when it was cancelled."""


class State(Enum):
    """How far the application is; the value completes the sentence "the application is ..."."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "shutting down"
    STOPPED = "shut down"


LEGAL: Final = {
    State.STARTING: ("lifespan.startup.complete", "lifespan.startup.failed"),
    State.SERVING: (),
    State.STOPPING: ("lifespan.shutdown.complete", "lifespan.shutdown.failed"),
    State.STOPPED: (),
}
"""Which messages are legal in which state; each of them leads to the next."""

_NEXT: Final = {State.STARTING: State.SERVING, State.STOPPING: State.STOPPED}


class Lifespan:
    """The lifespan conversation of one worker.

    Attributes:
        state: What the application put into its scope's state; copied into every request.
        failed: Whether the application failed to shut down.
    """

    def __init__(
        self,
        application: Application,
        mode: Literal["auto", "on", "off"],
        clock: Clock,
        shutdown_timeout: float,
    ) -> None:
        """Prepare to start.

        Args:
            application: The application.
            mode: Whether it has to support lifespan.
            clock: The time.
            shutdown_timeout: What its shutdown may take in seconds; 0 is any time.
        """
        self._application = application
        self._mode = mode
        self._clock = clock
        self._shutdown_timeout = shutdown_timeout
        self._task: asyncio.Task[None] | None = None
        self._state = State.STARTING
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._refused = False
        self._error: BaseException | None = None
        self.state: dict[str, Any] = {}
        self.failed = False

    async def startup(self) -> None:
        """Start the application up. Cancelled, it leaves nothing of it behind.

        Raises:
            StartupFailed: The application said so, or does not support lifespan and the mode is "on".
        """
        if self._mode == "off":
            return
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            answer = await self._answer
            if answer is None:
                self._go_on_without()
            elif self._refused:
                await self._ends(self._task)
                self._give_up(answer)
        except BaseException:
            await self._abandon(self._task)
            self._task = None
            raise

    async def shutdown(self) -> None:
        """Shut the application down, if it was started; sets `failed` if it could not, or not in time."""
        if self._task is None:
            return
        self._state = State.STOPPING
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": "lifespan.shutdown"})
        if self._task.done():
            self._conclude(None)
        try:
            async with (
                self._clock.timeout(self._shutdown_timeout) if self._shutdown_timeout else nullcontext()
            ):
                answer = await self._answer
                await asyncio.wait([self._task])
        except asyncio.CancelledError:
            await self._abandon(self._task)
            raise
        except TimeoutError:
            self.failed = True
            error_log.error(
                "the application's shutdown takes longer than %g seconds (--shutdown-timeout): cancelling",
                self._shutdown_timeout,
            )
            await self._abandon(self._task)
            return
        if answer is None:
            self.failed = self._error is not None
        elif self._refused:
            self.failed = True
            error_log.error("the application's shutdown failed: %s", _reason(answer))

    # ------------------------------------------------------------------ the application's side

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": LIFESPAN_VERSIONS.copy(), "state": self.state}
        try:
            await self._application(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the application's
            self._error = error
            # Frameworks say "failed", then raise what they have said it about.
            if self._state is not State.STARTING and not self._refused:
                self._log_error("exception in the application's lifespan")
        finally:
            self._conclude(None)

    async def _receive(self) -> Message:
        if self._task is not None and (self._refused or self._state is State.STOPPED):
            self._task.cancel()  # nothing will come any more: who loops here would wait for ever
        return await self._events.get()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind not in LEGAL[self._state]:
            legal = ", ".join(LEGAL[self._state]) or "nothing"
            raise UnexpectedMessage(f"{kind!r} while the application is {self._state.value}; legal: {legal}")
        self._refused = kind.endswith(".failed")
        self._conclude(message)

    def _conclude(self, answer: Message | None) -> None:
        """Go on to the next state with an answer, or with None where the application ended without."""
        self._state = _NEXT.get(self._state, self._state)
        if not self._answer.done():
            self._answer.set_result(answer)

    # ------------------------------------------------------------------ when it has no lifespan

    def _go_on_without(self) -> None:
        """Go on without lifespan, or refuse to, as the mode says."""
        error = self._error
        what = f"raised {_summary(error)}" if error else "returned without an answer"
        # SystemExit is not how one says that something is unsupported.
        if self._mode == "on" or not isinstance(error, Exception | None):
            if error is not None:
                self._log_error("exception in the application's startup")
            raise StartupFailed(f"the application's lifespan {what}") from error
        error_log.info(
            "going on without lifespan: the application's lifespan %s (--lifespan on forbids that)", what
        )
        if error is not None:
            error_log.debug("the traceback of that", exc_info=error)
        self._task = None

    def _give_up(self, answer: Message) -> NoReturn:
        """Log why the application refuses to start, perhaps a traceback; its last line goes into the error."""
        reason = _reason(answer)
        error_log.error("the application refuses to start: %s", reason)
        raise StartupFailed(f"the application refuses to start: {reason.splitlines()[-1]}") from self._error

    def _log_error(self, message: str) -> None:
        error = self._error
        assert error is not None
        # The first frame is ours.
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        error_log.error(message, exc_info=(type(error), error, trace))

    async def _abandon(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        if not await self._ends(task):
            error_log.error("the application's lifespan ignores its cancellation")

    async def _ends(self, task: asyncio.Task[None]) -> bool:
        try:
            async with self._clock.timeout(END_SECONDS):
                await asyncio.wait([task])
        except TimeoutError:
            return False
        return True


def _summary(error: BaseException) -> str:
    """Return an exception in one line."""
    try:
        first = str(error).partition("\n")[0]
    except Exception:  # noqa: BLE001 - an exception may fail to say what it is about
        first = ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _reason(answer: Message) -> str:
    return str(answer.get("message", "")).strip() or "it gave no reason"
