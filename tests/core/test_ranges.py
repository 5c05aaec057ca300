"""Ranges of a representation: what RFC 9110, 14 calls satisfiable, and what is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.ranges import MAX_RANGES, ByteRange, parse_ranges


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 9110, 14.1.2, for 10,000 bytes.
        (b"bytes=0-499", [(0, 500)]),
        (b"bytes=500-999", [(500, 500)]),
        (b"bytes=-500", [(9500, 500)]),
        (b"bytes=9500-", [(9500, 500)]),
        (b"bytes=0-0,-1", [(0, 1), (9999, 1)]),
        (b"bytes= 0-999, 4500-5499, -1000", [(0, 1000), (4500, 1000), (9000, 1000)]),
        (b"bytes=500-600,601-999", [(500, 101), (601, 399)]),
        # Clamped to what there is.
        (b"bytes=9999-20000", [(9999, 1)]),
        (b"bytes=-20000", [(0, 10000)]),
        (b"bytes=0-99999999999999999999999999", [(0, 10000)]),
        (b"bytes=00000000000000000000000000001-2", [(1, 2)]),
        # In the client's order, without what nobody can satisfy.
        (b"bytes=500-599,0-99", [(500, 100), (0, 100)]),
        (b"bytes=10000-,0-0", [(0, 1)]),
        # Lists may have empty elements, units any case.
        (b"BYTES=,,0-0 , \t,", [(0, 1)]),
    ],
)
def test_ranges_are_read(value: bytes, expected: list[tuple[int, int]]) -> None:
    assert parse_ranges(value, 10_000) == expected


@pytest.mark.parametrize("value", [b"bytes=10000-", b"bytes=-0", b"bytes=10000-10001,-0"])
def test_ranges_beyond_the_end_are_not_satisfiable(value: bytes) -> None:
    assert parse_ranges(value, 10_000) == []


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=5-4",
        b"bytes=a-b",
        b"bytes=1-2-3",
        b"bytes=+1-2",
        b"bytes=1 - 2",
        b"bytes=0x1-2",
        b"bytes=\xb2-3",
        b"bytes:0-1",
        b"lines=0-1",
        b"bytes=0-1;",
        b"bytes=0-99,50-150",
        b"bytes=-1,-1",
        b"bytes=" + b",".join(b"%d-%d" % (start, start) for start in range(0, 2 * MAX_RANGES + 2, 2)),
    ],
)
def test_what_is_malformed_or_wasteful_is_the_whole(value: bytes) -> None:
    assert parse_ranges(value, 10_000) is None


def test_nothing_has_no_parts() -> None:
    assert parse_ranges(b"bytes=0-", 0) is None
    assert parse_ranges(b"bytes=-1", 0) is None


NUMBERS = st.one_of(st.just(""), st.integers(0, 300).map(str), st.integers(0, 10**30).map(str))
ELEMENTS = st.one_of(
    st.tuples(NUMBERS, NUMBERS).map("-".join), st.text(alphabet="0123456789-, \tb=", max_size=8)
)


@given(st.lists(ELEMENTS, max_size=6).map(", ".join), st.integers(0, 200))
def test_no_field_asks_for_more_than_there_is(elements: str, size: int) -> None:
    ranges = parse_ranges(f"bytes={elements}".encode(), size)
    covered = [place for one in ranges or () for place in range(one.offset, one.offset + one.length)]
    assert len(covered) == len(set(covered))
    assert set(covered) <= set(range(size))
    assert all(one.length > 0 for one in ranges or ())


@given(st.binary(max_size=200), st.integers(0, 100))
def test_no_bytes_make_it_fail(value: bytes, size: int) -> None:
    parse_ranges(value, size)
    parse_ranges(b"bytes=" + value, size)


def test_a_range_says_where_it_is() -> None:
    assert ByteRange(500, 500).content_range(1234) == b"bytes 500-999/1234"
