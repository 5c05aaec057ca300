"""Lingering: what becomes of a connection after its last word.

Closing a socket while the client is still sending makes the kernel send a reset, which can destroy
the last answer before the client has read it (RFC 9112, 9.6). So our side of the connection is
closed first, and what still comes is read and dropped, for a while and up to a bound.
"""

import asyncio
from typing import Final

from ..core.clock import NEVER, Clock

LINGER_SECONDS: Final = 5.0  # nginx: lingering_timeout 5s
_MAX_BYTES: Final = 1024 * 1024


class Lingering(asyncio.Protocol):
    """The protocol of a connection that is being closed; takes the transport over."""

    def __init__(self, transport: asyncio.Transport, clock: Clock, *, paused: bool) -> None:
        self._transport = transport
        self._clock = clock
        self._dropped = 0
        self.deadline = clock.now() + LINGER_SECONDS
        clock.watch(self)
        transport.set_protocol(self)
        if transport.is_closing():
            return
        if paused:
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        else:  # TLS: says close_notify, and reads on until the client has said it too
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Drop what nobody will read."""
        self._dropped += len(data)
        if self._dropped > _MAX_BYTES:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching the time."""
        self.deadline = NEVER
        self._clock.forget(self)

    def expire(self) -> None:
        """Give up on a client that does not hang up."""
        self._transport.abort()
