"""What leaves an HTTP/1 connection: put together while a read is handled, then handed over in one write.

Invariants:
- Nothing is written behind a close, and nothing that is empty.
- `full` is the transport's word, from `pause_writing` to `resume_writing`.
"""

import asyncio

from ..core.errors import Disconnected
from ..core.exchange import Waiters


class Output:
    """The sending half of one connection.

    Attributes:
        gathering: Whether a read is being handled, so that more may follow at once.
        full: Whether the client reads too slowly.
        closed: Whether nothing more will be written here.
        handed_over: How many bytes the transport was given so far.
        room: Those who wait until it is not full.
    """

    __slots__ = (
        "_high_mark",
        "_parts",
        "_size",
        "_taken",
        "_transport",
        "closed",
        "full",
        "gathering",
        "handed_over",
        "room",
    )

    def __init__(self, transport: asyncio.Transport, high_mark: int) -> None:
        """Begin with nothing.

        Args:
            transport: The connection's.
            high_mark: How many bytes may wait for the client before it is full.
        """
        transport.set_write_buffer_limits(high=high_mark)
        self._transport = transport
        self._high_mark = high_mark
        self._parts: list[bytes] = []
        self._size = 0
        self.handed_over = 0
        self._taken = 0
        self.gathering = False
        self.full = False
        self.closed = False
        self.room = Waiters()

    def write(self, data: bytes, last: bool = False) -> None:
        """Send bytes, now or with those that follow.

        Args:
            data: The bytes; none do nothing.
            last: Whether nothing will follow at once, though a read is being handled.
        """
        if not data:
            return
        at_once = last or not self.gathering
        if at_once and not self._parts:
            if not self._transport.is_closing():
                self.handed_over += len(data)
                self._transport.write(data)
            return
        self._parts.append(data)
        self._size += len(data)
        # An application that never waits says all it has to say within one read: from here on the
        # transport has to count, or nothing would ever tell it that the client does not read.
        if at_once or self._size >= self._high_mark:
            self.flush()

    def flush(self) -> None:
        """Send what was put together."""
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self.write(data, True)

    def close(self) -> None:
        """Wake those who wait for room: there will be none."""
        self.closed = True
        self.full = False
        self.room.wake()

    def progress(self) -> int:
        """Return how many bytes the client has taken since this was last asked."""
        waiting = self._transport.get_write_buffer_size()
        before, self._taken = self._taken, self.handed_over - waiting
        return self._taken - before

    async def wait_sent(self) -> None:
        """Wait until the transport has handed everything to the kernel.

        Raises:
            Disconnected: The client left meanwhile.
        """
        self.flush()
        self._transport.set_write_buffer_limits(high=0)
        try:
            while self.full:
                await self.room.wait()
        finally:
            if not self.closed:
                self._transport.set_write_buffer_limits(high=self._high_mark)
        self._check_open()

    async def wait_room(self, descriptor: int) -> None:
        """Wait until the kernel takes more for a descriptor of this connection.

        Raises:
            Disconnected: The client left meanwhile.
        """
        loop = asyncio.get_running_loop()
        loop.add_writer(descriptor, self.room.wake)
        try:
            await self.room.wait()
        finally:
            loop.remove_writer(descriptor)
        self._check_open()

    def _check_open(self) -> None:
        if self.closed:
            raise Disconnected("the client has gone")
