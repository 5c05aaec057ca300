"""Http2Sender: content leaves in frames, by turns, as far as windows and the transport go.

A whole response that fits a frame leaves without a turn where nobody waits for one: most do. So does a
message of a WebSocket.

Knows of the streams only what they hold, and whose turn it is. Heads and other frames that no
window holds back are in the machine already; they leave with the next flush.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from ..core.exchange import Head
from .http2_events import Machine
from .http2_guard import REPLIES, SMALL, Http2Guard
from .http2_schedule import Schedule
from .http2_stream import Http2Stream

# How much is handed to the transport at a time, before asking whether it has had enough: a part of 64 KiB,
# as many send them, with what a WebSocket frame has around it, in one write.
_BURST: Final = 65 * 1024
# The largest turn, which is a frame where several streams have content (h2o and nginx: 16 and 8 KiB).
_TURN: Final = 64 * 1024


class Http2Sender:
    """The sending half of one connection.

    Attributes:
        machine: Where frames come from.
        full: Whether the transport has had enough for now.
        sent: How much content was sent on all streams so far, in bytes.
        handed_over: How many bytes the transport was given so far.
    """

    def __init__(self, machine: Machine, guard: Http2Guard, sent_all: Callable[[Http2Stream], None]) -> None:
        """Prepare to send.

        Args:
            machine: Where frames come from.
            guard: Told of what the client gets, for it will reply.
            sent_all: Told of a stream when `flush` has made the last frame of its response.
        """
        self.machine = machine
        self._guard = guard
        self._sent_all = sent_all
        self._schedule: Schedule[Http2Stream] = Schedule()
        self.full = False
        self.sent = 0
        self.handed_over = 0
        self._blocked = False
        self._unflushed = 0  # how much content has been made frames of without a turn since

    def __bool__(self) -> bool:
        """Whether there is anything to flush."""
        return self.machine.wants_to_send or bool(self._schedule.members)

    @property
    def waits(self) -> bool:
        """Whether streams with content wait for the transport, or for the window of the connection."""
        return bool(self._schedule.members)

    def add(self, stream: Http2Stream) -> None:
        """Let a stream take its turns, if it has content and window."""
        if stream.pending_bytes and not stream.blocked:
            self._schedule.add(stream)

    def discard(self, stream: Http2Stream) -> None:
        """Let a stream sit out; harmless if it does already."""
        if self._schedule.members:
            self._schedule.discard(stream)

    def send_whole(self, stream_id: int, head: Head, content: bytes) -> bool:
        """Send a response in one DATA frame, unless somebody waits for a turn or it has no room; tell whether."""
        size = len(content)
        if self.full or self._schedule.members or self._unflushed + size > _BURST:
            return False
        left = self.machine.send_whole(stream_id, head, content)
        if left < 0:
            return False
        self.sent += size
        self._unflushed += size
        if left and size < SMALL:
            self._guard.earned += REPLIES
        else:
            self._guard.count_data(size, cut=not left)
        return True

    def send_message(self, stream: Http2Stream, content: bytes) -> bool:
        """Send a message of a WebSocket at once, if it is no more than a burst and nobody waits for a turn; tell whether.

        One message between two flushes: if there are more, they are better put together.
        """
        size = len(content)
        if self.full or self._unflushed or self._schedule.members or size > _BURST:
            return False
        if not self.machine.send_message(stream.id, content):
            return False
        stream.sent += size
        self.sent += size
        self._unflushed = size
        if size < SMALL:
            self._guard.earned += REPLIES
        else:
            self._guard.count_data(size, cut=False)
        return True

    def flush(self, transport: asyncio.WriteTransport) -> bool:
        """Hand over what is there, while the transport has room; tell whether a window or it held anything back."""
        self._blocked = False
        waiting = self._schedule.members
        while not transport.is_closing():
            if waiting and not self.full:
                self._fill()
            data = self.machine.data_to_send()
            if not data:
                break
            transport.write(data)
            self._unflushed = 0
            self.handed_over += len(data)
            if self.full or not waiting:
                break
        return self._blocked or bool(waiting)

    def _fill(self) -> None:
        """Take content out of the streams in turns, a burst of it."""
        machine, room = self.machine, _BURST - self._unflushed
        waiting = self._schedule.members
        while room > 0 and waiting and machine.outbound_flow_control_window > 0:
            stream = self._schedule.next()
            window = machine.local_flow_control_window(stream.id)
            if window > 0:
                turn = _TURN if len(waiting) == 1 else machine.max_outbound_frame_size
                size = self._send_content(stream, min(window, turn, _TURN))
                self._guard.count_data(size, cut=size == window)
                room -= size
            else:
                stream.blocked = self._blocked = True
                self._schedule.discard(stream)

    def _send_content(self, stream: Http2Stream, limit: int) -> int:
        """Send content, and what comes behind it if it was the last; return its size."""
        content = stream.take(limit)
        size, more = len(content), stream.pending_bytes
        self.sent += size
        last = stream.ended and not more
        self.machine.send_data(stream.id, content, end_stream=last and stream.trailers is None)
        if not more:
            self._schedule.discard(stream)
        if not last:
            stream.refill()
            return size
        if stream.trailers is not None:
            self.machine.send_headers(stream.id, stream.trailers, end_stream=True)
        self._sent_all(stream)
        return size
