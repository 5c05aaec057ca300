"""Supervisor: opens the sockets, starts the workers, watches them, replaces them, ends them.

Invariants:
- It never imports the application, nor what serves it: it is small, and nothing of theirs can hurt it.
- The listening sockets are its own and stay open from its start to its end, whoever serves them: what
  waits in the backlog of a worker that has ended is accepted by another.
- A worker is ready only after the application's startup. One that replaces another is ready before the
  other drains; if it does not get ready, the other stays.
"""

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .core import handover
from .core.clock import NEVER, Clock
from .core.config import Config, one_config
from .core.control import Message
from .core.drain import delay_drain
from .core.errors import AlphornError, ConfigError, WorkersFailed
from .core.fleet import Fleet
from .core.identity import PidFile, settle
from .core.log import error_log, reopen_log_files
from .core.process import Signals, Terminal, on_signals, usable_processors
from .core.sockets import Listeners, open_as_user, parse_admin_bind, parse_bind
from .core.systemd import ServiceManager
from .log_config import set_up_logging
from .upgrade import Predecessor, Successor, starting_folder
from .worker_process import STEADY_SECONDS, WELL, WorkerProcess, failure_of, orders

if TYPE_CHECKING:
    from .admin import AdminEndpoint

_MOST_FAILURES: Final = 5
"""So many times in a row a worker may end early before that is a loop, in ten seconds (systemd: the same)."""

_MOST_LAST_COUNTED: Final = 1000
"""Ended workers whose counters are kept for an operator who does not ask; then nobody looks at metrics."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class _Place:
    """The place of one worker, which workers take one after the other.

    Attributes:
        number: From 1.
        worker: Who serves there; None while nobody does.
        turn: Held while a worker is started for it.
        failures: How often in a row one has ended early.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        self.turn = asyncio.Lock()
        self.failures = 0


