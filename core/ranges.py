"""Range requests: which parts of a representation a client asks for (RFC 9110, 14), and multipart/byteranges.

Invariants:
- What is answered is never more than the representation has: overlapping ranges are not answered
  apart, so that a small request cannot ask for much (CVE-2011-3192).
- Knows no file and no condition; `If-Range` is in conditions.py.
"""

import re
from itertools import pairwise
from typing import Final, NamedTuple

MAX_RANGES: Final = 64
"""Of more ranges than this the whole is cheaper to send (Apache: MaxRanges 200)."""

_UNIT: Final = re.compile(rb"bytes[ \t]*=", re.IGNORECASE)
_ONE: Final = re.compile(rb"[ \t]*(?:([0-9]*)-([0-9]*))?[ \t]*")
_MOST_DIGITS: Final = 18  # more than the size of any file has


class ByteRange(NamedTuple):
    """A part of a representation, in bytes."""

    offset: int
    length: int

    def content_range(self, size: int) -> bytes:
        """Return the value of `content-range` for a representation of `size` bytes (RFC 9110, 14.4)."""
        return b"bytes %d-%d/%d" % (self.offset, self.offset + self.length - 1, size)


def parse_ranges(value: bytes, size: int) -> list[ByteRange] | None:
    """Read a Range field for a representation of `size` bytes.

    Returns:
        The satisfiable ranges, in the client's order; empty if there is none, which is a 416; None if
        the field is to be ignored, which is the whole (RFC 9110, 14.2): it is not well-formed, has
        another unit, overlapping ranges or too many of them, or there is nothing to take a part of.
    """
    unit = _UNIT.match(value)
    if unit is None or size == 0:
        return None
    asked = value[unit.end() :].split(b",")
    if len(asked) > MAX_RANGES:
        return None
    found = []
    said = False
    for text in asked:
        match = _ONE.fullmatch(text)
        if match is None:
            return None
        first, last = match.groups()
        if first is None:  # an empty element of a list counts for nothing (RFC 9110, 5.6.1.2)
            continue
        said = True
        if not (first or last) or (first and last and _number(last) < _number(first)):
            return None
        one = _suffix(_number(last), size) if not first else _from(_number(first), last, size)
        if one.length > 0:
            found.append(one)
    if not said or _overlap(found):
        return None
    return found


def _number(digits: bytes) -> int:
    return int(digits.lstrip(b"0")[:_MOST_DIGITS] or b"0")


def _suffix(length: int, size: int) -> ByteRange:
    length = min(length, size)
    return ByteRange(size - length, length)


def _from(first: int, last: bytes, size: int) -> ByteRange:
    end = min(_number(last) + 1, size) if last else size
    return ByteRange(first, end - first)


def _overlap(ranges: list[ByteRange]) -> bool:
    return any(one.offset + one.length > other.offset for one, other in pairwise(sorted(ranges)))


def part_head(boundary: bytes, content_type: bytes, part: ByteRange, size: int) -> bytes:
    """Return what stands before a part of multipart/byteranges (RFC 9110, 14.6; RFC 2046, 5.1.1)."""
    return b"\r\n--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n" % (
        boundary,
        content_type,
        part.content_range(size),
    )


def parts_end(boundary: bytes) -> bytes:
    """Return what stands behind the last part."""
    return b"\r\n--%b--\r\n" % boundary
