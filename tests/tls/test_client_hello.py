"""The ClientHello parser against real clients, and against everything else."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.tls.client_hello import HEADER_BYTES, MAX_RECORD_BYTES, bytes_wanted, offered_protocols

protocol_names = st.text(st.characters(codec="ascii"), min_size=1, max_size=255)
protocol_lists = st.lists(protocol_names, min_size=1, max_size=20)


def client_hello(*offers: str, **settings: ssl.TLSVersion) -> bytes:
    """What a client that offers these protocols sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    if offers:
        context.set_alpn_protocols(offers)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def hello_with(extensions: bytes, *, handshake_type: int = 1) -> bytes:
    """A ClientHello by hand."""
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    body += len(extensions).to_bytes(2) + extensions
    message = bytes([handshake_type]) + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


def alpn(*names: bytes) -> bytes:
    names_bytes = b"".join(bytes([len(name)]) + name for name in names)
    content = len(names_bytes).to_bytes(2) + names_bytes
    return b"\0\x10" + len(content).to_bytes(2) + content


HELLO = client_hello("h2", "http/1.1")


@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    offered_protocols(data)
    assert HEADER_BYTES <= bytes_wanted(data) <= MAX_RECORD_BYTES


@given(st.binary(max_size=300))
def test_no_extensions_make_it_raise(data: bytes) -> None:
    offered_protocols(hello_with(data))


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_no_flipped_byte_makes_it_raise(position: int, value: int) -> None:
    offered_protocols(HELLO[:position] + bytes([value]) + HELLO[position + 1 :])


@given(protocol_lists)
def test_it_reads_what_a_real_client_offers(names: list[str]) -> None:
    assert offered_protocols(client_hello(*names)) == tuple(name.encode() for name in names)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_it_reads_every_version(version: ssl.TLSVersion) -> None:
    hello = client_hello("h2", minimum_version=version, maximum_version=version)
    assert offered_protocols(hello) == (b"h2",)
    assert bytes_wanted(hello) == len(hello)


def test_a_client_without_alpn_offers_nothing() -> None:
    assert offered_protocols(client_hello()) is None


@given(st.integers(0, len(HELLO) - 1))
def test_a_part_says_nothing_but_how_much_is_wanted(size: int) -> None:
    part = HELLO[:size]
    assert offered_protocols(part) is None
    assert bytes_wanted(part) == (HEADER_BYTES if size < HEADER_BYTES else len(HELLO))


@given(st.binary(max_size=50))
def test_what_follows_the_record_does_not_matter(more: bytes) -> None:
    assert offered_protocols(HELLO + more) == (b"h2", b"http/1.1")
    assert bytes_wanted(HELLO + more) == len(HELLO)


def test_a_length_that_no_record_may_have_is_not_waited_for() -> None:
    assert bytes_wanted(b"\x16\x03\x01\x40\x00") == MAX_RECORD_BYTES
    assert bytes_wanted(b"\x16\x03\x01\x40\x01") == HEADER_BYTES
    assert bytes_wanted(b"\x16\x03\x01\xff\xff" + bytes(70000)) == HEADER_BYTES


def test_a_hello_in_two_records_is_left_to_openssl() -> None:
    message = HELLO[5:]
    records = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in (message[:100], message[100:])
    )
    assert offered_protocols(records) is None
    assert bytes_wanted(records) == 105


def test_a_hello_without_extensions_offers_nothing() -> None:
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    message = b"\x01" + len(body).to_bytes(3) + body
    assert offered_protocols(b"\x16\x03\x01" + len(message).to_bytes(2) + message) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (hello_with(alpn(b"h2") + alpn(b"h2")), "the extension twice"),
        (hello_with(alpn()), "an empty list"),
        (hello_with(alpn(b"h2", b"")), "an empty name"),
        (hello_with(b"\0\x10\0\x05\0\x03\x02h2!"), "bytes after the list"),
        (hello_with(b"\0\x10\0\x05\0\x03\x09h2"), "a name longer than the list"),
        (hello_with(b"\0\x10\0\xff\0\x03\x02h2"), "an extension longer than the hello"),
        (hello_with(alpn(b"h2"), handshake_type=2), "a ServerHello"),
        (b"\x17" + HELLO[1:], "application data"),
        (hello_with(alpn(b"h2"))[:3] + b"\0\0", "an empty record"),
    ],
)
def test_what_it_does_not_understand_is_left_to_openssl(data: bytes, why: str) -> None:
    assert offered_protocols(data) is None, why


def test_a_hello_by_hand_is_read() -> None:
    assert offered_protocols(hello_with(b"\xff\x01\0\x01\0" + alpn(b"h2", b"x"))) == (b"h2", b"x")
