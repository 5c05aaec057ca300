"""The PROXY header: the examples of its specification, every cut of them, and arbitrary bytes."""

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alphorn.core.asgi import Address
from alphorn.core.errors import ConnectionFault
from alphorn.tls.proxy_protocol import SIGNATURE_2, ProxyHeader, read_proxy_header

IPV4 = (("192.0.2.1", 56324), ("198.51.100.2", 443))
IPV6 = (("2001:db8::1", 56324), ("2001:db8::2", 443))


def version_2(command: int, family: int, addresses: bytes, tlvs: bytes = b"") -> bytes:
    return SIGNATURE_2 + struct.pack("!BBH", command, family, len(addresses + tlvs)) + addresses + tlvs


def packed(pair: tuple[tuple[str, int], tuple[str, int]]) -> bytes:
    (client, client_port), (server, server_port) = pair
    both = ipaddress.ip_address(client).packed + ipaddress.ip_address(server).packed
    return both + struct.pack("!HH", client_port, server_port)


TLV = b"\x04\x00\x03abc"
HEADERS = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", *IPV4),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", *IPV6),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, None),
    (version_2(0x21, 0x11, packed(IPV4)), *IPV4),
    (version_2(0x21, 0x21, packed(IPV6), TLV), *IPV6),
    (version_2(0x21, 0x31, bytes(216)), None, None),
    (version_2(0x21, 0x00, b"", TLV), None, None),
    (version_2(0x20, 0x11, packed(IPV4)), None, None),
    (version_2(0x20, 0x00, b""), None, None),
]


@pytest.mark.parametrize(("data", "client", "server"), HEADERS)
def test_a_header_is_read_and_what_follows_is_left(
    data: bytes, client: Address | None, server: Address | None
) -> None:
    assert read_proxy_header(data + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(data), client, server)


@pytest.mark.parametrize("data", [header[0] for header in HEADERS])
def test_a_part_of_a_header_asks_for_more(data: bytes) -> None:
    for length in range(len(data)):
        assert read_proxy_header(data[:length]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"proxy tcp4",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 name.example 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY " + b"1" * 120,
        b"PROXY " + b"1" * 120 + b"\r\n",
        version_2(0x11, 0x11, packed(IPV4)),
        version_2(0x22, 0x11, packed(IPV4)),
        version_2(0x21, 0x11, packed(IPV4)[:-1]),
        version_2(0x21, 0x21, packed(IPV4)),
    ],
)
def test_anything_else_is_a_fault(data: bytes) -> None:
    with pytest.raises(ConnectionFault):
        read_proxy_header(data)


@given(
    st.binary(max_size=200)
    | st.binary(max_size=60).map(SIGNATURE_2.__add__)
    | st.binary(max_size=120).map(b"PROXY ".__add__)
)
@example(b"PROXY TCP4 \xff \xff 1 1\r\n")
def test_arbitrary_bytes_are_a_header_a_beginning_or_a_fault(data: bytes) -> None:
    with contextlib.suppress(ConnectionFault):
        header = read_proxy_header(data)
        assert header is None or 0 < header.length <= len(data)
