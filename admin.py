"""The endpoint of `--admin-bind`: sockets of its own, on which Alphorn serves an application of its own.

It is where the fleet is: in the process of the one worker, or in that of the supervisor.

Invariants:
- What it serves is neither counted nor logged, and goes beyond no limit of the clients'.
- It answers from before the application's startup until after its shutdown.
"""

import socket
from functools import partial

from .core.admin import Admin, Exposition
from .core.clock import Clock
from .core.config import Config
from .core.drain import drain
from .core.fleet import Fleet
from .core.log import error_log
from .core.sockets import close_sockets, describe, open_binds, parse_admin_bind
from .core.worker import Worker
from .protocols.http1 import Http1Connection
from .protocols.websocket import open_handshake
from .tls.acceptor import Acceptor, Handlers

_CONFIG = Config(access_log=False, server_header="", max_connections=64, backlog=64)
_GRACE_SECONDS = 1.0


class AdminEndpoint:
    """Serves the operator, in the running loop."""

    def __init__(self, config: Config, clock: Clock, fleet: Fleet) -> None:
        """Open the sockets.

        Args:
            config: The server's; it says where.
            clock: The one of this process, which somebody else starts.
            fleet: Who is asked.

        Raises:
            ConfigError: An address cannot be used, or others than this machine could reach it.
        """
        binds = [parse_admin_bind(text) for text in config.admin_bind]
        self._sockets: list[socket.socket] = open_binds(binds, _CONFIG.backlog, mode=0o600)
        self._worker = Worker(_CONFIG, clock, Admin(fleet, _exposition()), open_handshake)
        handlers = Handlers(http1=partial(Http1Connection, self._worker), http2=None)
        self._acceptors = [
            Acceptor(listener, handlers, clock=clock, config=_CONFIG, limits=self._worker.limits)
            for listener in self._sockets
        ]

    @property
    def urls(self) -> list[str]:
        """Where it listens."""
        return [describe(listener, secure=False) for listener in self._sockets]

    def start(self) -> None:
        """Begin to answer."""
        for acceptor in self._acceptors:
            acceptor.start()
        for url in self.urls:
            error_log.info("listening on %s (administration)", url)

    async def stop(self) -> None:
        """Answer no more."""
        for acceptor in self._acceptors:
            acceptor.close()
        close_sockets(self._sockets)
        await drain(self._worker, _GRACE_SECONDS)


def _exposition() -> Exposition | None:
    try:
        from .prometheus import CONTENT_TYPE, render  # noqa: PLC0415 - an extra, and nobody else needs it
    except ImportError:
        error_log.info("/metrics needs prometheus-client: pip install 'alphorn[metrics]'")
        return None
    return Exposition(render, CONTENT_TYPE)
