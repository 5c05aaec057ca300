"""Http2FastMachine: what the client sends, frame by frame (RFC 9113), at a fraction of h2's cost.

h2 stays the judge: tests/protocols/test_http2_machines.py has both machines say the same to any frames,
and lists what differs on purpose. Frames are read where they are in the bytes that came. Nothing is
known here of HTTP but the length of content, which is a matter of frames (8.1.1).

Invariants:
- A fault of a message ends its stream; one of frames, compression or windows the connection (5.4).
- What a client can make us remember is bounded: streams by those that the connection admits, closed
  ones by their number, a field block by its size and its frames, the rest by the size of a frame.
- Frames that are of no use to an application are counted, each kind where it is taken (`http2_guard`).
- Once `receive` has raised, the machine is good for nothing but `say_goaway`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from h2.errors import ErrorCodes
from hpack.exceptions import HPACKError, OversizedHeaderListError

from ..core.asgi import Fields
from ..core.config import Config
from ..core.errors import ConnectionFault
from . import http2_frames as wire
from .hpack_codec import HpackDecoder
from .http2_events import (
    DataReceived,
    Event,
    GoawayReceived,
    Machine,
    PriorityChanged,
    RequestReceived,
    SettingsChanged,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from .http2_fast_streams import Closed, Http2Streams, InboundWindow, OpenStream
from .http2_guard import Http2Guard
from .http2_limits import (
    HEADER_LIST_TOLERANCE,
    LATE_DATA_BYTES,
    MAX_BLOCK_FRAMES,
    MAX_TABLE_UPDATES,
    ORDINARY_BYTES,
    SETTINGS_WEIGHT,
    WORK_PER_TURN,
    extra_work,
)

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # 3.4
# The flags of nearly all HEADERS: of a field section in one frame, without padding and priority.
_WHOLE_SECTION: Final = frozenset((wire.END_HEADERS, wire.END_HEADERS | wire.END_STREAM))
_EMPTY_LENGTH: Final = 0x80 + 28  # RFC 7541, 6.1 and A
_MALFORMED: Final = -1  # in place of a length of content
_SETTINGS_ACK: Final = wire.frame(wire.SETTINGS, wire.ACK, 0)


class Http2FastMachine(Http2Streams):
    """The state of one HTTP/2 connection: bytes in, events out; calls in, bytes out. No I/O.

    Attributes:
        behind: Whether frames have been received that may be left for another turn.
    """

    __slots__ = (
        "_block",
        "_block_ends_stream",
        "_block_malformed",
        "_block_size",
        "_block_stream",
        "_decoder",
        "_expected",
        "_guard",
        "_last_block",
        "_last_section",
        "_max_block",
        "_preface",
        "_promises",
        "_push_enabled",
        "_unparsed",
        "behind",
    )

    def __init__(self, config: Config, guard: Http2Guard) -> None:
        super().__init__(config)
        self._guard = guard
        self.behind = False
        self._preface = _PREFACE
        self._unparsed = b""
        self._expected: int | None = wire.SETTINGS  # the only kind of frame that may come now (3.4, 6.10)
        # A field block that has begun and not ended.
        self._max_block = HEADER_LIST_TOLERANCE * config.max_head_bytes
        self._block: list[bytes] = []
        self._block_size = 0
        self._block_stream = 0
        self._block_ends_stream = False
        self._block_malformed = False
        self._decoder = HpackDecoder(self._max_block)
        # The last field section, if it left the table alone, and what it said: fields, and the length of content.
        self._last_block: bytes | None = None
        self._last_section: tuple[Fields, int | None] = [], None
        # What the client's SETTINGS say.
        self._push_enabled = True
        self._promises = wire.LARGEST

    @property
    def unfinished_head(self) -> int | None:
        """The stream whose field block has begun and not ended; None if there is none."""
        if self._expected == wire.CONTINUATION:
            return self._block_stream
        if len(self._unparsed) >= wire.HEAD_SIZE and self._unparsed[3] == wire.HEADERS:
            return int.from_bytes(self._unparsed[5:9]) & wire.LARGEST
        return None

    # ------------------------------------------------------------------ frames

    def receive(self, data: bytes) -> Iterable[Event]:
        """Take bytes of the client; yield the events of as many frames as one turn has room for, one by one.

        Where `behind` then says so, there may be more: `receive(b"")`.

        Raises:
            ConnectionFault: The connection must end with GOAWAY and this code.
        """
        if len(data) > wire.HEAD_SIZE and not self._unparsed and self._expected is None:
            event = self._take_content(data)
            if event is not None:
                return (event,)
        return self._receive_frames(data)

    def _take_content(self, data: bytes) -> DataReceived | None:
        """Take a read that is content of one stream and nothing else, as messages of a WebSocket come.

        It is one DATA frame, or several of which all but the last are of one size.

        Returns:
            None if it is anything else, or there may be anything wrong with it: then it has not been taken.
        """
        length_and_kind, flags, stream_id = wire.HEAD.unpack_from(data)
        stream = self._streams.get(stream_id)
        if stream is None or flags or length_and_kind & 0xFF != wire.DATA:
            return None
        window, whole_window = stream.inbound, self._inbound
        if window is None or not stream.receiving or stream.length is not None:
            return None
        length = length_and_kind >> 8
        if length == len(data) - wire.HEAD_SIZE:
            content = data[wire.HEAD_SIZE :]
        else:
            content = _joined(data, length, stream_id)
        size = len(content)
        if not size or length > wire.DEFAULT_FRAME_SIZE or size > window.left or size > whole_window.left:
            return None
        window.left -= size
        whole_window.left -= size
        stream.received += size
        return DataReceived(stream_id, content, size, False)

    def _receive_frames(self, data: bytes) -> Iterator[Event]:  # noqa: C901, PLR0912 - one loop, for a call per frame would be its cost
        self.behind = False
        if self._preface:
            data = self._skip_preface(data)
        if self._unparsed:
            data = self._unparsed + data
        start, end, left, unpack_head = 0, len(data), WORK_PER_TURN, wire.HEAD_PARTS.unpack_from
        while end - start >= wire.HEAD_SIZE and left > 0:
            excess, length, kind, flags, stream_id = unpack_head(data, start)
            if stream_id < 0:
                stream_id &= wire.LARGEST  # 4.1: the bit before it is reserved
            if kind > wire.HEADERS or not stream_id:
                wire.check_place(kind, stream_id)
            if excess or length > wire.DEFAULT_FRAME_SIZE:  # before all of it has come, which may be 16 MiB
                raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "larger than SETTINGS_MAX_FRAME_SIZE")
            payload_start = start + wire.HEAD_SIZE
            payload_end = payload_start + length
            if payload_end > end:
                break
            start = payload_end
            left -= 1
            if kind and (length > ORDINARY_BYTES or kind == wire.SETTINGS):
                left -= extra_work(kind, flags, length)
            if kind == wire.HEADERS and flags in _WHOLE_SECTION and self._expected is None:
                section = data[payload_start:payload_end]
                event = self._take_section(stream_id, section, flags != wire.END_HEADERS, False)
                if event is not None:
                    yield event
                continue
            there = end - start - wire.HEAD_SIZE  # of the next frame, which may be a part of an upload
            if kind or flags or not length or there < 0 or there < int.from_bytes(data[start : start + 3]):
                payload = data[payload_start:payload_end]
            else:
                payload, start, joined = self._join(data, payload_start, payload_end, stream_id, left)
                left -= joined
            if kind > wire.HEADERS or flags & (wire.PADDED | wire.HAS_PRIORITY):
                wire.check_payload(kind, flags, payload)
            if self._expected is not None:
                self._check_expected(kind, flags)
            event = _TAKERS[kind](self, flags, stream_id, payload)
            if event is not None:
                yield event
        self._unparsed = data[start:]
        self.behind = left <= 0

    def _join(self, data: bytes, start: int, end: int, stream_id: int, most: int) -> tuple[bytes, int, int]:
        """Put the content of a DATA frame together with that of frames right behind it which are like it.

        Those that say anything else, or more than the windows and the announced length allow, are left to
        be taken, and judged, by themselves.

        Args:
            data: What has come.
            start: Where the content of the frame begins.
            end: Where it ends, and the next frame begins.
            stream_id: Its stream.
            most: How many frames may be put to it.

        Returns:
            The content, where the next frame begins, and how many were put to it.
        """
        view = memoryview(data)
        parts = [view[start:end]]
        stream = self._streams.get(stream_id)
        if stream is not None and stream.receiving:
            room = self._inbound.left
            room = min(room, self._initial_inbound if stream.inbound is None else stream.inbound.left)
            if stream.length is not None:
                room = min(room, stream.length - stream.received)
            room -= end - start
            last = len(data) - wire.HEAD_SIZE
            while end <= last and len(parts) <= most:
                length_and_kind, flags, next_id = wire.HEAD.unpack_from(data, end)
                length = length_and_kind >> 8
                content = end + wire.HEAD_SIZE
                alike = next_id == stream_id and not flags and length_and_kind & 0xFF == wire.DATA
                if not alike or not 0 < length <= min(room, wire.DEFAULT_FRAME_SIZE, len(data) - content):
                    break
                end = content + length
                parts.append(view[content:end])
                room -= length
        joined = len(parts) - 1
        return b"".join(parts) if joined else data[start:end], end, joined

    def _skip_preface(self, data: bytes) -> bytes:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise wire.protocol_fault("this is no HTTP/2")
        self._preface = self._preface[size:]
        return data[size:]

    def _check_expected(self, kind: int, flags: int) -> None:
        if kind != self._expected or (kind == wire.SETTINGS and flags & wire.ACK):
            raise wire.protocol_fault(
                "the first frame of a client is SETTINGS (3.4)"
                if self._expected == wire.SETTINGS
                else "a field block ends before another frame (6.10)"
            )
        if kind == wire.SETTINGS:
            self._expected = None

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        malformed = False
        if flags & wire.PADDED:
            padding = payload[0]
            payload = wire.without_padding(payload)
            if padding and not payload:  # hyperframe's reading of 6.2; nobody pads nothing
                raise wire.protocol_fault("there is nothing but padding")
        if flags & wire.HAS_PRIORITY:
            if len(payload) < wire.PRIORITY_SIZE:
                raise wire.protocol_fault("there is more padding than field block (6.2)")
            malformed = wire.depends_on(payload) == stream_id
            payload = payload[wire.PRIORITY_SIZE :]
        ends_stream = flags & wire.END_STREAM != 0
        if flags & wire.END_HEADERS:
            return self._take_section(stream_id, payload, ends_stream, malformed)
        self._expected = wire.CONTINUATION
        self._block, self._block_size, self._block_stream = [payload], len(payload), stream_id
        self._block_ends_stream, self._block_malformed = ends_stream, malformed
        return None

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        if not payload:
            self._guard.count_useless()
        self._block_size += len(payload)
        if self._block_size > self._max_block or len(self._block) >= MAX_BLOCK_FRAMES:
            raise ConnectionFault(
                ErrorCodes.ENHANCE_YOUR_CALM, "the field block is too large", limit="max_head_bytes"
            )
        self._block.append(payload)
        if stream_id != self._block_stream:
            raise wire.protocol_fault("CONTINUATION without a field block to continue (6.10)")
        if not flags & wire.END_HEADERS:
            return None
        block = b"".join(self._block)
        self._expected, self._block, self._block_size, self._block_stream = None, [], 0, 0
        return self._take_section(stream_id, block, self._block_ends_stream, self._block_malformed)

    # ------------------------------------------------------------------ messages

    def _take_section(self, stream_id: int, block: bytes, ended: bool, malformed: bool) -> Event | None:
        """Take a field section: of a request, or of its trailers."""
        if block and block[0] & 0xE0 == 0x20 and wire.table_updates(block) > MAX_TABLE_UPDATES:
            raise ConnectionFault(ErrorCodes.COMPRESSION_ERROR, "too many changes of the table size")
        if stream_id % 2 == 0:
            raise wire.protocol_fault("a client sends nothing on a stream of the server (5.1)")
        stream = self._streams.get(stream_id)
        if stream is None and stream_id <= self._newest:
            self._take_late_section(stream_id, block)
            return None
        if block != self._last_block:
            self._read_section(block)
        fields, length = self._last_section
        if length == _MALFORMED:
            malformed = True
        if stream is None:
            self._newest = stream_id
            self._streams[stream_id] = OpenStream(self._initial_outbound, length, not ended)
            if malformed:
                return self._fail(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return RequestReceived(stream_id, fields, self._decoder.list_bytes, ended)
        if not stream.receiving:
            return self._fail(stream_id, ErrorCodes.STREAM_CLOSED)
        if malformed or not ended:  # trailers end a message (8.1)
            return self._fail(stream_id, ErrorCodes.PROTOCOL_ERROR)
        self._end_receiving(stream_id, stream)
        return TrailersReceived(stream_id, fields)

    def _read_section(self, block: bytes) -> None:
        """Make a field section the last one; while the table stays, the same bytes say the same again.

        Raises:
            ConnectionFault: It is invalid, or too large.
        """
        decoder = self._decoder
        try:
            fields = decoder.decode(block)
        except OversizedHeaderListError as error:
            raise ConnectionFault(
                ErrorCodes.ENHANCE_YOUR_CALM, "the header list is too large", limit="max_head_bytes"
            ) from error
        except HPACKError as error:  # the tables of both sides differ now, which concerns all streams
            raise ConnectionFault(ErrorCodes.COMPRESSION_ERROR, str(error)) from error
        # The static table has an empty one; what looks like its index may be a part of something else.
        measured = decoder.measured or block.find(_EMPTY_LENGTH) >= 0
        self._last_section = fields, _content_length(fields) if measured else None
        self._last_block = None if decoder.changed else block

    def _take_late_section(self, stream_id: int, block: bytes) -> None:
        """Drop a field section of a closed stream; it is decoded, for it may change the table (4.3)."""
        closed = self._closed.get(stream_id)
        self._guard.count_useless()
        self._read_section(block)
        if closed is Closed.RESET_BY_CLIENT:
            self._send_reset(stream_id, ErrorCodes.STREAM_CLOSED)
        elif stream_id in self._ended:
            raise ConnectionFault(ErrorCodes.STREAM_CLOSED, "HEADERS on a stream that has ended (5.1)")
        elif closed is None:
            raise wire.protocol_fault("HEADERS on a stream that was skipped (5.1.1), or closed long ago")

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        size, ended = len(payload), flags & wire.END_STREAM != 0
        if flags & wire.PADDED:
            payload = wire.without_padding(payload)
        if not payload and not ended:
            self._guard.count_useless()
        if stream_id % 2 == 0:
            raise wire.protocol_fault("a client sends nothing on a stream of the server (5.1)")
        _consume(self._inbound, size)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._take_late_data(stream_id, size, len(payload))
            return None
        if not stream.receiving:
            self._credit(size)
            return self._fail(stream_id, ErrorCodes.STREAM_CLOSED)
        if stream.inbound is None:
            stream.inbound = InboundWindow(self._initial_inbound)
        _consume(stream.inbound, size)
        stream.received += len(payload)
        if stream.length is not None and (
            stream.received > stream.length or (ended and stream.received < stream.length)
        ):
            self.acknowledge_received_data(size, stream_id)  # nobody will read it
            return self._fail(stream_id, ErrorCodes.PROTOCOL_ERROR)
        if ended:
            self._end_receiving(stream_id, stream)
        return DataReceived(stream_id, payload, size, ended)

    def _take_late_data(self, stream_id: int, size: int, content: int) -> None:
        """Drop content of a closed stream; it counts for the window of the connection (5.1)."""
        if self.is_idle(stream_id):
            raise wire.protocol_fault("DATA on an idle stream")
        was_reset = self._closed.get(stream_id) is Closed.RESET_BY_US
        if not was_reset or content < LATE_DATA_BYTES:
            self._guard.count_useless()
        self._credit(size)
        if not was_reset:
            self._send_reset(stream_id, ErrorCodes.STREAM_CLOSED)

    def _take_reset(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        if self.is_idle(stream_id):
            raise wire.protocol_fault("RST_STREAM on an idle stream (6.4)")
        if stream_id not in self._streams:
            self._guard.count_useless()
            return None
        self._close(stream_id, Closed.RESET_BY_CLIENT)
        return StreamReset(stream_id, int.from_bytes(payload))

    def _take_priority(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        """Ignore a priority of RFC 7540, but for a fault."""
        self._guard.count_useless()
        if wire.depends_on(payload) != stream_id:
            return None
        if stream_id in self._streams:
            return self._fail(stream_id, ErrorCodes.PROTOCOL_ERROR)
        raise wire.protocol_fault("a stream depends on itself")

    def _take_priority_update(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        self._guard.count_useless()
        if stream_id != 0:
            raise wire.protocol_fault("PRIORITY_UPDATE on a stream")
        if len(payload) < 4:
            raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "PRIORITY_UPDATE is too short")
        prioritized = int.from_bytes(payload[:4]) & wire.LARGEST
        if prioritized == 0 or (prioritized % 2 == 0 and self.is_idle(prioritized)):
            raise wire.protocol_fault("PRIORITY_UPDATE for a stream that cannot be")
        return PriorityChanged(prioritized, payload[4:])

    def _refuse_push(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        raise wire.protocol_fault("a client does not push (8.4)")

    # ------------------------------------------------------------------ windows and the connection

    def _take_window_update(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        increment = int.from_bytes(payload)
        if not 1 <= increment <= wire.LARGEST:
            raise wire.protocol_fault("a window update by nothing, or with the reserved bit (6.9)")
        self._guard.count_useless()
        if stream_id == 0:
            self.outbound_flow_control_window += increment
            if self.outbound_flow_control_window > wire.LARGEST:
                raise _too_large_window()
            return WindowUpdated(0)
        stream = self._streams.get(stream_id)
        if stream is None:
            if self.is_idle(stream_id):
                raise wire.protocol_fault("WINDOW_UPDATE on an idle stream")
            return None
        stream.outbound += increment
        if stream.outbound > wire.LARGEST:
            return self._fail(stream_id, ErrorCodes.FLOW_CONTROL_ERROR)
        return WindowUpdated(stream_id)

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        if flags & wire.ACK:
            self._take_acknowledgment()
            return None
        self._guard.count_useless(SETTINGS_WEIGHT)
        values = wire.read_settings(payload)
        self._push_enabled = bool(values.get(wire.ENABLE_PUSH, self._push_enabled))
        self._promises = values.get(wire.MAX_CONCURRENT_STREAMS, self._promises)
        self.push_limit = self._promises if self._push_enabled else 0
        self.max_outbound_frame_size = values.get(wire.MAX_FRAME_SIZE, self.max_outbound_frame_size)
        if wire.HEADER_TABLE_SIZE in values:
            self._encoder.header_table_size = values[wire.HEADER_TABLE_SIZE]
        if wire.INITIAL_WINDOW_SIZE in values:
            self._change_windows(values[wire.INITIAL_WINDOW_SIZE])
        self._out.append(_SETTINGS_ACK)
        return SettingsChanged()

    def _change_windows(self, initial: int) -> None:
        """Change the window of every stream by as much as their initial size has changed (6.9.2)."""
        change = initial - self._initial_outbound
        self._initial_outbound = initial
        for stream in self._streams.values():
            stream.outbound += change
            if stream.outbound > wire.LARGEST:
                raise _too_large_window()

    def _take_acknowledgment(self) -> None:
        """Learn that the client goes by our SETTINGS; there is one such frame."""
        if self._acknowledged:
            self._guard.count_useless()
            return
        self._acknowledged = True
        change = self._stream_window - self._initial_inbound
        self._initial_inbound = self._stream_window
        if not change:
            return
        for stream in self._streams.values():
            if stream.inbound is not None:
                stream.inbound.left += change
                stream.inbound.largest += change

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        self._guard.count_useless()
        if not flags & wire.ACK:
            self._out.append(wire.frame(wire.PING, wire.ACK, 0, payload))
        return None

    def _take_goaway(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        self._guard.count_useless()
        return GoawayReceived(int.from_bytes(payload[4:8]))

    def _ignore(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        """Ignore what we do not know (5.5), and ALTSVC, which servers send (RFC 7838, 4)."""
        self._guard.count_useless()
        return None


def _joined(data: bytes, length: int, stream_id: int) -> bytes:
    """Return the content of DATA frames that are all there is in a read; nothing if they are not.

    Args:
        data: A read that begins with a DATA frame without flags.
        length: Of its content, in bytes; of all others too, but for the last, which may be shorter.
        stream_id: Its stream.
    """
    step = wire.HEAD_SIZE + length
    whole, rest = divmod(len(data), step)
    last = len(data) - rest
    if whole >= WORK_PER_TURN or 0 < rest <= wire.HEAD_SIZE:
        return b""
    size = rest - wire.HEAD_SIZE
    if rest and wire.HEAD.unpack_from(data, last) != (size << 8 | wire.DATA, 0, stream_id):
        return b""
    head, view, parts = data[: wire.HEAD_SIZE], memoryview(data), []
    for start in range(0, last, step):
        content = start + wire.HEAD_SIZE
        if data[start:content] != head:
            return b""
        parts.append(view[content : start + step])
    if rest:
        parts.append(view[last + wire.HEAD_SIZE :])
    return b"".join(parts)


def _consume(window: InboundWindow, size: int) -> None:
    window.left -= size
    if window.left < 0:
        raise ConnectionFault(ErrorCodes.FLOW_CONTROL_ERROR, "more content than the window takes")


def _too_large_window() -> ConnectionFault:
    return ConnectionFault(ErrorCodes.FLOW_CONTROL_ERROR, "a window is larger than 2^31-1 (6.9.1)")


def _content_length(fields: Fields) -> int | None:
    """Return the announced length of content in bytes, None without one, or that it is malformed: no number, or several."""
    values = [value for name, value in fields if name == b"content-length"]
    if not values:
        return None
    lengths = {int(value) if value.isdigit() else _MALFORMED for value in values}
    return lengths.pop() if len(lengths) == 1 else _MALFORMED


_Taker: TypeAlias = Callable[[Http2FastMachine, int, int, bytes], Event | None]
# ruff: noqa: SLF001 - the table is a part of the class
_TAKERS: Final[dict[int, _Taker]] = {
    **dict.fromkeys(range(256), Http2FastMachine._ignore),
    wire.DATA: Http2FastMachine._take_data,
    wire.HEADERS: Http2FastMachine._take_headers,
    wire.PRIORITY: Http2FastMachine._take_priority,
    wire.RST_STREAM: Http2FastMachine._take_reset,
    wire.SETTINGS: Http2FastMachine._take_settings,
    wire.PUSH_PROMISE: Http2FastMachine._refuse_push,
    wire.PING: Http2FastMachine._take_ping,
    wire.GOAWAY: Http2FastMachine._take_goaway,
    wire.WINDOW_UPDATE: Http2FastMachine._take_window_update,
    wire.CONTINUATION: Http2FastMachine._take_continuation,
    wire.PRIORITY_UPDATE: Http2FastMachine._take_priority_update,
}
"""Who takes a frame, by its kind."""

if TYPE_CHECKING:
    _machine: type[Machine] = Http2FastMachine
