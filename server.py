"""Server: the composition root of one worker.

Settings become sockets, acceptors, handlers and a dispatcher here, and nowhere else. Startup:
sockets first, so that a port in use is known before a model is loaded; then the application's
lifespan; then connections. Shutdown is the other way round, within the grace period.
"""

import asyncio
import socket
import warnings
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from .admin import AdminEndpoint
from .core.access_log import AccessLog
from .core.application import adapt, load_application
from .core.asgi import Application
from .core.build import COMPILED
from .core.clock import NEVER, Clock
from .core.config import Config, one_config
from .core.drain import Report, ToldOfShutdown, delay_drain, drain
from .core.errors import ConfigError, ShutdownFailed
from .core.fleet import Commands, SingleProcess, State
from .core.inspection import Inspection
from .core.lifespan import END_SECONDS, Lifespan
from .core.log import enable_logging, error_log, reopen_log_files
from .core.loop_watch import LoopWatch
from .core.metrics import Metrics
from .core.process import (
    ENDING_SECONDS,
    Ending,
    Signals,
    Terminal,
    on_signals,
    reserve_descriptors,
    settle_memory,
)
from .core.proxies import TrustedProxies
from .core.redirect import HTTPS_PORT, RedirectToHttps
from .core.request_ids import Named
from .core.sockets import Listeners, address_of, describe, open_listeners
from .core.static import StaticFiles, parse_mounts
from .core.systemd import ServiceManager
from .core.worker import Worker, make_limits
from .protocols.http1 import Http1Connection
from .protocols.http2 import Http2Connection
from .protocols.observed import ObservedHttp1, ObservedHttp2, counting_handshake
from .protocols.websocket import open_handshake
from .tls.acceptor import Acceptor, ContextFor, Handlers

if TYPE_CHECKING:
    from .tls.served import ServedTls  # loaded where there is TLS: cryptography is slow to import

if COMPILED:  # under `python -W error` what cancels an application would else become this warning
    warnings.filterwarnings("ignore", r"the \(type, exc, tb\) signature of throw", DeprecationWarning)


