"""`--reload`: one worker, started anew whenever a file of its application has changed.

Invariants:
- The port stays open. Clients that come while nobody serves wait in the backlog: who saves a file and asks
  again is answered by the new code.
- The old worker ends before the new one starts: an application may count on being alone. But the interpreter of
  the new one is there already, and has loaded all but the application, which is most of a start.
- What cannot be loaded is told once, and waited for; it does not end the command.
- Changes are reported by the system (watchfiles). What editors, git, Python and other tools write beside the
  files of an application is none.
"""

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Final

from .core.clock import NEVER, Clock
from .core.config import Config
from .core.control import Message
from .core.errors import ApplicationFailed, ConfigError
from .core.log import error_log
from .core.process import Signals
from .core.sockets import Listeners, open_as_user
from .worker_process import Interpreter, WorkerProcess, failure_of, orders

__all__ = ["Files", "Reloader"]

GRACEFUL_SECONDS: Final = 2.0
"""What requests may take to end before a restart, at most: somebody is waiting to see what a change has done."""

_PYTHON: Final = "*.py"
_NAMED: Final = 3


class Reloader:
    """A service for who develops it, in the running event loop."""

    def __init__(self, app: str, config: Config, clock: Clock | None = None) -> None:
        """Prepare to serve.

        Args:
            app: The "module:attribute" where the application is.
            config: The settings.
            clock: Where deadlines get the time from.

        Raises:
            ConfigError: Its files cannot be watched.
        """
        grace = min(config.graceful_timeout, GRACEFUL_SECONDS)
        self._app = app
        self._config = dataclasses.replace(config, graceful_timeout=grace)
        self._clock = clock or Clock()
        self._files = Files(config)
        self._listeners = Listeners([], [], [])
        self._worker: WorkerProcess | None = None
        self._spare: asyncio.Task[Interpreter] | None = None
        self._announced = False
        self._changed_at = NEVER

    async def serve(self) -> None:
        """Serve until SIGINT or SIGTERM; a second one ends the worker at once.

        Raises:
            ConfigError: An address cannot be used; or from the start, there is no such application.
        """
        with Signals(self._kill) as signals:
            self._listeners = open_as_user(self._config)
            working = asyncio.create_task(self._work())
            try:
                either: set[asyncio.Future[Any]] = {working, signals.first}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                working.cancel()
                await asyncio.wait({working})
                self._listeners.close()
        if not working.cancelled():
            working.result()

    async def _work(self) -> None:
        """Run one worker after the other."""
        changes = self._files.changes()
        change = asyncio.ensure_future(anext(changes))
        try:
            while True:
                worker = self._worker = await self._start()
                attending = asyncio.create_task(self._attend(worker))
                try:
                    await asyncio.wait({change, attending}, return_when=asyncio.FIRST_COMPLETED)
                    if attending.done():
                        attending.result()
                    self._tell(await change)
                finally:
                    worker.drain()
                    await asyncio.wait({attending})
                change = asyncio.ensure_future(anext(changes))
        finally:
            change.cancel()
            await asyncio.wait({change})
            await changes.aclose()
            await self._discard_spare()

    async def _start(self) -> WorkerProcess:
        told = orders(self._app, self._config, self._listeners)
        spare, self._spare = self._spare, None
        if spare is not None:
            with suppress(OSError):  # which, if it stays so, `WorkerProcess.start` has words for
                return await WorkerProcess.of(await spare, 1, told, self._clock)
        return await WorkerProcess.start(1, told, self._listeners, self._clock)

    def _prepare(self) -> None:
        """Have an interpreter ready for the next change."""
        if self._spare is None:
            self._spare = asyncio.create_task(Interpreter.start(self._listeners))

    async def _discard_spare(self) -> None:
        if self._spare is not None:
            with suppress(OSError):
                await (await self._spare).discard()

    async def _attend(self, worker: WorkerProcess) -> None:
        """Listen to a worker until it has ended; say why, unless it was told to."""
        how = await worker.attend(self._heard)
        error = worker.failure
        if error is not None:
            mistaken = isinstance(error, ConfigError) and not isinstance(error, ApplicationFailed)
            if mistaken and not self._announced:  # misspelt, rather than being worked on
                raise error
            error_log.error("%s", f"{error}\n{error.trace}".rstrip())
        elif worker.state != "draining":
            error_log.error("%s %s", worker, how)
        if worker.state != "draining":
            error_log.info("waiting for a change")

    def _tell(self, changed: list[str]) -> None:
        self._changed_at = self._clock.now()
        more = ", ..." if len(changed) > _NAMED else ""
        error_log.info("%s%s: starting anew", ", ".join(changed[:_NAMED]), more)

    def _heard(self, worker: WorkerProcess, message: Message) -> None:
        match message["event"]:
            case "ready":
                self._prepare()
                worker.state = "ready"
                if not self._announced:
                    for line in message["announcements"]:
                        error_log.info("%s", line)
                else:
                    error_log.info("serving again after %.1f seconds", self._clock.now() - self._changed_at)
                self._announced = True
            case "failed":
                self._prepare()
                worker.failure = failure_of(message)

    def _kill(self) -> None:
        """End the worker at once; called by the handler of a signal."""
        if self._worker is not None:
            self._worker.signal(signal.SIGKILL)


class Files:
    """The files of an application that are watched."""

    def __init__(self, config: Config) -> None:
        """Choose them, as `--reload-dir`, `--reload-include` and `--reload-exclude` say.

        Raises:
            ConfigError: A folder is not there, or watchfiles is not installed.
        """
        try:
            import watchfiles  # noqa: PLC0415 - optional, and only for development
        except ImportError:
            raise ConfigError(
                "--reload needs the package watchfiles, which is not installed; `pip install watchfiles`"
            ) from None
        flag, names = (
            ("--reload-dir", config.reload_dir) if config.reload_dir else ("--app-dir", (config.app_dir,))
        )
        self._folders = [_folder(flag, name) for name in names]
        self._included = (_PYTHON, *config.reload_include)
        self._excluded = config.reload_exclude
        self._is_usual = watchfiles.DefaultFilter()
        self._watch = watchfiles.awatch

    async def changes(self) -> AsyncGenerator[list[str], None]:
        """Yield the files that have changed, each time that some have and have come to rest.

        Raises:
            ConfigError: The system does not report changes, or not of so many folders.
        """
        try:
            async for changes in self._watch(*self._folders, watch_filter=self._concerns):
                yield _names(path for _, path in changes)
        except OSError as error:
            raise ConfigError(
                f"--reload: files cannot be watched: {error}; watch fewer with --reload-dir, or have them looked for "
                "with WATCHFILES_FORCE_POLLING=1"
            ) from error

    def _concerns(self, change: Any, path: str) -> bool:
        """Tell whether a change is one of the application."""
        file = next(
            (Path(path).relative_to(folder) for folder in self._folders if Path(path).is_relative_to(folder)),
            PurePath(path),
        )
        return (
            self._is_usual(change, str(file))
            and any(file.match(pattern) for pattern in self._included)
            and not any(part.match(pattern) for part in (file, *file.parents) for pattern in self._excluded)
        )


def _names(paths: Iterable[str]) -> list[str]:
    return sorted({os.path.relpath(path) for path in paths})


def _folder(flag: str, name: str) -> Path:
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"{flag} {name}: there is no folder {folder}; name one whose files to watch")
    return folder
