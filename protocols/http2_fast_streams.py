"""Http2Streams: the streams of a connection, their windows, and the frames that leave on them (RFC 9113).

The half of `--engine fast`'s machine that acts for the server; `http2_fast_machine` is the other one,
which acts on what the client sends. Frames are made where they leave; there is no object for a frame.

The states of a stream (5.1) are two questions: may the client still send on it, and may we?

| | client | we |
|---|---|---|
| open | yes | yes |
| half-closed (remote), reserved (local) | no | yes |
| half-closed (local) | yes | no |
| closed | no | no: it is not in `_streams` any more |

What we send is checked where it is made, in `core`; here only that it keeps to states and windows.
"""

from collections import OrderedDict, deque
from enum import Enum
from typing import Final

from h2.errors import ErrorCodes

from ..core.asgi import Fields
from ..core.config import Config
from ..core.exchange import NO_HEAD, Head
from . import http2_frames as wire
from .hpack_codec import HpackEncoder
from .http2_events import StreamReset, section_of
from .http2_limits import MAX_CLOSED_STREAMS, MAX_DEBUG_BYTES

_pack_head: Final = wire.HEAD.pack


class Closed(Enum):
    """How a stream was closed before both sides had ended it, which is what frames that come late are judged by (5.1)."""

    RESET_BY_US = "we have reset it"
    RESET_BY_CLIENT = "the client has reset it"


class InboundWindow:
    """How much content the client may still send, on a stream or on all together (RFC 9113, 6.9), in bytes.

    Attributes:
        left: What it may send now.
        largest: What it might send, had all been taken.
    """

    __slots__ = ("_taken", "largest", "left")

    def __init__(self, size: int) -> None:
        self.left = self.largest = size
        self._taken = 0

    def take(self, size: int) -> int:
        """Note what has been taken; return how much to give back for it, once that is worth a frame.

        As h2 has it: from half the window on; and of one that is used up, from 1 KiB or a quarter on.
        """
        taken, largest = self._taken + size, self.largest
        if taken < largest // 2 and (self.left or taken <= min(1024, largest // 4)):
            self._taken = taken
            return 0
        self._taken = 0
        increment = min(taken, largest - self.left)
        self.left += increment
        return increment


class OpenStream:
    """One stream that is not closed.

    Attributes:
        receiving: Whether the client may still send on it.
        sending: Whether we may.
        outbound: How much content the client takes, in bytes; negative after it has made windows smaller.
        inbound: The other direction; None until there is content.
        length: The announced length of the request's content in bytes, or None.
        received: How much of it has come.
    """

    __slots__ = ("inbound", "length", "outbound", "received", "receiving", "sending")

    # All by position: Python 3.13 takes twice as long to make an object from keywords.
    def __init__(self, outbound: int, length: int | None, receiving: bool) -> None:
        self.receiving = receiving
        self.sending = True
        self.outbound = outbound
        self.inbound: InboundWindow | None = None
        self.length = length
        self.received = 0


