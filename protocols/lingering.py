"""Lingering: what becomes of a connection after its last word.

Closing a socket while the client is still sending makes the kernel send a reset, which can destroy
the last answer before the client has read it (RFC 9112, 9.6). So our side of the connection is
closed first, and what still comes is read and dropped, for a while and up to a bound.

Invariants:
- A client that goes on reading gets everything, however slowly; one that does not is given up.
- Until the connection is gone it is among the worker's, so that no server stops before its last words.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from ..core.clock import NEVER, Timed
from ..core.exchange import Connection
from ..core.limits import LEAST_RATE
from ..core.scope import ConnectionFacts
from ..core.worker import Worker

_SHUTDOWN_SECONDS: Final = 1.0  # what a client gets when the server waits for nothing else


class Lingering(asyncio.Protocol):
    """The protocol of a connection that is being closed; takes the transport over."""

    __slots__ = ("_client", "_dropped", "_transport", "_unread", "_worker", "deadline")

    def __init__(
        self, transport: asyncio.Transport, worker: Worker, facts: ConnectionFacts, *, hear_out: bool = True
    ) -> None:
        """Begin to close.

        Args:
            transport: The connection's.
            worker: The connection's.
            facts: The connection's.
            hear_out: Whether the client may still be sending, and is listened to for a while.
        """
        self._transport = transport
        self._worker = worker
        self._client = facts.client
        self._dropped = 0
        self._unread = transport.get_write_buffer_size()
        self.deadline = worker.clock.now() + self._patience()
        if worker.closing:
            self.shutdown()
        worker.join(self, facts.limited_client)
        worker.clock.watch(self)
        transport.set_protocol(self)
        if transport.is_closing():
            return
        transport.resume_reading()
        if hear_out and transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client has reset the connection; the loop will say so
                transport.write_eof()
        else:  # TLS says close_notify, and reads on until the client has said it too
            transport.close()

    # ------------------------------------------------------------------ asyncio

    def data_received(self, data: bytes) -> None:
        """Drop what nobody will read; beyond the bound it is not even received."""
        self._dropped += len(data)
        if self._dropped > self._worker.config.max_drain:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go: the connection is gone."""
        self.deadline = NEVER
        self._worker.clock.forget(self)
        self._worker.leave(self)

    # ------------------------------------------------------------------ for the server

    @property
    def idle(self) -> bool:
        """True: there is no request."""
        return True

    def shutdown(self) -> None:
        """Be quicker."""
        self.deadline = min(self.deadline, self._worker.clock.now() + _SHUTDOWN_SECONDS)

    def retire(self) -> None:
        """Do nothing: the last answer has been given."""

    def terminate(self) -> None:
        """Close at once."""
        self._transport.abort()

    def expire(self) -> None:
        """Give up on a client that neither reads nor hangs up."""
        before, self._unread = self._unread, self._transport.get_write_buffer_size()
        least = self._worker.config.write_timeout * LEAST_RATE
        if before and before - self._unread >= min(before, least):
            self.deadline = self._worker.clock.now() + self._patience()
        else:
            if self._unread:
                what = "an answer was cut, the client does not read it"
                self._worker.limits.hit("write_timeout", self._client, what)
            self._transport.abort()

    def _patience(self) -> float:
        """Return how long the client has to take what is left, or, when nothing is, to hang up."""
        config = self._worker.config
        return config.write_timeout if self._unread else config.linger_timeout


if TYPE_CHECKING:
    _connection: type[Connection] = Lingering
    _timed: type[Timed] = Lingering
