"""The plain lane is held against the reference: what it reads and says, h11 reads and says likewise."""

from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.config import Config
from alphorn.core.errors import StreamFault
from alphorn.core.exchange import Head
from alphorn.protocols.http1_head import read_head
from alphorn.protocols.http1_plain import NO_CONTENT, PlainContent, PlainHeads, PlainResponse
from alphorn.protocols.http1_request import Http1Request, Response

MAX_FIELDS = 12
CONFIG = Config(max_fields=MAX_FIELDS)

# Mostly plain, sometimes odd, so that the border between the lanes is what is looked at.
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"get", b"BREW", b""])
TARGETS = st.one_of(
    st.sampled_from(
        [b"/", b"/a?b=c", b"/%00%2F..", b"*", b"http://h/p", b"", b"/a#b", b"//x", b"/?", b"/\x80"]
    ),
    st.from_regex(rb"/[!-~]{0,20}", fullmatch=True),
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1"])
FRAMING_LINES = st.sampled_from(
    [
        b"Host: example.com",
        b"host:example.com:8080",
        b"Host: a b",
        b"Host:",
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"content-length: +5",
        b"Content-Length: 5, 5",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: identity",
        b"Connection: close",
        b"Connection: keep-alive",
        b"connection: Close",
        b"Connection: close, te",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
    ]
)
OTHER_LINES = st.one_of(
    st.from_regex(rb"[A-Za-z-]{1,8}:[ \t]?[ -~]{0,12}[ \t]?", fullmatch=True),
    st.sampled_from(
        [b"a : b", b" folded: x", b"a:\x00", b"a:b\rc", b"a:b\nc", b":x", b"a", b"\xff: x", b"x: \xff"]
    ),
)
LINES = st.lists(st.one_of(FRAMING_LINES, OTHER_LINES, OTHER_LINES), max_size=MAX_FIELDS + 1)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Make a head that is plain, or nearly."""
    line = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    usual = draw(st.sampled_from([[b"Host: example.com"], []]))
    return b"\r\n".join([line, *usual, *draw(LINES), b"", b""])


def judged_by_h11(raw: bytes) -> Http1Request | int:
    try:
        return read_head(raw, CONFIG)
    except StreamFault as fault:
        return fault.code


def head_of(request: Http1Request) -> tuple[object, ...]:
    return request.method, request.path, request.query, request.fields, request.http_version


def assert_read_alike(plain: Http1Request, raw: bytes) -> None:
    reference = judged_by_h11(raw)
    assert isinstance(reference, Http1Request), f"refused with {reference}"
    assert head_of(plain) == head_of(reference)
    assert plain.keep_alive == reference.keep_alive
    assert not plain.upgrade
    assert not reference.upgrade
    assert plain.content.remaining == reference.content.remaining
    assert not reference.response.wants_continue


@given(st.lists(heads(), min_size=1, max_size=6))
def test_what_the_plain_lane_reads_the_reference_reads_alike(raws: list[bytes]) -> None:
    heads = PlainHeads()
    for raw in raws + raws:  # the second time its lines are known
        plain = heads.read(raw, MAX_FIELDS)
        if plain is not None:
            assert_read_alike(plain, raw)


@given(
    st.lists(OTHER_LINES, max_size=3), st.lists(st.tuples(st.integers(0, 5), LINES), min_size=2, max_size=6)
)
def test_heads_that_begin_alike_are_read_as_if_each_were_the_first(
    usual: list[bytes], ends: list[tuple[int, list[bytes]]]
) -> None:
    heads = PlainHeads()
    beginning = [b"Host: a", *usual, b"Connection: keep-alive"]
    for alike, lines in [*ends, *ends]:
        raw = b"\r\n".join([b"GET /x HTTP/1.1", *beginning[:alike], *lines, b"", b""])
        plain, alone = heads.read(raw, MAX_FIELDS), PlainHeads().read(raw, MAX_FIELDS)
        assert (plain and head_of(plain)) == (alone and head_of(alone))
        if plain is not None:
            assert_read_alike(plain, raw)


def test_what_heads_began_with_is_no_excuse_for_another_host() -> None:
    heads = PlainHeads()
    head = b"GET /%d HTTP/1.1\r\nHost: a\r\nCookie: b\r\nx-id: %d\r\n%b\r\n"
    for number in range(4):  # it begins alike from the third on
        request = heads.read(head % (number, number, b""), 3)
        assert request is not None
        assert request.fields == [(b"host", b"a"), (b"cookie", b"b"), (b"x-id", b"%d" % number)]
        request.fields.clear()
    assert heads._beginning == b"Host: a\r\nCookie: b\r\n"
    assert heads.read(head % (5, 5, b"Host: a\r\n"), 4) is None
    assert heads.read(head % (6, 6, b"Host: c\r\n"), 4) is None
    assert heads.read(head % (7, 7, b"x: y\r\n"), 3) is None
    elsewhere = heads.read(b"GET / HTTP/1.1\r\nHost: d\r\nCookie: b\r\n\r\n", 3)
    assert elsewhere is not None
    assert elsewhere.fields == [(b"host", b"d"), (b"cookie", b"b")]


@given(
    st.lists(st.binary(max_size=80).map(lambda data: b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n"))
)
def test_no_bytes_in_a_head_are_read_in_two_ways(raws: list[bytes]) -> None:
    heads = PlainHeads()
    for raw in raws:
        plain = heads.read(raw, MAX_FIELDS)
        if plain is not None:
            assert_read_alike(plain, raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\nCookie: a=b\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nAccept: */*\r\nHost: [::1]:80\r\nConnection: keep-alive\r\n\r\n",
    ],
)
def test_ordinary_requests_are_plain(raw: bytes) -> None:
    plain = PlainHeads().read(raw, MAX_FIELDS)
    assert plain is not None
    assert_read_alike(plain, raw)


@pytest.mark.parametrize(
    "line", [b"Host: b", b"Content-Length: 1\r\nContent-Length: 1", b"Expect: 100-continue", b"Upgrade: x"]
)
def test_what_a_connection_knows_does_not_let_oddities_through(line: bytes) -> None:
    heads, plain = PlainHeads(), b"GET / HTTP/1.1\r\nHost: a\r\n"
    assert heads.read(plain + b"\r\n", MAX_FIELDS) is not None
    assert heads.read(plain + line + b"\r\n\r\n", MAX_FIELDS) is None
    assert heads.read(plain + b"\r\n", MAX_FIELDS) is not None


def test_a_head_that_repeats_is_read_as_it_was_and_shares_nothing() -> None:
    heads, raw = PlainHeads(), b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n"
    for _ in range(3):
        request = heads.read(raw, 100)
        assert request is not None
        assert head_of(request) == ("GET", b"/a", b"b", [(b"host", b"a"), (b"x-a", b"b")], "1.1")
        request.fields.clear()
    other = heads.read(raw.replace(b"/a", b"/c"), 100)
    assert other is not None
    assert other.path == b"/c"


def test_a_client_that_never_repeats_a_line_fills_no_memory() -> None:
    heads = PlainHeads()
    for number in range(1000):
        raw = b"GET / HTTP/1.1\r\nHost: a\r\nx-request-id: %d\r\nx-long: %b\r\n\r\n" % (number, b"a" * 2000)
        assert heads.read(raw, MAX_FIELDS) is not None
    assert len(heads._known) <= 64
    assert all(len(line) <= 1024 for line in heads._known)


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9), st.integers(1, 30))
def test_content_is_taken_as_the_reference_takes_it(pieces: list[bytes], length: int) -> None:
    reference = read_head(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length, CONFIG
    ).content
    plain = PlainContent(length)
    buffer, other_buffer = bytearray(), bytearray()
    for piece in pieces:
        buffer += piece
        other_buffer += piece
        assert plain.read(buffer) == reference.read(other_buffer)
        assert (plain.ended, plain.remaining) == (reference.ended, reference.remaining)
        assert buffer == other_buffer
        if plain.ended:
            break


def test_no_content_has_ended_before_it_begins() -> None:
    assert (NO_CONTENT.ended, NO_CONTENT.remaining, NO_CONTENT.read(bytearray(b"next"))) == (True, 0, b"")


# ------------------------------------------------------------------ responses

NAMES = st.sampled_from([b"content-type", b"etag", b"set-cookie", b"date", b"server", b"x-a"])
VALUES = st.from_regex(rb"[!-~]([ -~]{0,10}[!-~])?", fullmatch=True)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


@st.composite
def answers(draw: st.DrawFn) -> list[tuple[str, tuple[Any, ...]]]:
    """Make the calls of one response, as the core makes them."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST"]))
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 500, 599, 799]))
    empty = method == "HEAD" or status in (204, 304)
    parts = [b""] if empty else draw(st.lists(st.binary(max_size=20), min_size=1, max_size=4))
    trailers = draw(st.booleans()) and not empty
    fields = draw(FIELDS)
    if status != 204 and draw(st.booleans()):
        place = draw(st.sampled_from([0, len(fields)]))
        fields.insert(place, (b"content-length", b"%d" % sum(map(len, parts))))
    calls: list[tuple[str, tuple[Any, ...]]] = [("request", (method,))]
    calls += [("informational", (103, draw(FIELDS))) for _ in range(draw(st.integers(0, 1)))]
    close = draw(st.booleans())
    for number, part in enumerate(parts):
        measured = any(name == b"content-length" for name, _ in fields)
        head = Head(status, fields, measured) if number == 0 else None
        end = number == len(parts) - 1 and not trailers
        calls.append(("encode", (head, part, end, close)))
    if trailers:
        calls.append(("trailers", (draw(FIELDS),)))
    return calls


