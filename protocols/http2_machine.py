"""Http2Machine: h2's connection, with the few rules changed that would hurt a server.

The machine of `--engine reference`: h2 is the judge of frames, states and windows. What differs, and why:
- frames are given out one by one, so that what came before a fault is not lost with it;
- a malformed request ends its stream, not the connection (RFC 9113, 8.1.1);
- a stream above the limit can be refused by the caller; h2 would end the connection (5.1.2);
- what is late on a stream that we have reset is counted and dropped (5.1); h2 resets it again each time;
- GOAWAY, sent or received, lets the streams under way finish (6.8); h2 closes at once;
- the client's first frame must be SETTINGS (3.4); RST_STREAM on an idle stream is a fault (6.4);
- PRIORITY_UPDATE is understood (RFC 9218, 7.1);
- a frame that cannot be is refused at once: one that is too large, a push, anything before SETTINGS;
- what a client can make us remember is bounded: settings, closed streams, tables, unfinished frames
  and field blocks;
- frames that are of no use to an application are counted, each kind where it is taken (`http2_guard`).

Invariant: once `receive` has raised, the machine is good for nothing but `say_goaway`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from h2 import events as h2
from h2.config import H2Configuration
from h2.connection import H2Connection, _decode_headers
from h2.errors import ErrorCodes
from h2.exceptions import (
    DenialOfServiceError,
    FrameTooLargeError,
    InvalidBodyLengthError,
    ProtocolError,
)
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy, StreamState
from hpack.exceptions import HPACKError
from hyperframe.exceptions import InvalidDataError, InvalidPaddingError
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ..core.asgi import Fields
from ..core.config import Config
from ..core.errors import ConnectionFault
from ..core.exchange import Head
from . import http2_events as events
from . import http2_frames as wire
from .http2_guard import Http2Guard
from .http2_limits import (
    HEADER_LIST_TOLERANCE,
    LATE_DATA_BYTES,
    MAX_BLOCK_FRAMES,
    MAX_CLOSED_STREAMS,
    MAX_DEBUG_BYTES,
    MAX_TABLE_UPDATES,
    SETTINGS_WEIGHT,
    WORK_PER_TURN,
    extra_work,
)

_NO_RFC7540_PRIORITIES: Final = 0x9
_PRIORITY_UPDATE: Final = 0x10
_FRAME_HEAD: Final = 9  # bytes (RFC 9113, 4.1)
_FIELD_OVERHEAD: Final = 32  # bytes (RFC 9113, 6.5.2)
_KNOWN_SETTINGS: Final = frozenset(SettingCodes)
# How much of the client's memory we use for our header compression, in bytes: RFC 7541's default.
# A client may offer gigabytes, and the search through so large a table would be at our cost.
_MAX_ENCODER_TABLE: Final = 4096
# h2 has the names of its classes and states in its messages: for our log, but no business of a client.
_CLASS_NAME: Final = re.compile(r"[a-z][A-Z]")
_DEFAULT_WINDOW: Final = 65_535  # RFC 9113, 6.9.2
# What hpack raises for a block that it cannot decompress.
_UNDECODABLE: Final = (HPACKError, IndexError, TypeError, UnicodeDecodeError)


class Http2Machine(H2Connection):
    """The state of one HTTP/2 connection: bytes in, events out; calls in, bytes out. No I/O.

    Attributes:
        behind: Whether frames have been received that may be left for another turn.
    """

    MAX_CLOSED_STREAMS = MAX_CLOSED_STREAMS

    def __init__(self, config: Config, guard: Http2Guard) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,  # http2_request does, per stream
                normalize_inbound_headers=False,
                validate_outbound_headers=False,  # core.fields has, and brought them into the form of HTTP/2
                normalize_outbound_headers=False,
            )
        )
        self.behind = False
        self._guard = guard
        self._max_block = HEADER_LIST_TOLERANCE * config.max_head_bytes
        self.incoming_buffer = _FrameBuffer(guard, self._max_block)
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: config.max_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: max(config.stream_window, _DEFAULT_WINDOW),
                SettingCodes.MAX_HEADER_LIST_SIZE: config.max_head_bytes,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
                _NO_RFC7540_PRIORITIES: 1,  # type: ignore[dict-item] # h2's codes are ints, its hint is not
            },
        )
        self.decoder.max_header_list_size = self._max_block
        self._announce_settings(config.stream_window)
        # The connection window begins at 65,535 whatever the settings say (RFC 9113, 6.9.2).
        extra = config.connection_window - self.inbound_flow_control_window
        if extra > 0:
            self.increment_flow_control_window(extra)
        self._acknowledged = False
        self._takers: dict[type[Frame], Callable[..., list[h2.Event]]] = {
            AltSvcFrame: self._ignore,  # RFC 7838, 4: servers do
            ContinuationFrame: self._refuse_continuation,
            DataFrame: self._take_data,
            ExtensionFrame: self._take_extension,
            GoAwayFrame: self._take_goaway,
            HeadersFrame: self._take_headers,
            PingFrame: self._take_control,
            PriorityFrame: self._take_priority,
            RstStreamFrame: self._take_reset,
            SettingsFrame: self._take_settings,
            WindowUpdateFrame: self._take_control,
        }

    # ------------------------------------------------------------------ for the connection

    @property
    def open_inbound_streams(self) -> int:
        """Say 0, so that the caller refuses what is too much; h2 tidies up its closed streams here."""
        self._forget_closed()
        return 0

    @property
    def wants_to_send(self) -> bool:
        """Whether `data_to_send` has anything."""
        return bool(self._data_to_send)

    @property
    def push_limit(self) -> int:
        """How many promised streams the client accepts at a time (RFC 9113, 6.5.2)."""
        return self.remote_settings.max_concurrent_streams if self.remote_settings.enable_push else 0

    @property
    def unfinished_head(self) -> int | None:
        """The stream whose field block has begun and not ended; None if there is none."""
        buffer = self.incoming_buffer
        if buffer._headers_buffer:  # noqa: SLF001
            return buffer._headers_buffer[0].stream_id  # noqa: SLF001
        if not buffer._data:  # noqa: SLF001
            return None
        unparsed = buffer._data[:_FRAME_HEAD]  # noqa: SLF001
        if len(unparsed) == _FRAME_HEAD and unparsed[3] == HeadersFrame.type:
            return int.from_bytes(unparsed[5:]) & 0x7FFF_FFFF
        return None

    def receive(self, data: bytes) -> Iterator[events.Event]:
        """Take bytes of the client; yield the events of as many frames as one turn has, one by one.

        Where `behind` then says so, there may be more: `receive(b"")`.

        Raises:
            ConnectionFault: The connection must end with GOAWAY and this code.
        """
        buffer = self.incoming_buffer
        self.behind = False
        try:
            buffer.add_data(data)
            buffer.max_frame_size = self.max_inbound_frame_size
            left = WORK_PER_TURN
            for frame in buffer:
                flags = wire.ACK if "ACK" in frame.flags else 0
                left -= 1 + extra_work(frame.type or 0, flags, len(getattr(frame, "data", b"")))
                for event in self._takers.get(type(frame), self._receive_frame)(frame):
                    translated = _translate(event)
                    if translated is not None:
                        yield translated
                if left <= 0:
                    self.behind = True
                    return
            # h2 looks at the length of a frame when it has all of it, which may be 16 MiB. Once the header is
            # whole and no sooner, so that what else is wrong with it counts first however it comes.
            unfinished = buffer._data  # noqa: SLF001
            if len(unfinished) >= _FRAME_HEAD and int.from_bytes(unfinished[:3]) > buffer.max_frame_size:
                raise FrameTooLargeError("the frame is larger than SETTINGS_MAX_FRAME_SIZE")
        except InvalidPaddingError as error:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "invalid padding") from error
        except ProtocolError as error:
            # What could not be parsed is still at the head of the buffer.
            code = _code_of(error, bytes(buffer._data[:_FRAME_HEAD]))  # noqa: SLF001
            limit = "max_head_bytes" if isinstance(error, DenialOfServiceError) else None
            raise ConnectionFault(code, str(error), limit=limit) from error

    def send_data(
        self,
        stream_id: int,
        data: bytes | memoryview,
        end_stream: bool = False,
        pad_length: int | None = None,
    ) -> None:
        """Send content in as many DATA frames as it takes, which the windows have room for."""
        largest = self.max_outbound_frame_size
        while len(data) > largest:
            super().send_data(stream_id, data[:largest])
            data = data[largest:]
        super().send_data(stream_id, data, end_stream, pad_length)

    def send_message(self, stream_id: int, content: bytes) -> bool:
        """Send content that leaves something of the windows; see `Machine.send_message`."""
        room = self.local_flow_control_window(stream_id) > len(content)
        if room:
            self.send_data(stream_id, content)
        return room

    def send_whole(self, stream_id: int, head: Head, content: bytes) -> int:
        """Send a response in one DATA frame, if there is room for it; see `Machine.send_whole`."""
        left = self.local_flow_control_window(stream_id) - len(content)
        if left < 0 or len(content) > self.max_outbound_frame_size:
            return -1
        self.send_headers(stream_id, events.section_of(head))
        self.send_data(stream_id, content, end_stream=True)
        return left

    def reset_stream(self, stream_id: int, error_code: ErrorCodes | int = ErrorCodes.NO_ERROR) -> None:
        """Send RST_STREAM, unless both sides have ended the stream: then there is nothing to reset."""
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.closed:
            super().reset_stream(stream_id, error_code)

    def acknowledge_received_data(self, acknowledged_size: int, stream_id: int) -> None:
        """Give window back; on a stream that the client has ended it would have no use for it."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.state_machine.state is not StreamState.HALF_CLOSED_REMOTE:
            super().acknowledge_received_data(acknowledged_size, stream_id)
            return
        increment = self._inbound_flow_control_window_manager.process_bytes(acknowledged_size)
        if increment:
            self._prepare_for_sending([WindowUpdateFrame(0, increment)])

    def say_leaving(self) -> None:
        """Ask for no more streams; those that were opened meanwhile are still taken (RFC 9113, 6.8)."""
        self._prepare_for_sending([GoAwayFrame(last_stream_id=wire.LARGEST, error_code=ErrorCodes.NO_ERROR)])

    def say_goaway(self, code: int, reason: str = "") -> None:
        """Announce the end of the connection; streams up to the newest one may finish (RFC 9113, 6.8)."""
        debug = b"" if _CLASS_NAME.search(reason) else reason.encode("ascii", "replace")[:MAX_DEBUG_BYTES]
        self._prepare_for_sending(
            [
                GoAwayFrame(
                    last_stream_id=self.highest_inbound_stream_id, error_code=code, additional_data=debug
                )
            ]
        )

    def is_idle(self, stream_id: int) -> bool:
        """Whether a stream has not been opened yet, nor skipped (RFC 9113, 5.1.1)."""
        newest = self.highest_inbound_stream_id if stream_id % 2 else self.highest_outbound_stream_id
        return stream_id > newest

    # ------------------------------------------------------------------ frames

    def _announce_settings(self, stream_window: int) -> None:
        """Send our SETTINGS.

        A window below the default holds once the client has acknowledged it; until then it cannot
        know better (RFC 9113, 6.9.3). Everything else can be held against it at once, or is advice.
        """
        announced = {**self.local_settings, SettingCodes.INITIAL_WINDOW_SIZE: stream_window}
        self._prepare_for_sending([SettingsFrame(settings=announced)])
        if stream_window < _DEFAULT_WINDOW:
            self.local_settings.initial_window_size = stream_window

    def _take_data(self, frame: DataFrame) -> list[h2.Event]:
        if not frame.data and "END_STREAM" not in frame.flags:
            self._guard.count_useless()
        return self._take_message(frame)

    def _take_headers(self, frame: HeadersFrame) -> list[h2.Event]:
        if wire.table_updates(frame.data) > MAX_TABLE_UPDATES:
            raise ConnectionFault(ErrorCodes.COMPRESSION_ERROR, "too many changes of the table size")
        return self._take_message(frame)

    def _take_message(self, frame: DataFrame | HeadersFrame) -> list[h2.Event]:
        if frame.stream_id % 2 == 0:
            raise ProtocolError("a client sends nothing on a stream of the server (RFC 9113, 5.1)")
        if self._stream_closed_by(frame.stream_id) is StreamClosedBy.SEND_RST_STREAM:
            return self._discard(frame)
        if self._is_closed(frame.stream_id):  # h2 tells the client so, each time
            self._guard.count_useless()
        return self._judge_message(frame)

    def _judge_message(self, frame: DataFrame | HeadersFrame | PriorityFrame) -> list[h2.Event]:
        """Have h2 judge a part of a message; what is only malformed ends its stream (RFC 9113, 8.1.1)."""
        try:
            return self._receive_frame(frame)
        except ProtocolError as error:
            # The other subclasses are about states, streams and windows. And a field block that could
            # not be decompressed leaves the tables of both sides different, which concerns all.
            of_the_message = type(error) in (ProtocolError, InvalidBodyLengthError)
            stream = self.streams.get(frame.stream_id)
            if stream is None or not of_the_message or isinstance(error.__cause__, _UNDECODABLE):
                raise
        if isinstance(frame, DataFrame):  # nobody will read it
            self.acknowledge_received_data(frame.flow_controlled_length, frame.stream_id)
        # By hand, for h2 may have closed the stream already, without a word to the client.
        stream.state_machine.state = StreamState.CLOSED
        stream.state_machine.stream_closed_by = StreamClosedBy.SEND_RST_STREAM
        code = ErrorCodes.PROTOCOL_ERROR
        self._prepare_for_sending([RstStreamFrame(frame.stream_id, code)])
        return [h2.StreamReset(stream_id=frame.stream_id, error_code=code, remote_reset=False)]

    def _discard(self, frame: DataFrame | HeadersFrame) -> list[h2.Event]:
        """Drop what was under way when we reset its stream: it counts, but nobody reads it (RFC 9113, 5.1)."""
        if not isinstance(frame, DataFrame) or len(frame.data) < LATE_DATA_BYTES:
            self._guard.count_useless()
        if isinstance(frame, DataFrame):
            length = frame.flow_controlled_length
            self._inbound_flow_control_window_manager.window_consumed(length)
            self.acknowledge_received_data(length, frame.stream_id)
        else:
            _decode_headers(self.decoder, frame.data)
        return []

    def _take_reset(self, frame: RstStreamFrame) -> list[h2.Event]:
        if self.is_idle(frame.stream_id):
            raise ProtocolError("RST_STREAM on an idle stream")
        if self._is_closed(frame.stream_id):
            self._guard.count_useless()
        return self._receive_frame(frame)

    def _forget_closed(self) -> None:
        """Forget closed streams, which have no windows to change; h2 does with the next request."""
        super().open_inbound_streams  # noqa: B018 - a property with a side effect

    def _is_closed(self, stream_id: int) -> bool:
        stream = self.streams.get(stream_id)
        return not self.is_idle(stream_id) if stream is None else stream.closed

    def _take_priority(self, frame: PriorityFrame) -> list[h2.Event]:
        self._guard.count_useless()
        self._forget_closed()
        return self._judge_message(frame)

    def _take_control(self, frame: PingFrame | WindowUpdateFrame) -> list[h2.Event]:
        self._guard.count_useless()
        return self._receive_frame(frame)

    def _take_settings(self, frame: SettingsFrame) -> list[h2.Event]:
        if "ACK" not in frame.flags:
            self._guard.count_useless(SETTINGS_WEIGHT)
        elif self._acknowledged:  # we have sent one
            self._guard.count_useless()
        else:
            self._acknowledged = True
        self._forget_closed()
        values = frame.settings
        if values.get(_NO_RFC7540_PRIORITIES, 0) not in (0, 1):
            raise ProtocolError("SETTINGS_NO_RFC7540_PRIORITIES is 0 or 1 (RFC 9218, 2.1)")
        # h2 keeps every setting that it is told, and there are 65,536 of them.
        frame.settings = {code: value for code, value in values.items() if code in _KNOWN_SETTINGS}
        table = frame.settings.get(SettingCodes.HEADER_TABLE_SIZE)
        if table is not None:
            frame.settings[SettingCodes.HEADER_TABLE_SIZE] = min(table, _MAX_ENCODER_TABLE)
        events = self._receive_frame(frame)
        # Of many changes, the smallest and the last are what the decoder must hear of (RFC 7541, 4.2).
        changes = self.encoder.table_size_changes
        if len(changes) > 2:
            changes[:] = [min(changes), changes[-1]]
        return events

    def _take_extension(self, frame: ExtensionFrame) -> list[h2.Event]:
        self._guard.count_useless()
        if frame.type != _PRIORITY_UPDATE:
            return []
        if frame.stream_id != 0:
            raise ProtocolError("PRIORITY_UPDATE on a stream")
        if len(frame.body) < 4:
            raise FrameTooLargeError("PRIORITY_UPDATE is too short")  # the code is for any wrong size
        stream_id = int.from_bytes(frame.body[:4]) & 0x7FFF_FFFF
        if stream_id == 0 or (stream_id % 2 == 0 and self.is_idle(stream_id)):
            raise ProtocolError("PRIORITY_UPDATE for a stream that cannot be")
        return [_Ours(events.PriorityChanged(stream_id, frame.body[4:]))]

    def _take_goaway(self, frame: GoAwayFrame) -> list[h2.Event]:
        self._guard.count_useless()
        return [_Ours(events.GoawayReceived(frame.error_code))]

    def _refuse_continuation(self, frame: ContinuationFrame) -> list[h2.Event]:
        raise ProtocolError("CONTINUATION without a field block to continue (RFC 9113, 6.10)")

    def _ignore(self, frame: Frame) -> list[h2.Event]:
        self._guard.count_useless()
        return []


