"""Listening sockets that a process hands on to the one that takes its place, by the bind they were opened for.

Invariants:
- What there is belongs to the process, as descriptors do: so this is a module's, not an object's.
- A socket that was handed on is not ours any more: closing our copy leaves its file, and the other process, alone.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary

_received: dict[str, list[int]] = {}
_open: WeakKeyDictionary[socket.socket, str] = WeakKeyDictionary()
_given: set[str] = set()


def receive(descriptors: Mapping[str, list[int]]) -> None:
    """Have binds take these descriptors over, in place of opening sockets."""
    _received.update(descriptors)


def take(bind: str) -> list[int]:
    """Return what was received for a bind, once; nothing if nothing was."""
    return _received.pop(bind, [])


def close_rest() -> None:
    """Close what no bind has taken over: the settings have changed."""
    for descriptors in _received.values():
        for descriptor in descriptors:
            os.close(descriptor)
    _received.clear()


def note(bind: str, sockets: Iterable[socket.socket]) -> None:
    """Remember for which bind sockets are open."""
    _open.update(dict.fromkeys(sockets, bind))


def descriptors() -> dict[str, list[int]]:
    """List what is open, by its bind."""
    found: dict[str, list[int]] = {}
    for sock, bind in _open.items():
        if sock.fileno() >= 0:
            found.setdefault(bind, []).append(sock.fileno())
    return found


def give_away() -> None:
    """Let go of what is open: another process has it now."""
    _given.update(_open.values())


def is_given(sock: socket.socket) -> bool:
    """Tell whether another process has it."""
    return _open.get(sock) in _given
