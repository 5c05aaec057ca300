"""Startup and shutdown with the application (ASGI lifespan 2.0).

There is no time limit on startup: a model may take minutes to load, and an application that was
never initialised must not be served.
"""

import asyncio
from typing import Any, Final, Literal

from .asgi import LIFESPAN_VERSIONS, Application, Message
from .errors import StartupFailed, UnexpectedMessage
from .log import error_log

_STARTUP: Final = ("lifespan.startup.complete", "lifespan.startup.failed")
_SHUTDOWN: Final = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


class Lifespan:
    """The lifespan conversation of one worker.

    Attributes:
        state: What the application put into its scope's state; copied into every request.
        failed: Whether the application reported that its shutdown failed.
    """

    def __init__(self, application: Application, mode: Literal["auto", "on", "off"]) -> None:
        self._application = application
        self._mode = mode
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._expected = _STARTUP
        self._error: BaseException | None = None
        self.state: dict[str, Any] = {}
        self.failed = False

    async def startup(self) -> None:
        """Start the application up.

        Raises:
            StartupFailed: The application said so, or does not support lifespan and the mode is "on".
        """
        if self._mode == "off":
            return
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._answer
        if answer is None:
            await self._unsupported()
        elif answer["type"] == "lifespan.startup.failed":
            await self._end_task()
            raise StartupFailed(
                f"the application refused to start: {answer.get('message', '') or 'no reason given'}"
            )

    async def shutdown(self) -> None:
        """Shut the application down; sets `failed` if it could not."""
        if self._task is None:
            return
        self._expected = _SHUTDOWN
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": "lifespan.shutdown"})
        if self._task.done():
            self._conclude(None)
        answer = await self._answer
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            self.failed = True
            error_log.error(
                "the application's shutdown failed: %s", answer.get("message", "") or "no reason given"
            )
        elif answer is None and self._error is not None:
            self.failed = True
        await self._end_task()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": LIFESPAN_VERSIONS.copy(), "state": self.state}
        try:
            await self._application(scope, self._events.get, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the application's
            self._error = error
            if self._started:
                error_log.error("exception in the application's lifespan", exc_info=error)
        finally:
            self._conclude(None)

    @property
    def _started(self) -> bool:
        return self._answer.done() or self._expected is _SHUTDOWN

    async def _send(self, message: Message) -> None:
        kind = message.get("type")
        if kind not in self._expected or self._answer.done():
            raise UnexpectedMessage(f"{kind!r} in lifespan; legal: {', '.join(self._expected)}")
        self._conclude(message)

    def _conclude(self, answer: Message | None) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)

    async def _unsupported(self) -> None:
        """Go on without lifespan, or not, as the mode says."""
        if self._mode == "on":
            raise StartupFailed("the application's startup failed") from self._error
        reason = f"{type(self._error).__name__}: {self._error}" if self._error else "it returned at once"
        error_log.info("the application has no lifespan (%s)", reason)
        await self._end_task()
        self._task = None

    async def _end_task(self) -> None:
        if self._task is not None:
            if not self._task.done() and self._expected is _STARTUP:
                self._task.cancel()
            await asyncio.wait([self._task])
