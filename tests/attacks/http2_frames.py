"""What HTTP/2 attackers say, made by hand so that saying it costs them nothing."""

import struct
from typing import Final

from support.frames import END_HEADERS, END_STREAM

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PING, WINDOW_UPDATE, CONTINUATION, PRIORITY_UPDATE, UNKNOWN = 6, 8, 9, 0x10, 0xBE
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4
LAST_STREAM: Final = 2**31 - 1


def frame(kind: int, stream_id: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Return any frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3) + struct.pack("!BBL", kind, flags, stream_id) + payload


def request_block(path: str = "/", method: str = "GET") -> bytes:
    """Return a field section that leaves HPACK's dynamic table as it is (RFC 7541, 6.1 and 6.2.2)."""
    indexed = {"GET": b"\x82", "POST": b"\x83"}[method] + b"\x86"
    return indexed + b"\x01\x09localhost" + b"\x04" + bytes([len(path)]) + path.encode()


def request(stream_id: int, path: str = "/", method: str = "GET") -> bytes:
    """Return HEADERS: a GET that is complete, or a POST that goes on."""
    ends = END_STREAM if method == "GET" else 0
    return frame(HEADERS, stream_id, request_block(path, method), END_HEADERS | ends)


def reset(stream_id: int) -> bytes:
    """Return RST_STREAM with CANCEL."""
    return frame(RST_STREAM, stream_id, struct.pack("!L", 8))


def window_update(stream_id: int, increment: int) -> bytes:
    """Return WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, stream_id, struct.pack("!L", increment))


def setting(code: int, value: int) -> bytes:
    """Return SETTINGS with one value."""
    return frame(SETTINGS, 0, struct.pack("!HL", code, value))
