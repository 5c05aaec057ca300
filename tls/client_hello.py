"""What a ClientHello asks for: a server name and application protocols (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301).

Bytes in, an answer out: no input or output, no state, and no bytes make it raise. For everything
that it does not understand (malformed or unknown structures, more records than a client has reason
for) the answer is that nothing is asked for, and OpenSSL decides.

It is here because Python's `ssl` can neither refuse an ALPN offer with the alert that RFC 7301
demands, nor choose a certificate by name safely: `sni_callback` prints a traceback for each client
that sends a name which is not ASCII.
"""

from typing import Final, NamedTuple

HEADER_BYTES: Final = 5
"""Size of a record's header: content type, version, length (RFC 8446, 5.1)."""

MAX_BYTES: Final = HEADER_BYTES + 2**14
"""Size of the largest unprotected record with its header (RFC 8446, 5.1), and of what is looked at."""

HANDSHAKE_RECORD: Final = 22
"""The content type that every TLS connection begins with."""

MAX_RECORDS: Final = 8
"""Records that a ClientHello may be in. Usually it is one; some clients that evade censorship send a few."""

_CLIENT_HELLO = 1
_MESSAGE_HEADER_BYTES = 4  # type and length
_SERVER_NAME_EXTENSION = 0
_ALPN_EXTENSION = 16


class ClientHello(NamedTuple):
    """What a client asks for.

    Attributes:
        server_name: The host it wants to reach (SNI), as it came, or None.
        protocols: What it offers by ALPN, in its order of preference, or None without an offer.
    """

    server_name: bytes | None
    protocols: tuple[bytes, ...] | None


NOTHING: Final = ClientHello(None, None)
"""What is known of a client whose ClientHello is not understood."""


def bytes_wanted(data: bytes) -> int:
    """Say how many bytes of a connection must be there before `read_client_hello` can answer.

    Args:
        data: The first bytes of a connection, as many as there are.

    Returns:
        That number, as far as it is known: the end of the record, or of its header, that has not
        come yet. No more than there are already, if nothing is worth waiting for.
    """
    return min(max(_gather(data)[1], HEADER_BYTES), MAX_BYTES)


def read_client_hello(data: bytes) -> ClientHello:
    """Read what a client asks for.

    Args:
        data: The first bytes of a connection; what follows the ClientHello is not looked at.

    Returns:
        What it says; `NOTHING` when this parser cannot tell.
    """
    try:
        return _read_message(_Reader(_gather(data)[0]))
    except _NotUnderstood:
        return NOTHING


def _gather(data: bytes) -> tuple[bytes, int]:
    """Join what the records have of the first handshake message (RFC 8446, 5.1).

    Returns:
        What there is of it, and the number of bytes of the connection that this took, or would take.
    """
    message = b""
    end = 0
    for _ in range(MAX_RECORDS):
        start = end + HEADER_BYTES
        if len(data) < start:
            return message, start
        length = int.from_bytes(data[start - 2 : start])
        if data[end] != HANDSHAKE_RECORD or not 0 < length <= MAX_BYTES - HEADER_BYTES:
            break
        end = start + length
        message += data[start:end]
        if len(data) < end or _is_whole(message):
            return message, end
    return b"", 0


def _is_whole(message: bytes) -> bool:
    header, body = message[:_MESSAGE_HEADER_BYTES], message[_MESSAGE_HEADER_BYTES:]
    return len(header) == _MESSAGE_HEADER_BYTES and len(body) >= int.from_bytes(header[1:])


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


def _read_message(message: _Reader) -> ClientHello:
    if message.number(1) != _CLIENT_HELLO:
        raise _NotUnderstood
    hello = _Reader(message.last_vector(3))
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2, at_least=2)  # cipher_suites
    hello.vector(1, at_least=1)  # legacy_compression_methods
    if hello.at_end:  # TLS 1.2 allows a ClientHello without extensions (RFC 5246, 7.4.1.2)
        return NOTHING
    found = _read_extensions(_Reader(hello.last_vector(2)))
    name, protocols = found.get(_SERVER_NAME_EXTENSION), found.get(_ALPN_EXTENSION)
    return ClientHello(
        None if name is None else _read_server_name(_Reader(name)),
        None if protocols is None else _read_protocols(_Reader(protocols)),
    )


def _read_extensions(extensions: _Reader) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while not extensions.at_end:
        kind = extensions.number(2)
        if kind in found:  # RFC 8446, 4.2: not twice
            raise _NotUnderstood
        found[kind] = extensions.vector(2)
    return found


def _read_server_name(extension: _Reader) -> bytes:
    names = _Reader(extension.last_vector(2))
    if names.number(1) != 0:  # host_name, the only kind there is (RFC 6066, 3)
        raise _NotUnderstood
    return names.last_vector(2, at_least=1)


def _read_protocols(extension: _Reader) -> tuple[bytes, ...]:
    names = _Reader(extension.last_vector(2, at_least=2))
    found: list[bytes] = []
    while not names.at_end:
        found.append(names.vector(1, at_least=1))
    return tuple(found)
