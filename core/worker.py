"""What all connections of one worker share, handed down as one object."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .asgi import Fields
from .clock import Clock
from .config import Config
from .dispatch import Dispatcher
from .exchange import Connection
from .websocket import Handshake

OpenHandshake = Callable[[Fields, str, Config], Handshake]
"""Reads a WebSocket handshake from request fields and an HTTP version; raises StreamFault(400) or (426)."""


@dataclass(slots=True, eq=False)
class Worker:
    """The shared part of every connection: settings, time, the dispatcher, who is connected."""

    config: Config
    clock: Clock
    dispatcher: Dispatcher
    open_handshake: OpenHandshake
    connections: set[Connection] = field(default_factory=set)
    closing: bool = False
