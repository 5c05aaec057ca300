"""Which application protocols a ClientHello offers (RFC 8446, 4.1.2; RFC 7301, 3.1).

Bytes in, an answer out: no input or output, no state, and no bytes make it raise. It answers
only for a ClientHello that is whole and in one record. Everything else (fragments, malformed
or unknown structures) has the answer None, and OpenSSL decides.
"""

from typing import Final

HEADER_BYTES: Final = 5
"""Size of a record's header: content type, version, length (RFC 8446, 5.1)."""

MAX_RECORD_BYTES: Final = HEADER_BYTES + 2**14
"""Size of the largest unprotected record with its header (RFC 8446, 5.1)."""

HANDSHAKE_RECORD: Final = 22
"""The content type that every TLS connection begins with."""

_CLIENT_HELLO = 1
_ALPN_EXTENSION = 16


def bytes_wanted(data: bytes) -> int:
    """Say how many bytes of a connection must be there before `offered_protocols` can answer.

    Args:
        data: The first bytes of a connection, as many as there are.

    Returns:
        The size of the first record with its header; that of the header alone while the length
        is not known, or is one that no record may have.
    """
    if len(data) < HEADER_BYTES:
        return HEADER_BYTES
    record = HEADER_BYTES + int.from_bytes(data[3:HEADER_BYTES])
    return record if record <= MAX_RECORD_BYTES else HEADER_BYTES


def offered_protocols(data: bytes) -> tuple[bytes, ...] | None:
    """Read the protocols that a client offers by ALPN, in its order of preference.

    Args:
        data: The first bytes of a connection; what follows the first record is not looked at.

    Returns:
        The names, or None when the client offers none, or when this parser cannot tell.
    """
    try:
        return _read_record(data)
    except _NotUnderstood:
        return None


class _NotUnderstood(Exception):  # noqa: N818 - not an error: OpenSSL may understand
    """The bytes are not a whole ClientHello in one record."""


class _Reader:
    """Takes bytes from the front, never more than there are."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._data):
            raise _NotUnderstood
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int, *, at_least: int = 0) -> bytes:
        """Take a vector whose length stands before it in `size` bytes (RFC 8446, 3.4)."""
        length = self.number(size)
        if length < at_least:
            raise _NotUnderstood
        return self.take(length)

    def last_vector(self, size: int, *, at_least: int = 0) -> bytes:
        """Take a vector that must be the last thing there is."""
        taken = self.vector(size, at_least=at_least)
        if not self.at_end:
            raise _NotUnderstood
        return taken


def _read_record(data: bytes) -> tuple[bytes, ...] | None:
    record = _Reader(data)
    if record.number(1) != HANDSHAKE_RECORD:
        raise _NotUnderstood
    record.take(2)  # legacy_record_version, to be ignored (RFC 8446, 5.1)
    message = _Reader(record.vector(2))
    if message.number(1) != _CLIENT_HELLO:
        raise _NotUnderstood
    hello = _Reader(message.last_vector(3))
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2, at_least=2)  # cipher_suites
    hello.vector(1, at_least=1)  # legacy_compression_methods
    if hello.at_end:  # TLS 1.2 allows a ClientHello without extensions (RFC 5246, 7.4.1.2)
        return None
    return _read_extensions(_Reader(hello.last_vector(2)))


def _read_extensions(extensions: _Reader) -> tuple[bytes, ...] | None:
    offered: tuple[bytes, ...] | None = None
    while not extensions.at_end:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind != _ALPN_EXTENSION:
            continue
        if offered is not None:  # RFC 8446, 4.2: not twice
            raise _NotUnderstood
        offered = _read_names(_Reader(_Reader(content).last_vector(2, at_least=2)))
    return offered


def _read_names(names: _Reader) -> tuple[bytes, ...]:
    found: list[bytes] = []
    while not names.at_end:
        found.append(names.vector(1, at_least=1))
    return tuple(found)
