"""What is a request (RFC 9113, 8.2 and 8.3), field section by field section. Pure."""

import pytest
from h2.errors import ErrorCodes
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.errors import StreamFault
from alphorn.protocols.http2_request import RequestReader, check_content, check_trailers
from support.exchange import Fields
from support.frames import GET
from support.http2_requests import EXTENDED, GOOD, MALFORMED, replacing


@pytest.mark.parametrize("section", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_request_is_malformed_with(section: Fields) -> None:
    with pytest.raises(StreamFault, match="malformed request") as raised:
        RequestReader().read(section)
    assert raised.value.code == ErrorCodes.PROTOCOL_ERROR


@pytest.mark.parametrize("section", GOOD.values(), ids=GOOD.keys())
def test_a_request_may_have(section: Fields) -> None:
    request = RequestReader().read(section)
    assert request.http_version == "2"
    assert request.fields[0][0] == b"host"


def test_a_head_is_taken_apart() -> None:
    request = RequestReader().read(
        [
            *replacing(b":path", b"/a%2Fb/../%00?x=1?y"),
            (b"accept", b"*/*"),
            (b"content-length", b"12"),
            (b"accept", b"text/plain"),
        ]
    )
    assert request.method == "GET"
    assert (request.path, request.query) == (b"/a%2Fb/../%00", b"x=1?y")
    assert request.length == 12
    assert request.protocol is None
    assert request.fields == [
        (b"host", b"localhost"),
        (b"accept", b"*/*"),
        (b"content-length", b"12"),
        (b"accept", b"text/plain"),
    ]


def test_host_comes_first_and_once_wherever_it_stood() -> None:
    head = RequestReader().read([*GET, (b"accept", b"*/*"), (b"host", b"Localhost")])
    assert head.fields == [(b"host", b"localhost"), (b"accept", b"*/*")]


def test_the_crumbs_of_a_cookie_are_joined_where_the_first_one_stood() -> None:
    crumbs = [(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]
    assert RequestReader().read([*GET, *crumbs]).fields[1:] == [
        (b"cookie", b"a=1; b=2; c=3"),
        (b"accept", b"*/*"),
    ]


def test_what_repeats_is_read_again_as_it_was_and_shares_nothing() -> None:
    reader = RequestReader()
    section = [*GET, (b"accept", b"*/*"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]
    first = reader.read(section)
    expected = list(first.fields)
    first.fields.clear()
    for _ in range(2):
        assert reader.read(list(section)).fields == expected
    assert reader.read([*GET, (b"accept", b"*/*")]).fields == expected[:2]


def test_a_field_that_was_good_once_is_not_taken_for_another() -> None:
    reader = RequestReader()
    reader.read([*GET, (b"x-a", b"b")])
    for bad in ((b"x-a", b"b\n"), (b"X-a", b"b"), (b"te", b"gzip"), (b":path", b"/")):
        with pytest.raises(StreamFault, match="malformed request"):
            reader.read([*GET, (b"x-a", b"b"), bad])


@pytest.mark.parametrize("authority", [b"", b"a b", b"\0"])
def test_the_first_authority_is_checked_like_any_other(authority: bytes) -> None:
    with pytest.raises(StreamFault, match="authority"):
        RequestReader().read(replacing(b":authority", authority))


def test_a_client_that_never_says_the_same_field_twice_fills_no_memory() -> None:
    reader = RequestReader()
    for number in range(1000):
        reader.read([*GET, (b"x-number", b"%d" % number), (b"x-long", b"%d" % number + b"a" * 2000)])
    assert len(reader._known) <= 64
    assert all(len(name) + len(value) <= 1024 for name, value in reader._known)


def test_the_protocol_of_an_extended_connect_is_told() -> None:
    assert RequestReader().read(EXTENDED).protocol == b"websocket"


@pytest.mark.parametrize(
    "section",
    [
        [(b":status", b"200")],
        [(b":path", b"/")],
        [(b"x-digest", b"a\nb")],
        [(b"X-Digest", b"a")],
        [(b"connection", b"close")],
        [(b"x-digest", b"a"), (b"", b"")],
    ],
    ids=repr,
)
def test_trailers_are_malformed_with(section: Fields) -> None:
    with pytest.raises(StreamFault, match="malformed request"):
        check_trailers(section)


def test_trailers_are_fields() -> None:
    check_trailers([(b"x-digest", b"abc"), (b"x-digest", b"")])


def test_a_tunnel_has_no_trailers() -> None:
    with pytest.raises(StreamFault, match="tunnel"):
        check_trailers([(b"x-digest", b"abc")], tunnel=True)


@pytest.mark.parametrize("received", [0, 9, 11])
def test_content_is_as_long_as_announced_or_malformed(received: int) -> None:
    check_content(None, received)
    check_content(received, received)
    with pytest.raises(StreamFault, match="instead of 10"):
        check_content(10, received)


names = st.sampled_from(
    [b":method", b":path", b":scheme", b":authority", b":protocol", b":status", b"host", b"te", b"cookie"]
) | st.binary(max_size=8)
values = st.sampled_from([b"GET", b"CONNECT", b"/", b"*", b"https", b"localhost"]) | st.binary(max_size=8)


@given(st.lists(st.lists(st.tuples(names, values), max_size=10), max_size=5))
def test_a_reader_that_has_seen_others_reads_a_request_likewise(sections: list[Fields]) -> None:
    def verdict(reader: RequestReader, section: Fields) -> object:
        try:
            return reader.read(section)
        except StreamFault as fault:
            return str(fault)

    experienced = RequestReader()
    for section in [*sections, *sections]:
        assert verdict(experienced, section) == verdict(RequestReader(), section)


@given(st.lists(st.tuples(names, values), max_size=10))
def test_any_section_is_a_request_or_malformed(section: Fields) -> None:
    try:
        head = RequestReader().read(section)
    except StreamFault:
        return
    assert all(name and not name.startswith(b":") for name, _ in head.fields)
    assert [name for name, _ in head.fields].count(b"host") == 1
    written = b"".join([head.method.encode(), head.path, head.query, *(n + v for n, v in head.fields)])
    assert not set(written) & set(b"\r\n\0")
