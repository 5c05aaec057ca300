"""Where content ends and what it says: `Content`, without a connection."""

import time

import h11
import hypothesis
import pytest
from hypothesis import strategies

from alphorn.core.config import Config
from alphorn.core.errors import StreamFault
from alphorn.protocols.http1_content import ChunkedContent, FramedContent, MeasuredContent
from compliance.http1_corpus import chunked, post

BEHIND = b"GET /next HTTP/1.1\r\n"


CONFIG = Config()


def measured_content(length: int) -> FramedContent:
    return MeasuredContent(framer(post(b"Content-Length: %d" % length)), length)


def chunked_content() -> FramedContent:
    return ChunkedContent(framer(chunked(b"")), CONFIG)


def framer(head: bytes) -> h11.Connection:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    assert isinstance(connection.next_event(), h11.Request)
    return connection


def as_h11_reads(request: bytes) -> tuple[bytes, bytes]:
    connection, said = framer(request), b""
    while isinstance(event := connection.next_event(), h11.Data):
        said += event.data
    assert isinstance(event, h11.EndOfMessage)
    return said, connection.trailing_data[0]


def read(content: FramedContent, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Feed pieces; return what they say, and what is behind the content."""
    buffer, said = bytearray(), b""
    for piece in pieces:
        buffer += piece
        said += read_all(content, buffer)
    return said, bytes(buffer)


def read_all(content: FramedContent, buffer: bytearray) -> bytes:
    """Read as often as it takes something from the buffer."""
    said, before = b"", -1
    while not content.ended and len(buffer) != before:
        before = len(buffer)
        said += content.read(buffer)
    return said


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


sizes = strategies.lists(strategies.integers(0, 20), max_size=30)
extensions = strategies.sampled_from([b"", b";a", b";a=b", b' ; a = "b;c"', b";a;b;c=d"])
trailers = strategies.lists(strategies.sampled_from([b"A: 1\r\n", b"b:\r\n", b"C: \xff \r\n"]), max_size=3)


@hypothesis.given(data=strategies.binary(max_size=100), sizes=sizes)
def test_measured_content_is_what_it_measures_however_it_is_cut(data: bytes, sizes: list[int]) -> None:
    content = measured_content(len(data))
    assert read(content, cut(data + BEHIND, sizes)) == (data, BEHIND)
    assert content.ended
    assert content.remaining == 0


@hypothesis.given(
    chunks=strategies.lists(strategies.tuples(strategies.binary(min_size=1), extensions), max_size=5),
    trailers=trailers,
    sizes=sizes,
)
def test_chunked_content_is_the_sum_of_its_chunks_however_it_is_cut(
    chunks: list[tuple[bytes, bytes]], trailers: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), ext, chunk) for chunk, ext in chunks)
    data += b"0\r\n" + b"".join(trailers) + b"\r\n"
    content = chunked_content()
    said = b"".join(chunk for chunk, _ in chunks)
    assert read(content, cut(data + BEHIND, sizes)) == (said, BEHIND)
    assert content.ended
    if b" ;" not in data:  # which h11 does not bear, though RFC 9112, 7.1.1, asks for it
        assert as_h11_reads(chunked(data + BEHIND)) == (said, BEHIND)


@hypothesis.given(
    pieces=strategies.lists(
        strategies.one_of(
            strategies.sampled_from(
                [b"\r", b"\n", b"\r\n", b"0", b"5", b"a", b";", b" ", b"=", b'"', b":", b"hello"]
            ),
            strategies.binary(max_size=3),
        ),
        max_size=30,
    ),
    sizes=sizes,
)
def test_any_bytes_are_content_or_a_fault_and_it_is_the_same_however_they_are_cut(
    pieces: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(pieces)

    def verdict(pieces: list[bytes]) -> tuple[object, ...]:
        content = chunked_content()
        try:
            said, behind = read(content, pieces)
        except StreamFault as fault:
            return fault.code, str(fault)
        return (said, behind) if content.ended else (said,)

    assert verdict([data]) == verdict(cut(data, sizes))


@hypothesis.given(size=strategies.text("0123456789abcdefABCDEF+-_xX. \t", max_size=20).map(str.encode))
def test_a_chunk_size_is_hexadecimal_digits_and_nothing_else(size: bytes) -> None:
    content = chunked_content()
    legal = 1 <= len(size) <= 16 and all(digit in b"0123456789abcdefABCDEF" for digit in size)
    if legal and int(size, 16) < 2**63:
        content.read(bytearray(size + b"\r\n"))
        assert content.remaining == int(size, 16)
    else:
        with pytest.raises(StreamFault):
            content.read(bytearray(size + b"\r\n"))


def test_what_is_behind_the_content_is_not_even_looked_at() -> None:
    buffer = bytearray(b"hello" + b"\x00\n\r" * 10)
    assert measured_content(5).read(buffer) == b"hello"
    assert buffer == b"\x00\n\r" * 10


def test_many_small_chunks_cost_as_much_each_as_few() -> None:
    def seconds_for(count: int) -> float:
        content = chunked_content()
        buffer = bytearray(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
        begun = time.process_time()
        assert read_all(content, buffer) == b"x" * count
        return time.process_time() - begun

    few, many = (min(seconds_for(count) for _ in range(3)) for count in (2_000, 40_000))
    assert many < 20 * few * 3  # quadratic would be 400 times as much
