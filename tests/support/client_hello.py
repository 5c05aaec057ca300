"""ClientHellos by hand, for what no TLS library would send."""

from itertools import pairwise


def hello_with(extensions: bytes, *, handshake_type: int = 1) -> bytes:
    """A ClientHello by hand."""
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    body += len(extensions).to_bytes(2) + extensions
    return in_records(bytes([handshake_type]) + len(body).to_bytes(3) + body)


def in_records(message: bytes, *cuts: int) -> bytes:
    """A handshake message in one record, or in several: cut at these positions."""
    edges = [0, *cuts, len(message)]
    parts = [message[start:end] for start, end in pairwise(edges)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    listed = b"".join(bytes([kind]) + len(name).to_bytes(2) + name for name in names)
    content = len(listed).to_bytes(2) + listed
    return b"\0\0" + len(content).to_bytes(2) + content


def alpn(*names: bytes) -> bytes:
    names_bytes = b"".join(bytes([len(name)]) + name for name in names)
    content = len(names_bytes).to_bytes(2) + names_bytes
    return b"\0\x10" + len(content).to_bytes(2) + content