class _FrameBuffer(FrameBuffer):
    """h2's, which puts field blocks together, with a bound in bytes besides that in frames, and no patience."""

    def __init__(self, guard: Http2Guard, max_block: int) -> None:
        super().__init__(server=True)
        self._guard = guard
        self._max_block = max_block
        self._settled = False

    def _update_header_buffer(self, f: Frame | None) -> Frame | None:
        if not self._settled:
            if not isinstance(f, SettingsFrame) or "ACK" in f.flags:
                raise ProtocolError("the first frame of a client is SETTINGS")
            self._settled = True
        if type(f) is PushPromiseFrame:
            raise ProtocolError("a client does not push")
        if type(f) is HeadersFrame and "PRIORITY" in f.flags and f.pad_length > f.body_len - 5:
            raise ProtocolError("there is more padding than field block (RFC 9113, 6.2)")
        if type(f) is ContinuationFrame:
            if not f.data:
                self._guard.count_useless()
            parts = self._headers_buffer
            size = sum(len(part.data) for part in parts) + len(f.data)
            if size > self._max_block or len(parts) >= MAX_BLOCK_FRAMES:
                raise ConnectionFault(
                    ErrorCodes.ENHANCE_YOUR_CALM, "the field block is too large", limit="max_head_bytes"
                )
        return super()._update_header_buffer(f)


