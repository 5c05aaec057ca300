"""HTTP/2 frames as bytes (RFC 9113, 4.1 and 6): what their numbers mean, their sizes, padding. No state."""

import struct
from collections.abc import Mapping
from typing import Final

from h2.errors import ErrorCodes

from ..core.errors import ConnectionFault

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9
ALTSVC: Final = 0xA  # RFC 7838, 4
PRIORITY_UPDATE: Final = 0x10  # RFC 9218, 7.1

END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
HAS_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8  # RFC 8441, 3
NO_RFC7540_PRIORITIES: Final = 0x9  # RFC 9218, 2.1

HEAD_SIZE: Final = 9  # bytes
PRIORITY_SIZE: Final = 5  # bytes (6.3)
DEFAULT_WINDOW: Final = 65_535  # 6.9.2
DEFAULT_FRAME_SIZE: Final = 16_384  # 6.5.2
DEFAULT_TABLE_SIZE: Final = 4096  # 6.5.2
LARGEST: Final = 2**31 - 1  # a window (6.9.1), a stream (5.1.1)
_LARGEST_FRAME: Final = 2**24 - 1

# The length is 24 bits, the kind behind it 8: together they are a word.
HEAD: Final = struct.Struct("!LBL")
# The same to be read without arithmetic: what is in the first byte is beyond any length that we accept, and a stream
# below 0 has the reserved bit set.
HEAD_PARTS: Final = struct.Struct("!BHBBl")
NUMBER: Final = struct.Struct("!L")
_SETTING: Final = struct.Struct("!HL")

_OF_A_STREAM: Final = frozenset((DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION))
_OF_THE_CONNECTION: Final = frozenset((SETTINGS, PING, GOAWAY))
# The size of a payload, where there is only one.
_SIZES: Final = {PRIORITY: PRIORITY_SIZE, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_LEAST_SIZES: Final = {GOAWAY: 8, ALTSVC: 2}
_ALLOWED: Final = {
    ENABLE_PUSH: range(2),
    INITIAL_WINDOW_SIZE: range(LARGEST + 1),
    MAX_FRAME_SIZE: range(DEFAULT_FRAME_SIZE, _LARGEST_FRAME + 1),
    ENABLE_CONNECT_PROTOCOL: range(2),
}


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings_frame(values: Mapping[int, int]) -> bytes:
    """Return the bytes of SETTINGS with these values."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def protocol_fault(reason: str) -> ConnectionFault:
    """Return the fault for what RFC 9113 has no better code for."""
    return ConnectionFault(ErrorCodes.PROTOCOL_ERROR, reason)


def check_place(kind: int, stream_id: int) -> None:
    """Check that a kind of frame is where it belongs: on a stream, or on the connection.

    Raises:
        ConnectionFault: It is not.
    """
    if kind in (_OF_THE_CONNECTION if stream_id else _OF_A_STREAM):
        raise protocol_fault("a frame on a stream instead of the connection, or the other way round")


def check_payload(kind: int, flags: int, payload: bytes) -> None:
    """Check the size of a payload.

    Raises:
        ConnectionFault: It is too short for what it has to hold, or longer than it may be.
    """
    size = len(payload)
    if kind in (DATA, HEADERS):
        least = (flags & PADDED != 0) + PRIORITY_SIZE * (kind == HEADERS and flags & HAS_PRIORITY != 0)
    elif kind == PUSH_PROMISE:
        least = 4 + (flags & PADDED != 0)
    elif kind == ALTSVC and size >= 2:
        least = 2 + int.from_bytes(payload[:2])
    else:
        least = _SIZES.get(kind) or _LEAST_SIZES.get(kind, 0)
    ragged = kind == SETTINGS and (size % _SETTING.size or (flags & ACK and size))
    if size < least or size > _SIZES.get(kind, size) or ragged:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, f"the size of a frame of type {kind}")


def without_padding(payload: bytes) -> bytes:
    """Return what is padded (6.1).

    Raises:
        ConnectionFault: There is more padding than payload.
    """
    end = len(payload) - payload[0]
    if end < 1:
        raise protocol_fault("there is more padding than payload")
    return payload[1:end]


def depends_on(payload: bytes) -> int:
    """Return the stream that another one depends on, as RFC 7540 had it (6.3)."""
    return int.from_bytes(payload[:4]) & LARGEST


def read_settings(payload: bytes) -> dict[int, int]:
    """Read SETTINGS; of a setting that is there twice, the last value (6.5.3).

    Raises:
        ConnectionFault: A value is not allowed.
    """
    values: dict[int, int] = dict(_SETTING.iter_unpack(payload))
    if values.get(NO_RFC7540_PRIORITIES, 0) > 1:
        raise protocol_fault("SETTINGS_NO_RFC7540_PRIORITIES is 0 or 1 (RFC 9218, 2.1)")
    for setting, value in values.items():
        if setting in _ALLOWED and value not in _ALLOWED[setting]:
            code = ErrorCodes.PROTOCOL_ERROR
            if setting == INITIAL_WINDOW_SIZE:
                code = ErrorCodes.FLOW_CONTROL_ERROR
            raise ConnectionFault(code, f"setting {setting} cannot be {value}")
    return values


def table_updates(block: bytes) -> int:
    """Return how many changes of the table size a field block begins with (RFC 7541, 6.3)."""
    count = at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:  # 001 and an integer with a prefix of 5 bits
        count += 1
        more = block[at] & 0x1F == 0x1F
        at += 1
        while more and at < len(block):
            more = block[at] >= 0x80
            at += 1
    return count
