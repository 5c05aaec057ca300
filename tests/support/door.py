"""An acceptor on a socket of its own, with handlers that say who they are and then echo."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

from alphorn.core.config import Config
from alphorn.core.scope import ConnectionFacts
from alphorn.core.worker import make_limits
from alphorn.tls.acceptor import Acceptor, ContextFor, Handlers

from .clock import ManualClock
from .waiting import until


class Echo(asyncio.Protocol):
    """Says the name of its protocol, then echoes; records what happens to it."""

    def __init__(self, door: "Door", name: str, facts: ConnectionFacts) -> None:
        self.name = name
        self.facts = facts
        self.received = b""
        self.events: list[str] = []
        self.transport: asyncio.Transport
        door.handlers.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.name.encode() + b":")

    def data_received(self, data: bytes) -> None:
        self.events.append("data")
        self.received += data
        self.transport.write(data)

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


class Door:
    """The acceptor, and all that a test wants to see of it."""

    def __init__(
        self, listener: socket.socket, config: Config, context_for: ContextFor | None, state: dict[str, Any]
    ) -> None:
        self.clock = ManualClock()
        self.handlers: list[Echo] = []
        self.listener = listener
        self.complaints: list[dict[str, Any]] = []
        handlers = Handlers(
            partial(Echo, self, "http1") if config.http1 else None,
            partial(Echo, self, "http2") if config.http2 else None,
        )
        self.acceptor = Acceptor(
            listener,
            handlers,
            clock=self.clock,
            config=config,
            context_for=context_for,
            state=state,
            limits=make_limits(config, self.clock),
        )

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    @property
    def undecided(self) -> int:
        """How many connections have not chosen a protocol yet."""
        return len(self.acceptor._reception.arrivals)

    async def wait_for_undecided(self, count: int) -> None:
        await until(lambda: self.undecided == count, f"{count} undecided connections")


def _always(context: ssl.SSLContext, _: bytes | None) -> ssl.SSLContext:
    return context


@contextlib.asynccontextmanager
async def open_door(
    config: Config,
    tls: ssl.SSLContext | ContextFor | None = None,
    *,
    listener: socket.socket | None = None,
    state: dict[str, Any] | None = None,
) -> AsyncIterator[Door]:
    """Accept on a port of 127.0.0.1; at the end nothing may be left over, and nobody may have complained.

    Args:
        config: The settings.
        tls: One context for everybody, or what chooses one; without it, connections are clear.
        listener: A socket of the test's own.
        state: What the application left in its lifespan.
    """

    context_for = tls if tls is None or callable(tls) else partial(_always, tls)
    listener = listener or socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    with listener:
        door = Door(listener, config, context_for, state or {})
        loop.set_exception_handler(lambda _, what: door.complaints.append(what))
        door.acceptor.start()
        try:
            yield door
        finally:
            door.acceptor.close()
            for handler in door.handlers:
                handler.transport.abort()
        await until(lambda: not asyncio.all_tasks() - before, "the tasks to end")
        await until(lambda: not door.acceptor._reception.tasks, "the last callbacks")
        assert door.undecided == 0
        assert not door.clock._watched
        assert door.complaints == []
