"""What all connections of one worker share, handed down as one object."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from .admission import Admission
from .asgi import Address, Application, Field, Fields
from .clock import Clock
from .codec import Handshake
from .config import Config
from .dispatch import Dispatcher, Request
from .exchange import Connection, Waiters
from .limits import Limits, Occupancy
from .metrics import Metrics
from .outcome import Observer
from .proxies import AllowedHosts
from .repetition import Repetition

OpenHandshake: TypeAlias = Callable[[Fields, str, Config], Handshake]
"""Reads a WebSocket handshake from request fields and the HTTP version; raises StreamFault (an HTTP status)."""


class Worker:
    """The shared part of every connection: settings, time, the dispatcher, who is connected.

    Attributes:
        limits: What came of the limits, and how many connections there are.
        admission: How many requests are under way, and how many wait.
        connections: Every connection whose protocol is known, and its client.
        closing: Whether the server is shutting down.
        metrics: What is counted, where somebody asks for it.
        observers: Who is told what became of each request. It has its members before the first connection.
        server_field: The `server` field of answers, or None.
        hsts_field: The `strict-transport-security` field of answers over TLS, or None.
        repetition: The last head of a response that may come again.
        allowed_hosts: The names under which it may be asked for; None where all are allowed.
    """

    def __init__(  # noqa: PLR0913 - what is shared
        self,
        config: Config,
        clock: Clock,
        application: Application,
        open_handshake: OpenHandshake,
        limits: Limits | None = None,
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.limits = limits or make_limits(config, clock)
        self.admission: Admission[Request] = Admission(config, clock, self.limits)
        self.dispatcher = Dispatcher(application, self.admission)
        self.open_handshake = open_handshake
        self.loop = asyncio.get_running_loop()
        self.connections: dict[Connection, Address | None] = {}
        self.closing = False
        self.observers: list[Observer] = []
        self.metrics = metrics
        if metrics is not None:
            self.observers.append(metrics.observe)
        server = config.server_header.encode("latin-1")
        self.server_field: Field | None = (b"server", server) if server else None
        hsts = b"max-age=%d" % config.hsts  # RFC 6797, 6.1.1
        self.hsts_field: Field | None = (b"strict-transport-security", hsts) if config.hsts else None
        self.allowed_hosts = AllowedHosts(config.allowed_hosts) if config.allowed_hosts else None
        self.repetition = Repetition()
        self._disconnected = Waiters()

    def join(self, connection: Connection, client: Address | None) -> None:
        """Keep a connection in mind."""
        self.connections[connection] = client
        self.limits.occupancy.enter(client)

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is gone; harmless if it is forgotten already."""
        if connection in self.connections:
            self.limits.occupancy.leave(self.connections.pop(connection))
            if self.metrics is not None:
                self.metrics.left(connection)
        if not self.connections:
            self._disconnected.wake()

    async def wait_disconnected(self) -> None:
        """Wait until there is no connection."""
        while self.connections:
            await self._disconnected.wait()


def make_limits(config: Config, clock: Clock) -> Limits:
    """Make what the workers and acceptors of one server share about its limits."""
    return Limits(clock, Occupancy(config.max_connections, config.max_connections_per_address))