def in_lower_case(line: bytes) -> bytes:
    """Return a field line with its name in lower case; h11 writes some in capitals."""
    name, colon, value = line.partition(b":")
    return name.lower() + colon + value


def said(
    response: Response, calls: list[tuple[str, tuple[Any, ...]]]
) -> list[tuple[bytes, list[bytes], bytes]]:
    """Return what a response says: start line, field lines in a comparable order, and what follows."""
    pieces = []
    for kind, arguments in calls:
        if kind == "informational":
            pieces.append(response.encode_informational(*arguments))
        elif kind == "trailers":
            pieces.append(response.encode_trailers(*arguments))
        else:
            head, body, end, close = arguments
            pieces.append(response.encode(head, body, end=end, close=close))
    found = []
    for piece in pieces:
        if piece.startswith(b"HTTP/"):
            section, _, rest = piece.partition(b"\r\n\r\n")
            first, *lines = section.split(b"\r\n")
            found.append((first, sorted(map(in_lower_case, lines)), rest))
        else:
            found.append((b"", [], piece))
    return found


@given(answers())
def test_a_response_says_what_h11_would_say(calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    (_, (method,)), *calls = calls
    reference = read_head(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method.encode(), CONFIG)
    reference.content.read(bytearray())
    plain = PlainResponse(method)
    assert said(plain, calls) == said(reference.response, calls)
    assert plain.begun
    assert reference.response.begun


@pytest.mark.parametrize("fields", [[], [(b"content-length", b"7")]])
def test_room_for_a_file_is_made_as_h11_makes_it(fields: list[tuple[bytes, bytes]]) -> None:
    reference = read_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", CONFIG)
    reference.content.read(bytearray())
    plain = PlainResponse("GET")
    for response in (plain, reference.response):
        response.encode(Head(HTTPStatus.OK, fields, measured=bool(fields)), b"", end=False, close=False)
    assert plain.encode_around(7) == reference.response.encode_around(7)