class Http2Streams:
    """What the server has to know of each stream and of the client, to send and to be sent to.

    Attributes:
        outbound_flow_control_window: How much content the client takes on all streams together, in bytes.
        max_outbound_frame_size: How much of it in one frame, in bytes.
        push_limit: How many promised streams it accepts at a time (6.5.2).
    """

    __slots__ = (
        "_acknowledged",
        "_closed",
        "_encoder",
        "_ended",
        "_inbound",
        "_initial_inbound",
        "_initial_outbound",
        "_newest",
        "_newest_promised",
        "_out",
        "_repeated_at",
        "_repeated_block",
        "_repeated_head",
        "_stream_window",
        "_streams",
        "max_outbound_frame_size",
        "outbound_flow_control_window",
        "push_limit",
    )

    def __init__(self, config: Config) -> None:
        self._out: list[bytes | memoryview] = []
        self._encoder = HpackEncoder()
        # The last head that was given again, what it became, and at which state of the encoder.
        self._repeated_head = NO_HEAD
        self._repeated_block = b""
        self._repeated_at = 0
        self._streams: dict[int, OpenStream] = {}
        self._closed: OrderedDict[int, Closed] = OrderedDict()
        self._ended: deque[int] = deque(maxlen=MAX_CLOSED_STREAMS)  # which both sides have ended
        self._newest = 0  # of the client's streams
        self._newest_promised = 0
        # What the client's SETTINGS say.
        self.push_limit = wire.LARGEST
        self._initial_outbound = wire.DEFAULT_WINDOW
        self.max_outbound_frame_size = wire.DEFAULT_FRAME_SIZE
        self.outbound_flow_control_window = wire.DEFAULT_WINDOW
        # What ours say; a smaller window holds once the client has acknowledged it (6.9.3).
        self._acknowledged = False
        self._stream_window = config.stream_window
        self._initial_inbound = max(config.stream_window, wire.DEFAULT_WINDOW)
        self._inbound = InboundWindow(wire.DEFAULT_WINDOW)
        self._announce(config)

    def _announce(self, config: Config) -> None:
        """Send our SETTINGS, and a larger window for the connection than it begins with (6.9.2)."""
        settings = {
            wire.HEADER_TABLE_SIZE: wire.DEFAULT_TABLE_SIZE,
            wire.ENABLE_PUSH: 0,
            wire.INITIAL_WINDOW_SIZE: config.stream_window,
            wire.MAX_FRAME_SIZE: wire.DEFAULT_FRAME_SIZE,
            wire.ENABLE_CONNECT_PROTOCOL: 1,
            wire.MAX_CONCURRENT_STREAMS: config.max_streams,
            wire.MAX_HEADER_LIST_SIZE: config.max_head_bytes,
            wire.NO_RFC7540_PRIORITIES: 1,
        }
        self._out.append(wire.settings_frame(settings))
        extra = config.connection_window - wire.DEFAULT_WINDOW
        if extra > 0:
            self._inbound = InboundWindow(config.connection_window)
            self._update_window(0, extra)

    # ------------------------------------------------------------------ state

    def is_idle(self, stream_id: int) -> bool:
        """Whether a stream has not been opened yet, nor skipped (5.1.1)."""
        return stream_id > (self._newest if stream_id % 2 else self._newest_promised)

    @property
    def inbound_flow_control_window(self) -> int:
        """How much content the client may send on all streams together, in bytes."""
        return self._inbound.left

    def local_flow_control_window(self, stream_id: int) -> int:
        """Return how much content the client takes on a stream, in bytes; below 0 if we owe it."""
        return min(self.outbound_flow_control_window, self._streams[stream_id].outbound)

    # ------------------------------------------------------------------ sending

    @property
    def wants_to_send(self) -> bool:
        """Whether `data_to_send` has anything."""
        return bool(self._out)

    def data_to_send(self) -> bytes:
        """Take what is to be sent."""
        out = self._out
        if not out:
            return b""
        data = b"".join(out)
        out.clear()
        return data

    def send_headers(self, stream_id: int, fields: Fields, end_stream: bool = False) -> None:
        """Send a field section: an interim or final head, or trailers."""
        stream = self._ours(stream_id)
        flags = wire.END_STREAM if end_stream else 0
        self._send_block(wire.HEADERS, flags, stream_id, self._encoder.encode(fields))
        if end_stream:
            self._end_sending(stream_id, stream)

    def send_message(self, stream_id: int, content: bytes) -> bool:
        """Send content that leaves something of the windows; see `Machine.send_message`."""
        stream, size = self._streams[stream_id], len(content)
        if size >= stream.outbound or size >= self.outbound_flow_control_window:
            return False
        if size > self.max_outbound_frame_size:
            self.send_data(stream_id, content)
        else:
            stream.outbound -= size
            self.outbound_flow_control_window -= size
            self._out += (_pack_head(size << 8 | wire.DATA, 0, stream_id), content)
        return True

    def send_whole(self, stream_id: int, head: Head, content: bytes) -> int:
        """Send a response in one DATA frame, if there is room for it; see `Machine.send_whole`."""
        stream, size, largest = self._streams[stream_id], len(content), self.max_outbound_frame_size
        window = self.outbound_flow_control_window
        left = (window if window < stream.outbound else stream.outbound) - size  # noqa: FURB136 - twice as fast
        if left < 0 or size > largest:
            return -1
        block = self._encode_head(head)
        if len(block) <= largest:
            frame_head = _pack_head(len(block) * 256 + wire.HEADERS, wire.END_HEADERS, stream_id)
            self._out += (frame_head, block, _pack_head(size * 256, wire.END_STREAM, stream_id), content)
        else:
            self._send_block(wire.HEADERS, 0, stream_id, block)
            self._out += (_pack_head(size << 8, wire.END_STREAM, stream_id), content)
        self.outbound_flow_control_window = window - size
        self._end_sending(stream_id, stream)
        return left

    def _encode_head(self, head: Head) -> bytes:
        """Encode the head of a response; one that is given again is the same bytes while the table stays."""
        encoder = self._encoder
        changes = encoder.changes
        if head is self._repeated_head and changes == self._repeated_at:
            return self._repeated_block
        block = encoder.encode(section_of(head))
        if head.repeated and encoder.changes == changes:
            self._repeated_head, self._repeated_at, self._repeated_block = head, changes, block
        return block

    def send_data(self, stream_id: int, data: bytes | memoryview, end_stream: bool = False) -> None:
        """Send content in as many DATA frames as it takes, which the windows have room for."""
        stream = self._ours(stream_id)
        out, size, largest = self._out, len(data), self.max_outbound_frame_size
        if size:
            assert size <= min(stream.outbound, self.outbound_flow_control_window), (
                "more than the client takes"
            )
            stream.outbound -= size
            self.outbound_flow_control_window -= size
            if size > largest:
                head = _pack_head(largest << 8 | wire.DATA, 0, stream_id)
                last = (size - 1) // largest * largest
                data = memoryview(data)  # nothing is copied until all leaves
                for start in range(0, last, largest):
                    out += (head, data[start : start + largest])
                data = data[last:]
        flags = wire.END_STREAM if end_stream else 0
        out += (_pack_head(len(data) << 8 | wire.DATA, flags, stream_id), data)
        if end_stream:
            self._end_sending(stream_id, stream)

    def get_next_available_stream_id(self) -> int:
        """Return the number of the next stream that we promise."""
        return self._newest_promised + 2

    def push_stream(self, stream_id: int, promised_id: int, fields: Fields) -> None:
        """Promise a response on a stream of ours, while the client's stream is open (8.4)."""
        self._ours(stream_id)
        self._newest_promised = promised_id
        self._streams[promised_id] = OpenStream(self._initial_outbound, None, False)
        block = wire.NUMBER.pack(promised_id) + self._encoder.encode(fields)
        self._send_block(wire.PUSH_PROMISE, 0, stream_id, block)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM, unless both sides have ended the stream: then there is nothing to reset."""
        if stream_id in self._streams:
            self._close(stream_id, Closed.RESET_BY_US)
            self._send_reset(stream_id, code)

    def acknowledge_received_data(self, size: int, stream_id: int) -> None:
        """Give window back for bytes that have been taken, as soon as it is worth a frame."""
        increment = self._inbound.take(size)
        if increment:
            self._update_window(0, increment)
        stream = self._streams.get(stream_id)
        # On the others nothing more comes.
        if stream is not None and stream.receiving and stream.inbound is not None:
            increment = stream.inbound.take(size)
            if increment:
                self._update_window(stream_id, increment)

    def say_leaving(self) -> None:
        """Ask for no more streams; those that were opened meanwhile are still taken (RFC 9113, 6.8)."""
        numbers = wire.NUMBER.pack(wire.LARGEST) + wire.NUMBER.pack(ErrorCodes.NO_ERROR)
        self._out.append(wire.frame(wire.GOAWAY, 0, 0, numbers))

    def say_goaway(self, code: int, reason: str = "") -> None:
        """Announce the end of the connection; streams up to the newest one may finish (6.8)."""
        debug = reason.encode("ascii", "replace")[:MAX_DEBUG_BYTES]
        numbers = wire.NUMBER.pack(self._newest) + wire.NUMBER.pack(code)
        self._out.append(wire.frame(wire.GOAWAY, 0, 0, numbers + debug))

    def _ours(self, stream_id: int) -> OpenStream:
        """Return a stream that we may send on; anything else is a mistake of ours."""
        stream = self._streams.get(stream_id)
        assert stream is not None, f"stream {stream_id} is closed, or was never open"
        assert stream.sending, f"we have ended stream {stream_id}"
        return stream

    def _send_block(self, kind: int, flags: int, stream_id: int, block: bytes) -> None:
        """Send a field block, in as many frames as it takes (4.3)."""
        largest = self.max_outbound_frame_size
        while len(block) > largest:
            self._out.append(wire.frame(kind, flags, stream_id, block[:largest]))
            block = block[largest:]
            kind, flags = wire.CONTINUATION, 0
        head = wire.HEAD.pack(len(block) << 8 | kind, flags | wire.END_HEADERS, stream_id)
        self._out += (head, block)

    def _send_reset(self, stream_id: int, code: int) -> None:
        self._out.append(wire.frame(wire.RST_STREAM, 0, stream_id, wire.NUMBER.pack(code)))

    def _update_window(self, stream_id: int, increment: int) -> None:
        self._out.append(wire.frame(wire.WINDOW_UPDATE, 0, stream_id, wire.NUMBER.pack(increment)))

    def _credit(self, size: int) -> None:
        """Give window of the connection back."""
        increment = self._inbound.take(size)
        if increment:
            self._update_window(0, increment)

    # ------------------------------------------------------------------ endings

    def _end_sending(self, stream_id: int, stream: OpenStream) -> None:
        stream.sending = False
        if not stream.receiving:
            del self._streams[stream_id]
            self._ended.append(stream_id)

    def _end_receiving(self, stream_id: int, stream: OpenStream) -> None:
        stream.receiving = False
        if not stream.sending:
            del self._streams[stream_id]
            self._ended.append(stream_id)

    def _close(self, stream_id: int, how: Closed) -> None:
        del self._streams[stream_id]
        self._closed[stream_id] = how
        if len(self._closed) > MAX_CLOSED_STREAMS:
            self._closed.popitem(last=False)

    def _fail(self, stream_id: int, code: ErrorCodes) -> StreamReset:
        """Reset a stream for a fault of the client (5.4.2)."""
        self._close(stream_id, Closed.RESET_BY_US)
        self._send_reset(stream_id, code)
        return StreamReset(stream_id, code)
