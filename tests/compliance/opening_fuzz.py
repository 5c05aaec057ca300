"""Fuzzing what a connection begins with: a ClientHello, or a PROXY header.

A ClientHello is read as OpenSSL reads it, or left to OpenSSL; how many bytes are waited for is bounded. A
PROXY header is the same however it is cut, once read stays read, and is waited for no longer than it may be long.
"""

import functools
import ipaddress
import random
import ssl
import sys
import tempfile
from pathlib import Path

from alphorn.core.errors import ConnectionFault
from alphorn.tls.client_hello import MAX_BYTES, NOTHING, ClientHello, bytes_wanted, read_client_hello
from alphorn.tls.proxy_protocol import SIGNATURE_2, ProxyHeader, read_proxy_header
from support.certificates import authority

from .fuzzing import Fuzzer, kept

# ---------------------------------------------------------------------- ClientHello

PROTOCOLS = ["h2", "http/1.1"]

HELLO_TOKENS = (
    *(b"\x16\x03\x01", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\x40\x00", b"\x16\x03\x01\x40\x01", b"\x15\x03\x01\x00\x02\x02\x28"),
    *(b"\x01\x00\x01\x00", b"\x01\x00\x00\x30", b"\x03\x03", b"\x00\x00", b"\x00\x10", b"\xff\xff", b"\x0a\x0a\x00\x00"),
    *(b"\x00\x00\x00\x0b\x00\x09\x00\x00\x06a.test", b"\x00\x10\x00\x05\x00\x03\x02h2", b"\x02h2", b"\x08http/1.1", b"\x00"),
)  # fmt: skip


async def check_client_hello(data: bytes, seed: int) -> None:
    """Read a ClientHello as it arrives, and compare with OpenSSL.

    Args:
        data: What a client says first.
        seed: Decides how many bytes come at once.

    Raises:
        AssertionError: Something does not hold that must.
    """
    chance = random.Random(seed)
    seen = 0
    while (wanted := bytes_wanted(data[:seen])) > seen:
        assert wanted <= MAX_BYTES
        if seen == len(data):
            return
        seen = min(len(data), chance.choice((wanted, seen + 1 + chance.randint(0, wanted - seen - 1))))
    hello = read_client_hello(data[:seen])
    assert read_client_hello(data[:MAX_BYTES]) == hello
    if hello != NOTHING:
        check_openssl(data[:seen], hello)


def check_openssl(data: bytes, hello: ClientHello) -> None:
    """Hold what was read against what OpenSSL reads, unless it refuses the whole."""
    names: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _connection, name, _context: names.append(name)
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    unraisable, sys.unraisablehook = sys.unraisablehook, lambda _: None  # for names that are not ASCII
    try:
        server.do_handshake()
    except (ssl.SSLError, ValueError):
        pass
    finally:
        sys.unraisablehook = unraisable
    if names and hello.server_name is not None:
        assert names == [hello.server_name.decode("ascii")]
    chosen = server.selected_alpn_protocol()
    assert chosen is None or chosen.encode() in (hello.protocols or ())


@functools.cache
def server_context() -> ssl.SSLContext:
    """Return a server as OpenSSL makes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(PROTOCOLS)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*authority().issue(Path(folder)))
    return context


CLIENT_HELLO = Fuzzer("client_hello", kept("client_hello"), HELLO_TOKENS, check_client_hello)

# ---------------------------------------------------------------------- PROXY

MAX_VERSION_1 = 107

PROXY_TOKENS = (
    *(b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"\r\n", b"\r", b"\n", b" ", b"192.0.2.1 ", b"::1 ", b"65535", b"0", b"\xff"),
    *(SIGNATURE_2, SIGNATURE_2 + b"\x21\x11\x00\x0c", b"\x20", b"\x21", b"\x11", b"\x31", b"\x00\x00", b"\x00\x0c", b"\xff\xff"),
)  # fmt: skip


async def check_proxy(data: bytes, seed: int) -> None:
    """Read a PROXY header as it arrives.

    Args:
        data: What a proxy says first.
        seed: Decides how many bytes come at once.

    Raises:
        AssertionError: Something does not hold that must.
    """
    chance = random.Random(seed)
    answers = [
        read(data[:seen]) for seen in sorted({chance.randint(0, len(data)) for _ in range(20)} | {len(data)})
    ]
    told = [answer for answer in answers if answer is not None]
    assert answers == [None] * (len(answers) - len(told)) + told, "asked for more again"
    assert len(set(told)) <= 1, told
    header = answers[-1]
    if header is None:
        announced = int.from_bytes(data[14:16]) if data.startswith(SIGNATURE_2) else MAX_VERSION_1 - 16
        assert len(data) < 16 + announced
    elif isinstance(header, ProxyHeader):
        assert 0 < header.length <= len(data)
        assert read(data[: header.length]) == header
        check_addresses(header)


def read(data: bytes) -> ProxyHeader | str | None:
    """Return the header, the fault, or None while more is needed."""
    try:
        return read_proxy_header(data)
    except ConnectionFault as fault:
        return str(fault)


def check_addresses(header: ProxyHeader) -> None:
    """Hold addresses against what the rest of the server takes for one."""
    assert (header.client is None) == (header.server is None)
    for address in (header.client, header.server):
        if address is not None:
            host, port = address
            assert str(ipaddress.ip_address(host)) == host
            assert port is not None
            assert 0 <= port <= 0xFFFF


PROXY = Fuzzer("proxy", kept("proxy"), PROXY_TOKENS, check_proxy)
