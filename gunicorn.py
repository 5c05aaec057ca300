"""The worker class for Gunicorn: `gunicorn -k alphorn.gunicorn.Worker module:app`.

Gunicorn has the sockets, the processes and their signals; Alphorn serves within each.

Invariants:
- What Gunicorn has a setting for is Gunicorn's. Everything else is read where `serve` reads it: from
  `SERVE_*` variables and TOML.
- The heartbeat comes from the event loop, also during startup and shutdown: only a loop that does not turn is
  replaced.
- Here and everywhere, `import gunicorn` means Gunicorn: inside this package imports are relative.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
import secrets
import ssl
import sys
from types import FrameType
from typing import Any, Final

from gunicorn.arbiter import Arbiter
from gunicorn.workers import base

from .core.application import adapt
from .core.asgi import Application, Receive, Scope, Send
from .core.config import SETTINGS, Config
from .core.errors import ConfigError, ShutdownFailed, StartupFailed
from .core.log import access_log, enable_logging, error_log
from .core.settings import gather
from .core.sockets import adopt_listeners
from .server import Server, loop_factory

__all__ = ["Worker"]

BEAT_SECONDS: Final = 1.0
"""How often Gunicorn hears of a worker, which has `timeout` (30 by default) for it; as its own workers do."""

HOLD_SECONDS: Final = 1.0
"""For so long a worker that is to stop answers requests that were on their way already."""

LAST_SECONDS: Final = 5.0
"""What is kept of `graceful_timeout`, after which Gunicorn kills, for these, for requests that were cut short and for
the application's shutdown."""

_CLIENT_AUTH: Final = {ssl.CERT_NONE: "none", ssl.CERT_OPTIONAL: "optional", ssl.CERT_REQUIRED: "required"}
_WITHOUT_EFFECT: Final = ("threads", "ciphers", "ssl_context", "pre_request", "post_request")
_OURS_WITHOUT_EFFECT: Final = frozenset(
    setting.name
    for setting in SETTINGS
    if setting.section in ("Sockets", "Process", "Development", "Workers")
) | {
    "admin_bind",
    "redirect_bind",
    "redirect_port",
    "drain_delay",
    "log_level",
    "log_format",
    "log_config",
    "access_log_file",
}
"""Ours about sockets, processes and log files, which are Gunicorn's; and who would answer the operator?"""


_TICKET_SECRET: Final = secrets.token_bytes(32)
"""What all workers share to resume each other's TLS sessions: Gunicorn loads this module before it forks them."""