class Supervisor:
    """The workers of a service, in the running event loop."""

    def __init__(
        self, app: str, config: Config, predecessor: Predecessor | None = None, folder: Path | None = None
    ) -> None:
        """Prepare to serve.

        Args:
            app: The "module:attribute" where the application is.
            config: The settings, which all workers share.
            predecessor: Whose sockets to take over, and whom to relieve.
            folder: Where the service was started, from which `--chdir` leads on.
        """
        self._app = app
        self._config = config
        self._clock = Clock()
        self._started_in = folder or starting_folder()
        self._folder = self._started_in / (config.chdir or "")
        self._predecessor = predecessor
        self._successor: Successor | None = None
        self._relieved = False
        self._began_at = self._clock.now()
        self._listeners = Listeners([], [], [])
        self._manager = ServiceManager(self._clock)
        self._places: list[_Place] = []
        self._processes: dict[WorkerProcess, asyncio.Task[None]] = {}
        self._doing: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._renewal = asyncio.Lock()
        self._over: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._signals: Signals | None = None
        self._leaving = False  # nobody new is welcome
        self._ending = False
        self._announced = False
        self._restart_is_due = False
        self._terminal = Terminal()
        self._restarts = 0
        self._reopened = 0  # how often the log files were
        self._bad_end: AlphornError | None = None
        # What workers counted that have ended since the operator was told last, if there is one.
        self._last_counted: deque[dict[str, Any]] = deque(maxlen=_MOST_LAST_COUNTED)

    async def serve(self) -> None:
        """Serve until SIGINT or SIGTERM; a second one ends every process at once.

        Raises:
            ConfigError: An address, the application or a certificate cannot be used.
            StartupFailed: The application refused to start.
            ShutdownFailed: The application's shutdown failed in one of the workers.
            WorkersFailed: Workers end again and again, or one did not end well.
        """
        with Signals(self._kill) as signals, on_signals(self._acts()):
            self._signals = signals
            self._listeners = open_as_user(self._config)
            admin = self._open_admin()
            handover.close_rest()
            self._clock.start()
            try:
                count = worker_count(self._config)
                error_log.info("starting %d workers; the supervisor is process %d", count, os.getpid())
                self._places = [_Place(number) for number in range(1, count + 1)]
                for place in self._places:
                    self._do(self._begin(place))
                await asyncio.wait({signals.first, self._over}, return_when=asyncio.FIRST_COMPLETED)
                failed = self._over.done() and self._over.exception() is not None
                if not failed and not self._relieved:
                    self._leaving = True
                    await delay_drain(self._config.drain_delay, self._clock)
            finally:
                if admin is not None and self._relieved:  # the next one answers
                    await admin.stop()
                await self._end()
                if admin is not None:
                    await admin.stop()
                self._manager.close()
                self._clock.stop()
                self._listeners.close()
        if self._over.done():
            self._over.result()
        if self._bad_end is not None:
            raise self._bad_end

    def drain(self) -> None:
        """Begin to do what SIGTERM does."""
        if not self._over.done():
            self._over.set_result(0.0)

    # ------------------------------------------------------------------ asked by the operator

    def _open_admin(self) -> "AdminEndpoint | None":
        if not self._config.admin_bind:
            return None
        from .admin import AdminEndpoint  # noqa: PLC0415 - it loads the protocols, which a supervisor does without

        try:
            admin = AdminEndpoint(self._config, self._clock, self)
        except BaseException:
            self._listeners.close()
            raise
        admin.start()
        return admin

    async def ask(self, command: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """Ask every worker that serves, or has yet to finish; see `Fleet.ask`."""
        asked = sorted(
            (worker for worker in self._processes if worker.state != "starting"),
            key=lambda worker: worker.number,
        )
        told = await self._ask(asked, command, arguments)
        if command == "metrics":
            told += self._last_counted
            self._last_counted.clear()
        return told

    async def _ask(
        self, asked: Sequence[WorkerProcess], command: str, arguments: dict[str, Any]
    ) -> list[dict[str, Any]]:
        answers = await asyncio.gather(
            *(worker.asking.ask(command, arguments) for worker in asked), return_exceptions=True
        )
        told = []
        for worker, said in zip(asked, answers, strict=True):
            if isinstance(said, BaseException):
                if isinstance(said, KeyError):
                    raise said
                if worker.state == "ready":  # else it may just have ended
                    error_log.warning("%s does not answer to %s: %s", worker, command, said or "not in time")
            else:
                told.append({"worker": worker.number, **said})
        return told

    def describe(self) -> dict[str, Any]:
        """Describe the processes; see `Fleet.describe`."""
        return {
            "pid": os.getpid(),
            "age": self._clock.now() - self._began_at,
            "restarts": self._restarts,
            "workers": [
                {
                    "worker": worker.number,
                    "pid": worker.pid,
                    "age": worker.age,
                    "state": "draining" if self._leaving else worker.state,
                }
                for worker in sorted(self._processes, key=lambda worker: worker.number)
            ],
        }

    async def reload(self) -> str:
        """Read the certificates again, then replace every worker, one after the other.

        Returns:
            What came of it.

        Raises:
            ConfigError: A worker did not get ready; those that serve stay.
        """
        self._manager.reloading()
        try:
            if self._config.certfile:
                await self.ask("reload_certificates")
            async with self._turn:
                for place in list(self._places):
                    try:
                        await self._replace(place)
                    except AlphornError as error:
                        failure = ConfigError(
                            f"the rolling restart is given up at worker {place.number}, and the workers that serve "
                            f"stay: {error}"
                        )
                        failure.trace = error.trace
                        raise failure from error
        finally:
            if not self._ending:
                self._manager.ready()
        return f"{len(self._places)} workers were replaced"

    # ------------------------------------------------------------------ signals

    def _acts(self) -> dict[str, Callable[[], object]]:
        return {
            "SIGHUP": lambda: self._do(self._reload_and_say()),
            "SIGUSR1": lambda: self._do(self._reopen_logs()),
            "SIGUSR2": lambda: self._do(self._upgrade()),
            "SIGTTIN": lambda: self._do(self._add()),
            "SIGTTOU": lambda: self._do(self._remove()),
        }

    async def _reload_and_say(self) -> None:
        if self._terminal.gone:
            error_log.info("SIGHUP, for the terminal is gone: shutting down")
            self.drain()
            return
        starting = [
            f"{worker} for {worker.age:.0f} s" for worker in self._processes if worker.state == "starting"
        ]
        if self._turn.locked() and starting:  # a startup may take for ever, so say what to end
            error_log.info("SIGHUP: once more after the restart under way; starting: %s", ", ".join(starting))
        if self._restart_is_due:
            return  # which has yet to begin, and will find what is new
        self._restart_is_due = True
        async with self._turn:
            self._restart_is_due = False
        error_log.info("SIGHUP: replacing the workers, one after the other")
        try:
            error_log.info("%s", await self.reload())
        except ConfigError as error:
            error_log.error("%s%s", error.trace, error)

    async def _reopen_logs(self) -> None:
        self._reopened += 1
        reopen_log_files()
        await self.ask("reopen_logs")

    async def _upgrade(self) -> None:
        """Start the next supervisor, and drain when it is ready."""
        if self._predecessor is not None:
            error_log.warning("SIGUSR2: this process has yet to take over itself")
            return
        if self._successor is not None:
            error_log.warning("SIGUSR2: process %d is about to take over already", self._successor.pid)
            return
        try:
            self._successor = successor = await Successor.start(self._config, self._started_in)
        except OSError as error:
            error_log.error("SIGUSR2: another process cannot be started: %s", error.strerror)
            return
        error_log.info("SIGUSR2: process %d shall take over", successor.pid)
        self._relieved = await successor.wait_ready()
        if self._relieved:
            error_log.info("process %d has taken over: shutting down", successor.pid)
            self._manager.main_process(successor.pid)
            self.drain()
        else:
            error_log.error("process %d, which was to take over, has ended: going on", successor.pid)
            self._successor = None

    async def _add(self) -> None:
        place = _Place(len(self._places) + 1)
        self._places.append(place)
        error_log.info("SIGTTIN: starting worker %d", place.number)
        await self._revive(place)

    async def _remove(self) -> None:
        if len(self._places) == 1:
            error_log.warning("SIGTTOU: the last worker stays")
            return
        place = self._places.pop()
        error_log.info("SIGTTOU: ending worker %d", place.number)
        async with place.turn:
            if place.worker is not None:
                place.worker.make_way()
                place.worker = None

    def _kill(self) -> None:
        """End every worker at once; called by the handler of a signal."""
        for worker in self._processes:
            worker.signal(signal.SIGKILL)

    # ------------------------------------------------------------------ starting and replacing

    async def _begin(self, place: _Place) -> None:
        """Start the first worker of a place; if that fails, the service does not start."""
        try:
            async with place.turn:
                await self._fill(place)
        except AlphornError as error:
            self._give_up(error)
            return
        if self._predecessor is not None and all(each.worker is not None for each in self._places):
            try:
                PidFile(self._config.pid_file).write()
            except ConfigError as error:
                self._give_up(error)
                return
            self._predecessor.relieve()
            self._predecessor = None

    async def _fill(self, place: _Place) -> None:
        """Start a worker, and give it the place when it is ready.

        Raises:
            AlphornError: It ended before it was ready.
        """
        told = orders(self._app, self._config, self._listeners)
        reopened = self._reopened
        worker = await WorkerProcess.start(place.number, told, self._listeners, self._clock, self._folder)
        self._processes[worker] = asyncio.create_task(self._attend(worker))
        await worker.ready
        if self._reopened != reopened:  # it may have opened them before
            await self._ask([worker], "reopen_logs", {})
        old, place.worker = place.worker, worker
        if old is not None:
            self._restarts += 1
            old.make_way()

    async def _replace(self, place: _Place) -> None:
        """Start another worker for a place; the one that serves drains when that is ready.

        Raises:
            AlphornError: It ended before it was ready.
        """
        async with place.turn:
            if place in self._places:
                await self._fill(place)

    async def _renew(self, worker: WorkerProcess, why: str) -> None:
        """Replace a worker that is worn; the next one has its turn when this one has ended."""
        async with self._renewal:
            while not await self._renewed(worker, why):  # noqa: ASYNC110 - what is to be tried again says nothing
                await asyncio.sleep(_LONGEST_PAUSE)
            if (attending := self._processes.get(worker)) is not None:
                await asyncio.wait({attending})

    async def _renewed(self, worker: WorkerProcess, why: str) -> bool:
        """Try to replace a worker; tell whether its place is another's now."""
        async with self._turn:
            place = self._place_of(worker)
            if place is None:  # a restart came first, or it has crashed
                return True
            error_log.info("%s %s: replacing it", worker, why)
            try:
                await self._replace(place)
            except AlphornError as error:
                error_log.error("%s%s stays, for another does not start: %s", error.trace, worker, error)
                return False
        return True

    def _place_of(self, worker: WorkerProcess) -> _Place | None:
        """Return where a worker serves; None if another has taken its place."""
        return next((place for place in self._places if place.worker is worker), None)

    async def _revive(self, place: _Place) -> None:
        """Start workers for a place where nobody serves until one does, with ever longer pauses."""
        while place.worker is None and place in self._places:
            if place.failures:
                await asyncio.sleep(min(_FIRST_PAUSE * 2 ** (place.failures - 1), _LONGEST_PAUSE))
            async with place.turn:
                if place.worker is not None or place not in self._places:
                    return
                try:
                    await self._fill(place)
                except AlphornError as error:
                    error_log.error("%sworker %d does not start: %s", error.trace, place.number, error)
                    self._count_failure(place, error)

    def _count_failure(self, place: _Place, error: AlphornError) -> None:
        place.failures += 1
        steady = any(each.worker is not None and each.worker.steady for each in self._places)
        if place.failures >= _MOST_FAILURES and not steady:
            error_log.critical("workers end again and again: giving up")
            self._give_up(error)

    def _give_up(self, error: AlphornError) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    # ------------------------------------------------------------------ watching

    async def _attend(self, worker: WorkerProcess) -> None:
        how = await worker.attend(self._heard)
        del self._processes[worker]
        if worker.counted:
            self._last_counted.append({"worker": worker.number, **worker.counted})
        if worker.ready_at == NEVER:
            if not worker.ready.done():  # else nobody waits for it any more
                worker.ready.set_exception(worker.failure or WorkersFailed(f"worker {worker.number} {how}"))
            return
        if how != WELL and (worker.state == "draining" or self._ending):
            error_log.error("%s %s", worker, how)
            if self._ending:
                self._bad_end = worker.failure or WorkersFailed(f"worker {worker.number} {how}")
        place = self._place_of(worker)
        if place is not None and not self._ending:
            self._lost(place, worker, how)

    def _lost(self, place: _Place, worker: WorkerProcess, how: str) -> None:
        """Act on the end of a worker that nobody has told to end."""
        place.worker = None
        self._restarts += 1
        error = worker.failure or WorkersFailed(f"worker {worker.number} {how}")
        error_log.error("%s %s after %d seconds", worker, how, worker.served_seconds)
        if worker.served_seconds < STEADY_SECONDS:
            self._count_failure(place, error)
        else:
            place.failures = 0
        self._do(self._revive(place))

    def _heard(self, worker: WorkerProcess, message: Message) -> None:
        match message["event"]:
            case "ready":
                if worker.ready.done():  # too late: the service ends
                    return
                worker.begin()
                error_log.info("%s is ready", worker)
                self._announce(message["announcements"])
            case "beat":
                worker.turns()
            case "draining":
                self._draining(worker)
            case "drained":
                worker.may_block()
                worker.counted = message["counted"]
            case "worn":
                self._do(self._renew(worker, message["what"]))
            case "failed":
                worker.failure = failure_of(message)

    def _draining(self, worker: WorkerProcess) -> None:
        """Replace a worker at once that somebody else has told to end."""
        place = self._place_of(worker)
        worker.state = "draining"
        # Who tells every process to end, as systemd does, has told this one as well.
        if place is not None and not self._ending and not (self._signals and self._signals.signalled):
            error_log.info("%s was told to end by somebody else: starting another", worker)
            place.worker = None
            self._restarts += 1
            self._do(self._revive(place))

    def _announce(self, lines: list[str]) -> None:
        """Say where the service is, once."""
        if not self._announced:
            self._announced = True
            for line in lines:
                error_log.info("%s", line)
            self._manager.ready()

    # ------------------------------------------------------------------ the end

    async def _end(self) -> None:
        self._ending = True
        if not self._relieved:
            self._manager.stopping()
        for task in self._doing:
            task.cancel()
        for worker in self._processes:
            if self._relieved and worker.state == "ready":
                worker.make_way()
            else:
                worker.drain()
        while self._processes:
            await asyncio.wait(set(self._processes.values()))

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        """Do something beside everything else; a bug in it ends the service."""
        task = asyncio.create_task(what)
        self._doing.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._doing.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._over.done():
            self._over.set_exception(error)


def worker_count(config: Config) -> int:
    """Return how many workers the settings ask for."""
    return usable_processors() if config.workers == "auto" else config.workers


def run(app: Any, config: Config | None = None, **settings: Any) -> None:
    """Serve an application until SIGINT or SIGTERM; blocks.

    Args:
        app: An ASGI 3, ASGI 2 or WSGI application, or the "module:attribute" where one is. With several
            workers, which import it themselves, only the latter.
        config: The settings; or give them by name: `run(app, port=8080)`.
        settings: Fields of a Config, when none is given.

    Raises:
        ConfigError: Something cannot be used: a setting, the application, an address, a certificate.
        StartupFailed: The application refused to start.
        ShutdownFailed: The application reported that its shutdown failed.
        WorkersFailed: Workers end again and again, or one did not end well.
        RuntimeError: This thread runs an event loop already.
    """
    _refuse_running_loop()
    config = one_config(config, settings)
    folder = starting_folder()
    settle(config)
    set_up_logging(config)
    predecessor = Predecessor.find()
    if predecessor is not None:
        config = predecessor.complete(config)
    if config.certfile:  # before there is a loop, which whoever types would keep waiting
        from .tls.passwords import ask_for_key_password  # noqa: PLC0415 - only where there is TLS

        config = ask_for_key_password(config)
    # Before the application is loaded, which may take its time.
    for bind in config.bind + config.redirect_bind + config.clear_bind:
        parse_bind(bind)
    for bind in config.admin_bind:
        parse_admin_bind(bind)
    if predecessor is not None and not config.supervised:
        raise ConfigError(
            "one process alone takes over from nobody; keep --workers, or start the service anew"
        )
    with PidFile(config.pid_file) as pid_file:
        if predecessor is None:  # whose number is there until it is relieved
            pid_file.write()
        if config.supervised:
            asyncio.run(_supervise(app, config, predecessor, folder))
        else:
            _serve_alone(app, config)


def _serve_alone(app: Any, config: Config) -> None:
    from .server import Server, run_server  # noqa: PLC0415 - a supervisor does without it

    if config.user is None and config.group is None:
        server = Server(app, config)
    else:
        listeners = open_as_user(config)
        try:
            server = Server(app, config, listeners=listeners)
        except BaseException:
            listeners.close()
            raise
    run_server(server, server.serve)


async def _supervise(app: Any, config: Config, predecessor: Predecessor | None, folder: Path) -> None:
    flag = "--reload" if config.reload else f"--workers {config.workers}"
    if not isinstance(app, str):
        raise ConfigError(
            f"{flag}: every worker imports the application itself; give it as 'module:attribute'"
        )
    if os.name != "posix":
        raise ConfigError(f"{flag}: this system cannot hand sockets on; leave it out")
    if config.dev_tls:
        from .tls.development import with_development_certificate  # noqa: PLC0415 - slow to import

        config = with_development_certificate(config)
    if config.reload:
        from .reload import Reloader  # noqa: PLC0415 - for development only

        await Reloader(app, config).serve()
    else:
        await Supervisor(app, config, predecessor, folder).serve()


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "run() makes an event loop, and one is running here; `await Server(app).serve()` in it"
    )


if TYPE_CHECKING:
    _fleet: type[Fleet] = Supervisor
