"""The ClientHello parser against real clients, and against everything else."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.tls.client_hello import (
    HEADER_BYTES,
    MAX_BYTES,
    MAX_RECORDS,
    NOTHING,
    ClientHello,
    bytes_wanted,
    read_client_hello,
)
from support.client_hello import alpn, hello_with, in_records, server_name

protocol_names = st.text(st.characters(codec="ascii"), min_size=1, max_size=255)
protocol_lists = st.lists(protocol_names, min_size=1, max_size=20)


def client_hello(*offers: str, host: str | None = None, **settings: ssl.TLSVersion) -> bytes:
    """What a client that offers these protocols sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    if offers:
        context.set_alpn_protocols(offers)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = client_hello("h2", "http/1.1", host="www.example.com")
ASKED = ClientHello(b"www.example.com", (b"h2", b"http/1.1"))
MESSAGE = HELLO[HEADER_BYTES:]


@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    read_client_hello(data)
    assert HEADER_BYTES <= bytes_wanted(data) <= MAX_BYTES


@given(st.binary(max_size=300))
def test_no_extensions_make_it_raise(data: bytes) -> None:
    read_client_hello(hello_with(data))


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_no_flipped_byte_makes_it_raise(position: int, value: int) -> None:
    read_client_hello(HELLO[:position] + bytes([value]) + HELLO[position + 1 :])


@given(protocol_lists)
def test_it_reads_what_a_real_client_offers(names: list[str]) -> None:
    assert read_client_hello(client_hello(*names)).protocols == tuple(name.encode() for name in names)


@pytest.mark.parametrize("name", ["localhost", "www.example.com", "b\u00fccher.example", "a" * 63 + ".test"])
def test_it_reads_whom_a_real_client_wants_to_reach(name: str) -> None:
    assert read_client_hello(client_hello(host=name)) == ClientHello(name.encode("idna"), None)


@given(st.binary(min_size=1, max_size=300))
def test_a_server_name_is_given_as_it_came(name: bytes) -> None:
    assert read_client_hello(hello_with(server_name(name))) == ClientHello(name, None)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_it_reads_every_version(version: ssl.TLSVersion) -> None:
    hello = client_hello("h2", minimum_version=version, maximum_version=version)
    assert read_client_hello(hello).protocols == (b"h2",)
    assert bytes_wanted(hello) == len(hello)


def test_a_client_without_alpn_offers_nothing() -> None:
    assert read_client_hello(client_hello()) == NOTHING


@given(st.integers(0, len(HELLO) - 1))
def test_a_part_says_nothing_but_how_much_is_wanted(size: int) -> None:
    part = HELLO[:size]
    assert read_client_hello(part) == NOTHING
    assert bytes_wanted(part) == (HEADER_BYTES if size < HEADER_BYTES else len(HELLO))


@given(st.binary(max_size=50))
def test_what_follows_the_record_does_not_matter(more: bytes) -> None:
    assert read_client_hello(HELLO + more) == ASKED
    assert bytes_wanted(HELLO + more) == len(HELLO)


def test_a_length_that_no_record_may_have_is_not_waited_for() -> None:
    assert bytes_wanted(b"\x16\x03\x01\x40\x00") == MAX_BYTES
    assert bytes_wanted(b"\x16\x03\x01\x40\x01") == HEADER_BYTES
    assert bytes_wanted(b"\x16\x03\x01\xff\xff" + bytes(70000)) == HEADER_BYTES


@given(st.lists(st.integers(1, len(MESSAGE) - 1), max_size=MAX_RECORDS - 1, unique=True).map(sorted))
def test_a_hello_in_several_records_is_waited_for_and_read(cuts: list[int]) -> None:
    records = in_records(MESSAGE, *cuts)
    assert read_client_hello(records) == ASKED
    seen = 0
    while (wanted := bytes_wanted(records[:seen])) > seen:
        assert read_client_hello(records[:seen]) == NOTHING
        seen = wanted
    assert seen == len(records)


def test_a_hello_in_more_records_than_anybody_needs_is_left_to_openssl() -> None:
    records = in_records(MESSAGE, *range(1, MAX_RECORDS + 1))
    assert read_client_hello(records) == NOTHING
    assert bytes_wanted(records) <= len(records)


def test_an_empty_record_is_not_waited_behind() -> None:
    records = in_records(MESSAGE, 10, 10)
    assert read_client_hello(records) == NOTHING
    assert bytes_wanted(records[:25]) <= 25


def test_a_hello_without_extensions_offers_nothing() -> None:
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    message = b"\x01" + len(body).to_bytes(3) + body
    assert read_client_hello(in_records(message)) == NOTHING


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (hello_with(alpn(b"h2") + alpn(b"h2")), "the extension twice"),
        (hello_with(alpn()), "an empty list"),
        (hello_with(alpn(b"h2", b"")), "an empty name"),
        (hello_with(server_name(b"a") + server_name(b"b")), "the other extension twice"),
        (hello_with(server_name(b"a", b"b")), "two server names"),
        (hello_with(server_name(b"")), "an empty server name"),
        (hello_with(server_name(b"a", kind=1)), "a server name that is no host"),
        (hello_with(server_name()), "no server name"),
        (hello_with(b"\0\x10\0\x05\0\x03\x02h2!"), "bytes after the list"),
        (hello_with(b"\0\x10\0\x05\0\x03\x09h2"), "a name longer than the list"),
        (hello_with(b"\0\x10\0\xff\0\x03\x02h2"), "an extension longer than the hello"),
        (hello_with(alpn(b"h2"), handshake_type=2), "a ServerHello"),
        (b"\x17" + HELLO[1:], "application data"),
        (hello_with(alpn(b"h2"))[:3] + b"\0\0", "an empty record"),
    ],
)
def test_what_it_does_not_understand_is_left_to_openssl(data: bytes, why: str) -> None:
    assert read_client_hello(data) == NOTHING, why


def test_a_hello_by_hand_is_read() -> None:
    hello = hello_with(b"\xff\x01\0\x01\0" + alpn(b"h2", b"x") + server_name(b"a.test"))
    assert read_client_hello(hello) == ClientHello(b"a.test", (b"h2", b"x"))