def _plain(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Return fields without hpack's marks, which bind who passes them on (RFC 7541, 6.2.3)."""
    return [(name, value) for name, value in fields]


class _Ours(h2.Event):
    """An event that h2 does not know."""

    def __init__(self, event: events.Event) -> None:
        self.event = event


def _translate(event: h2.Event) -> events.Event | None:
    """Say what h2 says in the words of `http2_events`; None if the connection need not know."""
    match event:
        case h2.RequestReceived():
            fields = _plain(event.headers)
            size = sum(_FIELD_OVERHEAD + len(name) + len(value) for name, value in fields)
            return events.RequestReceived(event.stream_id, fields, size, event.stream_ended is not None)
        case h2.DataReceived():
            ended = event.stream_ended is not None
            return events.DataReceived(event.stream_id, event.data, event.flow_controlled_length, ended)
        case h2.TrailersReceived():
            return events.TrailersReceived(event.stream_id, _plain(event.headers))
        case h2.StreamReset():
            return events.StreamReset(event.stream_id, event.error_code)
        case h2.WindowUpdated():
            return events.WindowUpdated(event.stream_id)
        case h2.RemoteSettingsChanged():
            return events.SettingsChanged()
        case _Ours():
            return event.event
    return None


def _code_of(error: ProtocolError, unparsed: bytes) -> int:
    """Return the code of a connection error; h2 says PROTOCOL_ERROR where the RFC is more precise."""
    if error.error_code != ErrorCodes.PROTOCOL_ERROR:
        return error.error_code
    if isinstance(error.__cause__, _UNDECODABLE):
        return ErrorCodes.COMPRESSION_ERROR  # RFC 9113, 4.3
    if isinstance(error.__cause__, InvalidDataError):
        length_and_kind, flags, stream_id = wire.HEAD.unpack(unparsed)
        acknowledgment = length_and_kind & 0xFF == wire.SETTINGS and flags & wire.ACK
        if acknowledgment and not stream_id & wire.LARGEST:
            return ErrorCodes.FRAME_SIZE_ERROR  # RFC 9113, 6.5: an acknowledgment with values in it
    return ErrorCodes.PROTOCOL_ERROR


if TYPE_CHECKING:
    _machine: type[events.Machine] = Http2Machine