class Worker(base.Worker):
    """A worker process of Gunicorn that serves with Alphorn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hurried = False
        self._told: asyncio.Future[float] | None = None
        self._serving: asyncio.Task[None] | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Say which settings of Gunicorn are not heeded; called once, before there are workers."""
        for name in _WITHOUT_EFFECT:
            if _is_set(cfg, name):
                log.warning("the setting %s has no effect with alphorn.gunicorn.Worker", name)
        with contextlib.suppress(ConfigError):  # which the worker is going to say
            labels = gather({}, os.environ).labels
            if idle := ", ".join(sorted(labels[name] for name in _OURS_WITHOUT_EFFECT & labels.keys())):
                log.warning("of no effect with alphorn.gunicorn.Worker: %s", idle)

    # --- What Gunicorn asks for

    def run(self) -> None:
        """Serve until Gunicorn says stop; the last thing that a worker does."""
        if not self.alive:  # told while the application was being loaded
            return
        _pass_on(self.log)
        try:
            config = _config(self.cfg)
            with asyncio.Runner(loop_factory=loop_factory(config.loop)) as runner:
                runner.run(self._serve(config))
        except (ConfigError, StartupFailed) as error:
            self.log.error("%s", error)  # noqa: TRY400 - one line that says it all
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # or Gunicorn would try it again for ever
        except ShutdownFailed as error:
            self.log.error("%s", error)  # noqa: TRY400 - one line that says it all

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain and stop, on SIGTERM; Gunicorn repeats it every second until that has happened."""
        super().handle_exit(sig, frame)
        self._wake()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Stop without waiting for requests, on SIGINT and SIGQUIT."""
        if self._told is None:
            super().handle_quit(sig, frame)
        self.alive, self._hurried = False, True
        self.cfg.worker_int(self)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: then the loop is going to wake up anyway
            os.write(self.PIPE[1], b"1")  # as Gunicorn's reloader does

    # --- In the event loop

    async def _serve(self, config: Config) -> None:
        loop = asyncio.get_running_loop()
        application = self._counted(adapt(self.wsgi, config.interface))
        # Copies, for the server closes what it listens on, and Gunicorn passes these on.
        listeners = adopt_listeners([[os.dup(sock.fileno()) for sock in self.sockets], [], []])
        server = Server(
            application, config, listeners=listeners, supervised=True, ticket_secret=_TICKET_SECRET
        )

        def announce() -> None:
            for line in server.announcements:
                error_log.info("%s", line)

        self._told = loop.create_future()
        self._serving = loop.create_task(server.serve_until(self._told, announce))
        loop.add_reader(self.PIPE[0], self._look)
        beating = loop.create_task(self._beat())
        try:
            await self._serving
        except asyncio.CancelledError:
            if not self._told.done():
                raise
        finally:
            beating.cancel()
            loop.remove_reader(self.PIPE[0])

    def _look(self) -> None:
        """See whether to stop: after a signal, at a heartbeat, at a word of Gunicorn's reloader."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.PIPE[0], 4096)
        assert self._told is not None
        assert self._serving is not None
        if not self.alive and not self._told.done():
            self._told.set_result(0.0 if self._hurried else HOLD_SECONDS)
        if self._hurried:
            self._hurried = False  # once: to cancel the application's shutdown too would be too much
            asyncio.get_running_loop().call_soon(self._serving.cancel)  # when it has seen that it is told

    async def _beat(self) -> None:
        while True:
            self.notify()
            if self.alive and os.getppid() != self.ppid:
                self.log.info("Gunicorn has gone, so this worker stops: %s", self)
                self.alive = False
            self._look()
            await asyncio.sleep(BEAT_SECONDS)

    def _counted(self, application: Application) -> Application:
        """Count requests, where the worker is to be replaced after some."""
        if not self.cfg.max_requests:
            return application

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "lifespan":
                self.nr += 1
                if self.nr >= self.max_requests and self.alive:
                    self.log.info("%d requests, so this worker is replaced: %s", self.nr, self)
                    self.alive = False
                    self._wake()
            await application(scope, receive, send)

        return counted


# --- Settings and logs


def _config(cfg: Any) -> Config:
    """Make our settings of Gunicorn's, and of what `serve` reads besides.

    Raises:
        ConfigError: Something makes no sense, or not together.
    """
    proxied = cfg.proxy_protocol != "off"
    theirs = {
        "workers": cfg.workers,
        "root_path": cfg.root_path or None,
        "lifespan": cfg.asgi_lifespan,
        "loop": cfg.asgi_loop,
        "trusted_proxies": tuple(cfg.proxy_allow_ips if proxied else cfg.forwarded_allow_ips),
        "proxy_protocol": proxied,
        "certfile": (cfg.certfile,) if cfg.certfile else (),
        "keyfile": (cfg.keyfile,) if cfg.keyfile else (),
        "client_auth": _CLIENT_AUTH[cfg.cert_reqs],
        "client_ca": cfg.ca_certs if cfg.cert_reqs else None,
        "max_connections": cfg.worker_connections,
        "max_fields": cfg.limit_request_fields,
        "ws_max_message": cfg.websocket_max_message_size,
        "keep_alive_timeout": max(float(cfg.keepalive), 0.1),
        "graceful_timeout": max(cfg.graceful_timeout - LAST_SECONDS, cfg.graceful_timeout / 2),
        "access_log": _wants_access_log(cfg),
        "access_log_format": cfg.access_log_format if _is_set(cfg, "access_log_format") else None,
    }
    config = gather(theirs, os.environ).config
    return dataclasses.replace(config, admin_bind=())  # nobody is going to ask for metrics, so nothing counts


def _is_set(cfg: Any, name: str) -> bool:
    setting = cfg.settings[name]
    default = getattr(setting.default, "__func__", setting.default)  # hooks are static methods
    return bool(setting.get() != default)


def _wants_access_log(cfg: Any) -> bool:
    syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
    return bool(cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or syslog)


def _pass_on(log: Any) -> None:
    """Give our lines to Gunicorn's loggers, which know where to and have files to reopen."""
    enable_logging()  # the application is loaded, and may have configured logging
    for ours, theirs in ((error_log, log.error_log), (access_log, log.access_log)):
        ours.handlers = [_Passing(theirs)]
        ours.setLevel(theirs.level)
        ours.propagate = False


class _Passing(logging.Handler):
    """Hands records to another logger."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one on."""
        self._logger.handle(record)
