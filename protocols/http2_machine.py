"""Http2Machine: h2's connection, with the few rules changed that would hurt a server.

h2 stays the judge of frames, states and flow control. What differs, and why:
- frames are given out one by one, so that what came before a fault is not lost with it;
- a malformed request ends its stream, not the connection (RFC 9113, 8.1.1);
- a stream above the limit can be refused by the caller; h2 would end the connection (5.1.2);
- GOAWAY, sent or received, lets the streams under way finish (6.8); h2 closes at once;
- the client's first frame must be SETTINGS (3.4);
- PRIORITY_UPDATE is understood (RFC 9218, 7.1).
"""

from collections.abc import Iterator
from typing import Final

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import Event, StreamReset
from h2.exceptions import InvalidBodyLengthError, ProtocolError
from h2.settings import SettingCodes, Settings
from hpack.exceptions import HPACKError
from hyperframe.exceptions import InvalidPaddingError
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PriorityFrame,
    SettingsFrame,
)

from ..core.config import Config
from ..core.errors import ConnectionFault

_NO_RFC7540_PRIORITIES: Final = 0x9
_PRIORITY_UPDATE: Final = 0x10
# A header list up to this many times the announced size is decoded, so that it can be answered with
# 431; beyond that it is an attack, and the connection ends (HPACK bomb).
_HEADER_LIST_TOLERANCE: Final = 4


class PriorityChanged(Event):
    """A PRIORITY_UPDATE frame: a stream and its new priority field value (RFC 9218, 7.1)."""

    def __init__(self, stream_id: int, value: bytes) -> None:
        self.stream_id = stream_id
        self.value = value


class GoawayReceived(Event):
    """A GOAWAY frame: the client will open no more streams, and accept no more pushes (RFC 9113, 6.8)."""

    def __init__(self, code: int) -> None:
        self.code = code


class Http2Machine(H2Connection):
    """The state of one HTTP/2 connection: bytes in, events out; calls in, bytes out. No I/O."""

    def __init__(self, config: Config) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,  # http2_request does, per stream
                normalize_inbound_headers=False,
                validate_outbound_headers=False,  # core.fields has
            )
        )
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: config.max_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: config.stream_window,
                SettingCodes.MAX_HEADER_LIST_SIZE: config.max_head_bytes,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
                _NO_RFC7540_PRIORITIES: 1,  # type: ignore[dict-item] # h2's codes are ints, its hint is not
            },
        )
        self.decoder.max_header_list_size = _HEADER_LIST_TOLERANCE * config.max_head_bytes
        self.initiate_connection()
        # The connection window begins at 65,535 whatever the settings say (RFC 9113, 6.9.2).
        extra = config.connection_window - self.inbound_flow_control_window
        if extra > 0:
            self.increment_flow_control_window(extra)
        self._settled = False

    @property
    def open_inbound_streams(self) -> int:
        """Say 0, so that the caller refuses what is too much; h2 tidies up its closed streams here."""
        super().open_inbound_streams  # noqa: B018 - a property with a side effect
        return 0

    def receive(self, data: bytes) -> Iterator[Event]:
        """Take bytes of the client; yield the events frame by frame.

        Raises:
            ConnectionFault: The connection must end with GOAWAY and this code.
        """
        try:
            self.incoming_buffer.add_data(data)
            self.incoming_buffer.max_frame_size = self.max_inbound_frame_size
            for frame in self.incoming_buffer:
                yield from self._take(frame)
        except InvalidPaddingError as error:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "invalid padding") from error
        except ProtocolError as error:
            code = error.error_code
            if isinstance(error.__cause__, HPACKError) and code == ErrorCodes.PROTOCOL_ERROR:
                code = ErrorCodes.COMPRESSION_ERROR  # RFC 9113, 4.3
            raise ConnectionFault(code, str(error)) from error

    def say_goaway(self, code: int, reason: str = "") -> None:
        """Announce the end of the connection; streams up to the newest one may finish (RFC 9113, 6.8)."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = self.highest_inbound_stream_id
        frame.error_code = code
        frame.additional_data = reason.encode("ascii", "replace")
        self._prepare_for_sending([frame])

    def _take(self, frame: Frame) -> list[Event]:
        if not self._settled:
            if not isinstance(frame, SettingsFrame) or "ACK" in frame.flags:
                raise ProtocolError("the first frame of a client is SETTINGS")
            self._settled = True
        if isinstance(frame, GoAwayFrame):
            return [GoawayReceived(frame.error_code)]
        if isinstance(frame, ExtensionFrame) and frame.type == _PRIORITY_UPDATE:
            return self._take_priority_update(frame)
        try:
            return self._receive_frame(frame)
        except ProtocolError as error:
            if not self._is_of_one_stream(frame, error):
                raise
        # What DATA took from the windows must be given back, for nobody will read it.
        if isinstance(frame, DataFrame):
            self.acknowledge_received_data(frame.flow_controlled_length, frame.stream_id)
        self.reset_stream(frame.stream_id, ErrorCodes.PROTOCOL_ERROR)
        return [
            StreamReset(stream_id=frame.stream_id, error_code=ErrorCodes.PROTOCOL_ERROR, remote_reset=False)
        ]

    def _is_of_one_stream(self, frame: Frame, error: ProtocolError) -> bool:
        """Whether h2's complaint is about a malformed message, which concerns its stream only."""
        stream = self.streams.get(frame.stream_id)
        if stream is None or stream.closed or self.state_machine.state is ConnectionState.CLOSED:
            return False
        if isinstance(error, InvalidBodyLengthError):
            return True
        # Exactly ProtocolError: its subclasses are about streams and windows. A header block that
        # could not be decompressed leaves the tables of both sides different: that is for all.
        return (
            type(error) is ProtocolError
            and isinstance(frame, HeadersFrame | PriorityFrame)
            and not isinstance(error.__cause__, HPACKError)
        )

    def _take_priority_update(self, frame: ExtensionFrame) -> list[Event]:
        if frame.stream_id != 0:
            raise ProtocolError("PRIORITY_UPDATE on a stream")
        if len(frame.body) < 4:
            error = ProtocolError("PRIORITY_UPDATE is too short")
            error.error_code = ErrorCodes.FRAME_SIZE_ERROR
            raise error
        stream_id = int.from_bytes(frame.body[:4], "big") & 0x7FFF_FFFF
        if stream_id == 0:
            raise ProtocolError("PRIORITY_UPDATE for stream 0")
        return [PriorityChanged(stream_id, bytes(frame.body[4:]))]
