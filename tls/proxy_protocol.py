"""The PROXY protocol, versions 1 and 2: the first bytes of a connection say who is behind a proxy.

A parser without I/O. Strict: what is not exactly a header is a fault, because a listener that is
configured for the protocol has no other use for the bytes (HAProxy's specification, section 2).
"""

import ipaddress
import re
import struct
from typing import Final, NamedTuple

from ..core.asgi import Address
from ..core.errors import ConnectionFault

SIGNATURE_2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_1: Final = 107
"""The longest header of version 1, with its line end, in bytes (2.1)."""

_LINE: Final = re.compile(rb"PROXY (TCP4|TCP6) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN[^\r\n]*\r\n")
_HEAD_2: Final = struct.Struct("!12sBBH")
_PORTS: Final = struct.Struct("!HH")
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES: Final = {0x11: 4, 0x21: 16}
"""Address sizes of TCP over IPv4 and over IPv6; other families say nothing that we could use."""


class ProxyHeader(NamedTuple):
    """What a header says.

    Attributes:
        length: How many bytes it is long.
        client: Who connected to the proxy; None if the proxy does not say, or speaks for itself.
        server: Where that client connected to; None likewise.
    """

    length: int
    client: Address | None = None
    server: Address | None = None


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read a header at the beginning of a connection.

    Args:
        data: What has arrived so far.

    Returns:
        The header, or None while more bytes are needed.

    Raises:
        ConnectionFault: The bytes are not a header.
    """
    if data.startswith(SIGNATURE_2[: len(data)]):
        return _read_2(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _read_1(data)
    raise _fault("the connection does not begin with a PROXY header")


def _read_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _MAX_1) + 2
    if end == 1:
        if len(data) >= _MAX_1:
            raise _fault("a PROXY line that does not end")
        return None
    line = data[:end]
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(end)
    match = _LINE.fullmatch(line)
    if match is None:
        raise _fault("a malformed PROXY line")
    version = 4 if match[1] == b"TCP4" else 6
    client, server = (
        _address_1(text, port, version) for text, port in ((match[2], match[4]), (match[3], match[5]))
    )
    return ProxyHeader(end, client, server)


def _address_1(text: bytes, port: bytes, version: int) -> Address:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise _fault("a malformed address in a PROXY line") from None
    if address.version != version or int(port) > 0xFFFF:
        raise _fault("a malformed address in a PROXY line")
    return str(address), int(port)


def _read_2(data: bytes) -> ProxyHeader | None:
    if len(data) < _HEAD_2.size:
        return None
    _, command, family, size = _HEAD_2.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise _fault("a PROXY header of another version, or with an unknown command")
    end = _HEAD_2.size + size
    if len(data) < end:
        return None
    if command == _LOCAL or family not in _ADDRESS_BYTES:  # the rest is TLVs, which nobody asked for
        return ProxyHeader(end)
    width = _ADDRESS_BYTES[family]
    if size < 2 * width + _PORTS.size:
        raise _fault("a PROXY header too short for its addresses")
    start = _HEAD_2.size
    client_port, server_port = _PORTS.unpack_from(data, start + 2 * width)
    client = str(ipaddress.ip_address(data[start : start + width])), client_port
    server = str(ipaddress.ip_address(data[start + width : start + 2 * width])), server_port
    return ProxyHeader(end, client, server)


def _fault(reason: str) -> ConnectionFault:
    return ConnectionFault(400, reason)
