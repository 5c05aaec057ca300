"""Request heads, without a connection: where they end, what they say, and that any bytes are one or a fault."""

import h11
import hypothesis
import pytest
from hypothesis import strategies

from alphorn.core.config import Config
from alphorn.core.errors import StreamFault
from alphorn.protocols.http1_head import measure_head, read_head
from alphorn.protocols.http1_request import Http1Request
from compliance.http1_corpus import get, line, target
from compliance.http1_corpus_run import CASES

MAX_BYTES = 4096
CONFIG = Config(max_fields=32)

tokens = strategies.sampled_from(
    [
        *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b",", b"%", b"#", b"\xff"),
        *(
            b"GET",
            b"get",
            b"POST",
            b"CONNECT",
            b"/",
            b"*",
            b"http://a/",
            b"HTTP/1.1",
            b"HTTP/1.0",
            b"HTTP/2.0",
        ),
        *(b"GET / HTTP/1.1\r\nHost: a\r\n", b"Host: a\r\n", b"Host: b\r\n", b"A: 1\r\n", b" folded\r\n"),
        *(b"Content-Length: 5\r\n", b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n", b"a" * 2000),
    ]
)
bytes_like_heads = strategies.lists(tokens, max_size=12).map(b"".join)
heads = strategies.one_of(
    bytes_like_heads,
    bytes_like_heads.map(lambda data: line(b"GET / HTTP/1.1")[:-2] + data + b"\r\n"),
    strategies.sampled_from([case.raw for case in CASES]),
)


def read(pieces: list[bytes]) -> Http1Request | tuple[int, str] | None:
    """Feed pieces until there is a head or a fault; None if they are too few."""
    buffer, seen = bytearray(), 0
    for piece in pieces:
        buffer += piece
        try:
            length = measure_head(buffer, seen, MAX_BYTES)
            if length:
                return read_head(bytes(buffer[:length]), CONFIG)
        except StreamFault as fault:
            return fault.code, str(fault)
        seen = len(buffer)
    return None


@hypothesis.given(data=heads, sizes=strategies.lists(strategies.integers(1, 30), max_size=30))
def test_any_bytes_are_a_head_or_a_fault_and_it_is_the_same_however_they_are_cut(
    data: bytes, sizes: list[int]
) -> None:
    pieces, rest = [], data
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    whole = read([data])
    in_pieces = read([*(piece for piece in pieces if piece), rest])
    if isinstance(whole, Http1Request) and isinstance(in_pieces, Http1Request):
        assert (whole.method, whole.path, whole.query, whole.fields, whole.http_version) == (
            in_pieces.method,
            in_pieces.path,
            in_pieces.query,
            in_pieces.fields,
            in_pieces.http_version,
        )
    else:
        assert whole == in_pieces


def text(characters: bytes) -> strategies.SearchStrategy[bytes]:
    return strategies.lists(strategies.sampled_from(characters), max_size=20).map(bytes)


VISIBLE = bytes(range(0x21, 0x7F))
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCabc"


@hypothesis.given(
    method=text(b"!#$%&'*+-.^_`|~0123456789ABC"),
    path=text(VISIBLE.replace(b"#", b"")),
    fields=strategies.lists(
        strategies.tuples(text(TOKEN), text(VISIBLE + b" \t\x80\xff")), max_size=CONFIG.max_fields - 1
    ),
)
def test_a_head_says_what_h11_reads_in_it(
    method: bytes, path: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    lines = [b"X%b /%b HTTP/1.1" % (method, path), b"Host: a"]
    raw = b"\r\n".join([*lines, *(b"X%b:%b" % field for field in fields), b"", b""])
    request = read([raw])
    assert isinstance(request, Http1Request)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert event.method.decode() == request.method
    assert event.target.partition(b"?")[::2] == (request.path, request.query)
    assert list(event.headers) == request.fields


@pytest.mark.parametrize("behind", [b"", b"content", target(b"/next")])
def test_a_head_ends_with_its_first_empty_line(behind: bytes) -> None:
    head = get(b"A: 1")
    assert measure_head(bytearray(head + behind), 0, MAX_BYTES) == len(head)


def test_a_head_may_be_as_large_as_allowed_and_not_a_byte_larger() -> None:
    head = get(b"A: " + b"a" * 100)
    assert measure_head(bytearray(head), 0, len(head)) == len(head)
    with pytest.raises(StreamFault) as caught:
        measure_head(bytearray(head), 0, len(head) - 1)
    assert caught.value.code == 431


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01", 400),
        (b"GET /", None),
        (b"GET /\r", None),
        (b"GET /\r\n", 400),
        (b"get / HTTP/1.1\r\n", 501),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a", None),
        (b"GET / HTTP/1.1\r\nHost: a\n", 400),
        (b"GET /" + b"a" * MAX_BYTES, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_BYTES, 431),
    ],
)
def test_what_will_never_be_a_head_is_refused_as_soon_as_that_is_known(
    data: bytes, status: int | None
) -> None:
    verdict = read([data])
    assert (verdict[0] if isinstance(verdict, tuple) and verdict else None) == status