class Server:
    """An ASGI server in the running event loop.

    `async with Server(app, Config(port=0)) as server:` serves inside the block and drains at its
    end; `await server.serve()` serves until SIGINT or SIGTERM.

    Attributes:
        config: The settings.
        urls: Where it listens, one URL per socket, those of redirects last; known once it has started.
        admin_urls: Where its operator may ask (`--admin-bind`); known once it has started.
        announcements: The same as lines for the log, with what is spoken there.
        drained: Whether it has stopped, and every request had finished by itself within the grace period.
    """

    def __init__(  # noqa: PLR0913 - all but the application and its settings is for other parts of ours
        self,
        app: Any,
        config: Config | None = None,
        *,
        clock: Clock | None = None,
        listeners: Listeners | None = None,
        supervised: bool = False,
        ticket_secret: bytes | None = None,
        **settings: Any,
    ) -> None:
        """Prepare to serve.

        Args:
            app: An ASGI 3, ASGI 2 or WSGI application, or the "module:attribute" where one is.
            config: The settings; or give them by name.
            clock: Where timeouts get the time from; tests hand in one that they advance.
            listeners: Sockets that are open already, in place of those that the settings name.
            supervised: Whether there is a supervisor, which announces where it listens and whom the operator asks.
            ticket_secret: What servers on this computer share that resume each other's TLS sessions: 32 random bytes.
            settings: Fields of a Config, when none is given.

        Raises:
            ConfigError: The application cannot be loaded, or a setting makes no sense.
        """
        self.config = one_config(config, settings)
        if self.config.supervised and not supervised:
            raise ConfigError(
                "a Server is one worker; for --workers and --reload use `alphorn.run` or the command"
            )
        self.urls: list[str] = []
        self.admin_urls: list[str] = []
        self.announcements: list[str] = []
        self._listeners = listeners
        self._supervised = supervised
        self._ticket_secret = ticket_secret
        self.drained = False
        self._clock = clock or Clock()
        mounts = parse_mounts(self.config.static)
        self._application: Application = (
            load_application(app, self.config) if isinstance(app, str) else adapt(app, self.config.interface)
        )
        if mounts:
            self._application = StaticFiles(
                mounts, self._application, self._clock.unix_time, dotfiles=self.config.static_dotfiles
            )
        names = {"request_id": self.config.request_id, "trace_context": self.config.trace_context}
        if any(names.values()):
            self._application = Named(self._application, **names)
        self._running: _Running | None = None
        self._commands: Commands = {}
        self._signals: Signals | None = None

    async def __aenter__(self) -> Self:
        """Start; see `start`."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain and stop; see `stop`."""
        await self.stop()

    async def start(self) -> None:
        """Open the sockets, start the application up, begin to accept. Cancelled, it leaves nothing behind.

        Raises:
            ConfigError: An address or a certificate cannot be used.
            StartupFailed: The application refused to start.
        """
        if self._running is not None:
            raise RuntimeError("this server has been started already")
        running = _Running(
            self._application,
            self.config,
            self._clock,
            self._listeners,
            self._drain_now,
            supervised=self._supervised,
            ticket_secret=self._ticket_secret,
        )
        self.urls, self.announcements = await running.start()
        self.admin_urls = running.admin_urls
        self._running = running
        self._commands = running.commands
        if not self._supervised:
            for line in self.announcements:
                error_log.info("%s", line)

    async def stop(self) -> None:
        """Stop accepting, let requests finish within the grace period, shut the application down.

        Cancelling it cuts the grace period short; the application is still shut down.

        Raises:
            ShutdownFailed: The application reported that its shutdown failed.
        """
        await self._stop()

    async def _stop(self, hold_seconds: float = 0.0, on_drained: Callable[[], object] | None = None) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        self.drained = False
        try:
            self.drained = await running.drain(hold_seconds)
        finally:
            if on_drained is not None:
                on_drained()
            await running.end()

    @property
    def requests(self) -> int:
        """How many requests and WebSockets were begun since the last start."""
        return 0 if self._running is None else self._running.requests

    @property
    def limits_hit(self) -> Mapping[str, int]:
        """How often clients went beyond a limit, by the name of its setting, since the last start."""
        return {} if self._running is None else dict(self._running.limits.hits)

    @property
    def commands(self) -> Commands:
        """What the operator may ask this worker, from its start on; before, nothing."""
        return self._commands

    def reload_certificates(self) -> bool:
        """Read the certificates, their keys and what clients are held against again, at once.

        New connections get what is new; those that are there go on. Files that have changed are noticed
        by themselves within seconds, so this is for those who cannot wait. Files that cannot be used
        change nothing; what is wrong with them is logged.

        Returns:
            Whether what the files have is in use now; without TLS, or before the start, it is not.
        """
        return self._running is not None and self._running.reload_certificates()

    async def serve(self, on_drained: Callable[[], object] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, or until it is cancelled; a second signal ends the process at once.

        SIGHUP reads certificates again, or is one of the first kind when it comes from a terminal that is closed.
        SIGUSR1 opens the log files again.

        Args:
            on_drained: See `serve_until`.

        Raises:
            ConfigError: An address or a certificate cannot be used.
            StartupFailed: The application refused to start.
            ShutdownFailed: The application reported that its shutdown failed.
        """
        manager = ServiceManager(self._clock)
        terminal = Terminal()

        def hung_up() -> None:
            if terminal.gone:
                signals.tell("SIGHUP, for the terminal is gone")
            elif self._running is not None:
                manager.reloading()
                try:
                    error_log.info("SIGHUP: %s", self._running.reload_now())
                except ConfigError as error:
                    error_log.warning("SIGHUP: %s", error)
                manager.ready()

        acts: dict[str, Callable[[], object]] = {
            "SIGHUP": hung_up,
            "SIGUSR1": reopen_log_files,
            "SIGUSR2": lambda: error_log.warning(
                "SIGUSR2: only a service with --workers is upgraded in place"
            ),
        }
        with Signals() as signals, on_signals(acts):
            self._signals = signals
            signals.first.add_done_callback(lambda _: manager.stopping())
            try:
                await self.serve_until(signals.first, manager.ready, on_drained)
            finally:
                self._signals = None
                manager.close()

    async def serve_until(
        self,
        told: asyncio.Future[float],
        on_start: Callable[[], object] | None = None,
        on_drained: Callable[[], object] | None = None,
    ) -> None:
        """Serve until it is told to stop, or until it is cancelled.

        Args:
            told: Done when it shall stop; says for how many seconds requests are answered that may be on
                their way already, over connections that are silent.
            on_start: Called when it serves.
            on_drained: Called when no request is left, before the application is shut down.

        Raises:
            ConfigError: An address or a certificate cannot be used.
            StartupFailed: The application refused to start.
            ShutdownFailed: The application reported that its shutdown failed.
        """
        starting = asyncio.ensure_future(self.start())
        # A model may take minutes to load; nobody has to wait for that.
        told.add_done_callback(lambda _: starting.cancel())
        try:
            await starting
            settle_memory()
            if on_start is not None:
                on_start()
            await told
        except asyncio.CancelledError:
            if told.cancelled() or not told.done():  # not by a signal
                raise
        finally:
            hold_seconds = told.result() if told.done() and not told.cancelled() else 0.0
            await self._stop(hold_seconds, on_drained)

    def _drain_now(self) -> None:
        """Let `serve` end as a signal would (`alphorn ctl drain`).

        Raises:
            ConfigError: It is not `serve` that runs.
        """
        if self._signals is None:
            raise ConfigError("this server is a part of a program, which ends it by itself")
        self._signals.tell("alphorn ctl drain")


class _Running:
    """What exists between start and stop."""

    def __init__(  # noqa: PLR0913 - what a Server was told, and nothing else
        self,
        application: Application,
        config: Config,
        clock: Clock,
        listeners: Listeners | None,
        drain_now: Callable[[], None],
        *,
        supervised: bool,
        ticket_secret: bytes | None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._drain_now = drain_now
        self._told_of_shutdown = ToldOfShutdown(application) if config.shutdown_event else None
        self._state: State = "starting"
        self._admin: AdminEndpoint | None = None
        self._lifespan = Lifespan(application, config.lifespan, clock, config.shutdown_timeout)
        self.limits = make_limits(config, clock)
        self._metrics = Metrics(clock) if config.admin_bind else None
        self._worker = self._make_worker(self._told_of_shutdown or application)
        self._watch = LoopWatch(clock, config.blocked_loop_after) if config.blocked_loop_after else None
        self._proxies = TrustedProxies(config.trusted_proxies, config.forwarded_fields)
        self._supervised = supervised
        self._ticket_secret = ticket_secret
        self._open = listeners is not None
        self._listeners = listeners or Listeners([], [], [])
        self._redirects: Worker | None = None
        self._acceptors: list[Acceptor] = []
        self._tls: ServedTls | None = None
        self.commands: dict[str, Callable[..., Any]] = {
            "limits": lambda: {"hits": dict(self.limits.hits)},
            "reopen_logs": lambda: {"files": reopen_log_files()},
            "reload_certificates": lambda: {"in_use": self.reload_certificates()},
        }
        self._access_log: AccessLog | None = None
        if self._metrics is not None:
            inspection = Inspection(
                workers=self._workers,
                metrics=self._metrics,
                limits=self.limits,
                clock=clock,
                watch=self._watch,
            )
            self.commands |= inspection.commands

    async def start(self) -> tuple[list[str], list[str]]:
        """Start, or leave nothing behind; return the URLs, and what to announce."""
        try:
            if self._config.access_log:
                self._access_log = AccessLog(self._config, self._clock)
            self._tls = tls = _tls(self._config, self._clock, self._ticket_secret)
            if not self._open:
                self._listeners = open_listeners(self._config)
            reserve_descriptors(self._config.max_connections)
            if self._config.admin_bind and not self._supervised:
                self._admin = self._open_admin()
            self._clock.start()
            await self._lifespan.startup()
            if self._watch is not None:  # what blocks before is nobody's wait
                self._watch.start()
        except BaseException:
            self._listeners.close()
            await self._leave()
            raise
        self._state = "ready"
        self._observe(self._worker)
        if tls is not None:
            tls.start()
        http1, http2 = (
            (Http1Connection, Http2Connection) if self._metrics is None else (ObservedHttp1, ObservedHttp2)
        )
        handlers = Handlers(
            http1=partial(http1, self._worker) if self._config.http1 else None,
            http2=partial(http2, self._worker) if self._config.http2 or self._config.h2c else None,
        )
        for listener in self._listeners.serving:
            self._accept(listener, handlers, None if tls is None else tls.choose)
        for listener in self._listeners.clear:
            self._accept(listener, handlers, None)
        urls = [describe(listener, secure=tls is not None) for listener in self._listeners.serving]
        clear = [describe(listener, secure=False) for listener in self._listeners.clear]
        spoken = _spoken(self._config, secure=tls is not None)
        names = "" if tls is None else f"; certificate for {tls.names}"
        redirects = self._redirect() if self._listeners.redirecting else []
        return urls + clear + redirects, [
            *(f"listening on {url} ({spoken}{names})" for url in urls),
            *(f"listening on {url} ({_spoken(self._config, secure=False)})" for url in clear),
            *(f"listening on {url} (redirects to https)" for url in redirects),
        ]

    def _make_worker(self, application: Application) -> Worker:
        metrics = self._metrics
        handshake = open_handshake if metrics is None else counting_handshake(metrics)
        return Worker(self._config, self._clock, application, handshake, self.limits, metrics=metrics)

    def _workers(self) -> list[Worker]:
        return [worker for worker in (self._worker, self._redirects) if worker is not None]

    def _observe(self, worker: Worker) -> None:
        """Have those told who keep account of requests."""
        if self._access_log is not None and self._access_log.wanted:
            worker.observers.append(self._access_log.observe)

    def _accept(self, listener: socket.socket, handlers: Handlers, context_for: ContextFor | None) -> None:
        acceptor = Acceptor(
            listener,
            handlers,
            clock=self._clock,
            config=self._config,
            context_for=context_for,
            state=self._lifespan.state,
            proxies=self._proxies,
            limits=self.limits,
            handshakes=None if self._metrics is None else self._metrics.handshakes,
        )
        acceptor.start()
        self._acceptors.append(acceptor)

    def _redirect(self) -> list[str]:
        """Send clients of the addresses for it to https; return the URLs."""
        ports = (address_of(listener.getsockname()) for listener in self._listeners.serving)
        port = next((address[1] for address in ports if address and address[1]), HTTPS_PORT)
        application = RedirectToHttps(self._config.redirect_port or port)
        self._redirects = self._make_worker(application)
        self._observe(self._redirects)
        http1 = Http1Connection if self._metrics is None else ObservedHttp1
        handlers = Handlers(http1=partial(http1, self._redirects), http2=None)
        for listener in self._listeners.redirecting:
            self._accept(listener, handlers, None)
        return [describe(listener, secure=False) for listener in self._listeners.redirecting]

    @property
    def admin_urls(self) -> list[str]:
        """Where the operator may ask."""
        return [] if self._admin is None else self._admin.urls

    def _open_admin(self) -> AdminEndpoint:
        fleet = SingleProcess(
            commands=self.commands,
            clock=self._clock,
            state=lambda: self._state,
            reload_now=self.reload_now,
            drain_now=self._drain_now,
        )
        admin = AdminEndpoint(self._config, self._clock, fleet)
        admin.start()
        return admin

    @property
    def requests(self) -> int:
        """How many there were so far."""
        return sum(worker.dispatcher.started for worker in self._workers())

    def reload_certificates(self) -> bool:
        """Read the files of TLS again; tell whether what they have is in use."""
        return self._tls is not None and self._tls.reload()

    def reload_now(self) -> str:
        """Reload for `alphorn ctl reload`; see `Fleet.reload`."""
        if self._tls is None:
            raise ConfigError(
                "there is no certificate to read again; for new code, start the server again, or serve with --workers"
            )
        if not self._tls.reload():
            raise ConfigError(
                "the certificates are those from before; the log says what is wrong with the new ones"
            )
        return "the certificates were read again"

    async def drain(self, hold_seconds: float) -> bool:
        """Say that nobody new is welcome; then take no more connections, then no more requests.

        Args:
            hold_seconds: For how long requests are answered that may be on their way already.

        Returns:
            Whether every request finished by itself.
        """
        self._state = "draining"
        grace = 0.0  # if it is cancelled while it waits
        try:
            if not self._supervised:  # else the supervisor has waited already, for all of its workers
                await delay_drain(self._config.drain_delay, self._clock)
            grace = self._config.graceful_timeout
        finally:
            drained = await self._drain(hold_seconds, grace)
        return drained

    async def _drain(self, hold_seconds: float, grace: float) -> bool:
        for acceptor in self._acceptors:
            acceptor.stop()
        if self._tls is not None:
            self._tls.stop()
        self._listeners.close()
        if self._told_of_shutdown is not None:
            self._told_of_shutdown.tell()
        if hold_seconds:
            await self._hold(hold_seconds)
        for acceptor in self._acceptors:
            acceptor.close()
        return all(await asyncio.gather(*(drain(each, grace) for each in self._workers())))

    async def _hold(self, seconds: float) -> None:
        """Let those go on who are silent, for they may have a request on its way: its answer closes (9.6).

        nginx has `keepalive_min_timeout` for it.
        """
        self._retire()
        with suppress(TimeoutError):
            async with self._clock.timeout(seconds):
                await self.limits.occupancy.wait_empty()
        self._retire()  # those that were still in their handshake before

    def _retire(self) -> None:
        for worker in self._workers():
            worker.closing = True
            for connection in list(worker.connections):
                connection.retire()

    async def end(self) -> None:
        """Shut the application down."""
        try:
            with Report(self._clock, lambda: "the application's shutdown"):
                await self._lifespan.shutdown()
        finally:
            await self._leave()
        if self._lifespan.failed:
            raise ShutdownFailed("the application's shutdown failed")

    async def _leave(self) -> None:
        """Stop what outlives the application."""
        if self._watch is not None:
            self._watch.stop()
        if self._admin is not None:
            await self._admin.stop()
        self._clock.stop()
        if self._access_log is not None:
            self._access_log.close()


def run_server(
    server: Server,
    serve: Callable[[Callable[[], object]], Coroutine[Any, Any, None]],
    *,
    interruptible: bool = True,
) -> None:
    """Run what a server does in an event loop of its own, and bound its shutdown and what it leaves behind.

    Args:
        server: The server.
        serve: What it does; it calls what it is given when no request is left.
        interruptible: Whether SIGINT ends the process at once when only such things are left.
    """
    enable_logging()
    runner = asyncio.Runner(loop_factory=loop_factory(server.config.loop))
    limit = server.config.shutdown_timeout
    # For an application that blocks the loop then, which nothing within the loop can end.
    last_resort = Ending(
        limit + END_SECONDS + ENDING_SECONDS if limit else NEVER, interruptible=False, reports=False
    )
    try:
        runner.run(serve(last_resort.begin))
    finally:
        last_resort.cease()
        # Threads that nobody's request waits for have the grace that requests have; else it is used up.
        grace = server.config.graceful_timeout if server.drained else 0.0
        with Ending(max(grace, ENDING_SECONDS), interruptible=interruptible):
            runner.close()


def loop_factory(choice: Literal["auto", "uvloop", "asyncio"]) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop that a `Config` chooses in `loop`.

    Raises:
        ConfigError: It chooses uvloop, which is not installed.
    """
    if choice != "asyncio":
        try:
            import uvloop  # noqa: PLC0415 - optional, and slow to import
        except ImportError:
            if choice == "uvloop":
                raise ConfigError("--loop uvloop: it is not installed; `pip install uvloop`") from None
        else:
            return cast(Callable[[], asyncio.AbstractEventLoop], uvloop.new_event_loop)
    # On Windows the default loop cannot watch a socket (add_reader), which the acceptor does.
    return asyncio.SelectorEventLoop


def _tls(config: Config, clock: Clock, ticket_secret: bytes | None) -> "ServedTls | None":
    """Load what TLS is served with; None without TLS."""
    if config.dev_tls:
        from .tls.development import with_development_certificate  # noqa: PLC0415

        config = with_development_certificate(config)
    if not config.certfile:
        return None
    from .tls.served import ServedTls  # noqa: PLC0415 - see above

    return ServedTls(config, clock, ticket_secret)


def _spoken(config: Config, *, secure: bool) -> str:
    """Say which protocols are spoken."""
    protocols = []
    if config.http2 if secure else config.h2c:
        protocols.append("HTTP/2")
    if config.http1:
        protocols.append("HTTP/1.1")
    return ", ".join([*protocols, "WebSocket"])
