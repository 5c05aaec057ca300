"""HPACK (RFC 7541) field by field: a decoder and an encoder that cost less than hpack's, and agree with them.

hpack stays the judge: the static table, the Huffman code and the errors are its own, and
tests/protocols/test_hpack_codec.py holds the two against each other, block after block. The decoder
accepts and refuses exactly what hpack's does. What differs on purpose:

| hpack | here | why |
|---|---|---|
| fields are marked as never-indexed | they are not | it binds who passes a field on (6.2.3); a server does not |
| every new field goes into the table | once it has come before | 6.2: our choice; most values never come again |
| strings are Huffman-coded | they are not | 5.2: our choice; it would cost more than the rest of a response |
| a secret may be an index | it is a literal, never indexed | 7.1.3: its length would tell whether a guess is right |
| a size is forgotten when it is set twice | it is announced | 4.2: the other side waits for it |
| every change of size is announced | the smallest and the last one | 4.2: no more is needed |
| the table is as large as offered | at most 4,096 bytes | memory is ours; the default of RFC 9113, 6.5.2 is enough |

Invariants:
- What a connection remembers is bounded: tables by their size, marks by a constant here.
- Nothing of one connection is seen by another: shared are only names of fields that we send.
- After an error a decoder is good for nothing; the connection must end (RFC 9113, 4.3).
"""

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, TypeAlias

from hpack import (
    HPACKDecodingError,
    InvalidTableSizeError,
    OversizedHeaderListError,
)
from hpack.table import HeaderTable

from ..core.asgi import Field, Fields
from .hpack_huffman import decode_huffman

# A field and its size as 4.1 counts it, in bytes.
_Entry: TypeAlias = tuple[Field, int]

_ENTRY_OVERHEAD: Final = 32  # 4.1: what an entry counts beyond its bytes
_DEFAULT_TABLE: Final = 4096  # RFC 9113, 6.5.2
# 5.1: how many bytes may follow the prefix of an integer; with five, every one of 32 bits can be said.
_MAX_CONTINUATION: Final = 5

_STATIC: Final = HeaderTable.STATIC_TABLE
_FIRST_DYNAMIC: Final = len(_STATIC) + 1
# The index address space of 2.3.3: nothing at 0, then the static table, then the dynamic one.
_STATIC_ENTRIES: Final[list[_Entry]] = [
    ((b"", b""), 0),
    *(((name, value), _ENTRY_OVERHEAD + len(name) + len(value)) for name, value in _STATIC),
]


def _read_integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """Read what follows a full prefix (5.1); return the value and where it ends.

    Raises:
        HPACKDecodingError: It is too long.
        IndexError: The block ends within it.
    """
    byte = block[position]
    if byte < 0x80:  # as in most cases
        return prefix + byte, position + 1
    value = prefix
    for shift in range(0, 7 * _MAX_CONTINUATION, 7):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise HPACKDecodingError("an integer is too long")


def _read_string(block: bytes, position: int) -> tuple[bytes, int]:
    """Read a string literal (5.2); return it and where it ends.

    Raises:
        HPACKDecodingError: It is invalid, or the block ends within it.
        IndexError: The block ends before it or within its length.
    """
    length = block[position]
    position += 1
    coded = length >= 0x80
    if coded:
        length -= 0x80
    if length == 0x7F:
        length, position = _read_integer(block, position, length)
    end = position + length
    if end > len(block):
        raise HPACKDecodingError("the block ends within a string")
    string = block[position:end]
    return decode_huffman(string) if coded else string, end


def _integer(value: int, prefix: int, pattern: int) -> bytes:
    """Encode an integer (5.1) behind the bits of a representation.

    Args:
        value: The integer.
        prefix: The largest value of the prefix, all its bits.
        pattern: The bits before the prefix.
    """
    if value < prefix:
        return bytes((pattern | value,))
    encoded = bytearray((pattern | prefix,))
    value -= prefix
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _length(length: int) -> bytes:
    """Encode the length of a string that is not Huffman-coded (5.2)."""
    return _integer(length, 0x7F, 0x00)


# 7.1.3: values that could be guessed one by one, were they ever in a table.
_SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))
_MAX_SECRET: Final = 1024  # bytes of one that is remembered until the next


class HpackDecoder:
    """The client's blocks to lists of fields; one per connection, every block in turn.

    Attributes:
        changed: Whether the last block changed the table, so that the same bytes might say something else now.
        list_bytes: The size of the last list, in bytes as 4.1 counts them.
        measured: Whether any block has said a content-length, other than by the index of the static table's.
        max_header_list_size: How large a list may become, in bytes as 4.1 counts them.
        max_allowed_table_size: How large the client may make its table, in bytes: what our SETTINGS said.
    """

    __slots__ = (
        "_secrets",
        "_table",
        "_table_bytes",
        "changed",
        "header_table_size",
        "list_bytes",
        "max_allowed_table_size",
        "max_header_list_size",
        "measured",
    )

    def __init__(self, max_header_list_size: int) -> None:
        # Fixed.
        self.max_header_list_size = max_header_list_size
        self.max_allowed_table_size = _DEFAULT_TABLE
        # This connection.
        self.changed = False
        self.list_bytes = 0
        self.measured = False
        self.header_table_size = _DEFAULT_TABLE
        self._table = _STATIC_ENTRIES.copy()  # the dynamic part begins with the newest
        self._table_bytes = 0
        # Of each name that is a secret's, the last value: as it was encoded, and what it was.
        self._secrets: dict[bytes, tuple[bytes, bytes]] = {}

    def decode(self, data: bytes, raw: bool = True) -> Fields:  # noqa: C901, PLR0912, PLR0915 - one loop, for a call per field would be its cost
        """Decode one block.

        Args:
            data: The whole block.
            raw: As h2 says it; there are no fields but raw ones.

        Raises:
            OversizedHeaderListError: The list is larger than allowed.
            HPACKDecodingError: The block is invalid, or makes the table larger than allowed.
        """
        table, most, self.changed = self._table, self.max_header_list_size, False
        fields: Fields = []
        list_bytes, position, end = 0, 0, len(data)
        try:
            while position < end:
                first = data[position]
                position += 1
                if 0x80 < first < 0xFF:  # 6.1: indexed, as most are
                    field, size = table[first - 0x80]
                elif first >= 0x80:
                    if first == 0x80:
                        raise HPACKDecodingError("index 0")
                    index, position = _read_integer(data, position, 0x7F)
                    field, size = table[index]
                elif 0x20 <= first < 0x40:  # 6.3: table size update
                    if fields:
                        raise HPACKDecodingError("a table size update behind a field")
                    size = first - 0x20
                    if size == 0x1F:
                        size, position = _read_integer(data, position, size)
                    self._resize(size)
                    continue
                else:  # 6.2: literal, with incremental indexing or without
                    prefix = 0x3F if first >= 0x40 else 0x0F
                    index = first & prefix
                    if index == prefix:
                        index, position = _read_integer(data, position, index)
                    if index:
                        name = table[index][0][0]
                    else:
                        name, position = _read_string(data, position)
                    if name == b"content-length":
                        self.measured = True
                    if first < 0x40 and name in _SECRET:
                        value, position = self._read_secret(name, data, position)
                    else:
                        value, position = _read_string(data, position)
                    field = (name, value)
                    size = _ENTRY_OVERHEAD + len(name) + len(value)
                    if first >= 0x40:
                        self.changed = True
                        table.insert(_FIRST_DYNAMIC, (field, size))
                        self._table_bytes += size
                        if self._table_bytes > self.header_table_size:
                            self._evict()
                fields.append(field)
                list_bytes += size
                if list_bytes > most:
                    raise OversizedHeaderListError("the header list is larger than allowed")
        except IndexError as error:
            raise HPACKDecodingError("a field is cut off, or in no table") from error
        if self.header_table_size > self.max_allowed_table_size:
            raise InvalidTableSizeError("the table was not made as small as it has to be")
        self.list_bytes = list_bytes
        return fields

    def _read_secret(self, name: bytes, block: bytes, position: int) -> tuple[bytes, int]:
        """Read a value that is in no table (7.1.3) and yet, most often, the same as last time."""
        known = self._secrets.get(name)
        if known is not None and block.startswith(known[0], position):  # its length is a part of it
            return known[1], position + len(known[0])
        value, end = _read_string(block, position)
        if len(value) <= _MAX_SECRET:
            self._secrets[name] = block[position:end], value
        return value, end

    def _resize(self, size: int) -> None:
        if size > self.max_allowed_table_size:
            raise InvalidTableSizeError("the table is made larger than allowed")
        self.changed = True
        self.header_table_size = size
        self._evict()

    def _evict(self) -> None:
        """Drop the oldest entries until the others fit (4.3, 4.4); the newest too, if it alone is too large."""
        while self._table_bytes > self.header_table_size:
            self._table_bytes -= self._table.pop()[1]


# How many fields an encoder remembers to have sent once, as their hashes.
_MAX_MARKS: Final = 128
# How much of the table one entry may take: a larger one would drive out the others (nghttp2 does so too).
_MAX_SHARE: Final = 3 / 4

# The patterns of the literal representations (6.2).
_INCREMENTAL: Final = 0x40
_WITHOUT_INDEXING: Final = 0x00
_NEVER_INDEXED: Final = 0x10

# Values that hardly ever come again (nghttp2 keeps these out of the table, too).
_UNIQUE: Final = frozenset((b"age", b"etag", b"if-modified-since", b"if-none-match", b"location"))

_STATIC_NAMES: Final = {name: index for index, (name, _) in reversed([*enumerate(_STATIC, 1)])}
_STATIC_FIELDS: Final = {field: _integer(index, 0x7F, 0x80) for index, field in enumerate(_STATIC, 1)}
_KNOWN_LENGTHS: Final = 1024
_LENGTHS: Final = [_length(length) for length in range(_KNOWN_LENGTHS)]
# The dynamic entries by their age, the newest first: as many as the smallest entries would fill a table.
_DYNAMIC_FIELDS: Final = [
    _integer(_FIRST_DYNAMIC + age, 0x7F, 0x80) for age in range(_DEFAULT_TABLE // _ENTRY_OVERHEAD)
]


def _name(name: bytes, pattern: int) -> bytes:
    """Encode a literal up to its value (6.2)."""
    index = _STATIC_NAMES.get(name)
    if index is not None:
        return _integer(index, 0x3F if pattern == _INCREMENTAL else 0x0F, pattern)
    return bytes((pattern,)) + _length(len(name)) + name


_common_name: Final = lru_cache(maxsize=512)(_name)
_NEVER_IN_TABLE: Final = {
    **{name: _name(name, _NEVER_INDEXED) for name in _SECRET},
    **{name: _name(name, _WITHOUT_INDEXING) for name in _UNIQUE},
}


class HpackEncoder:
    """Our lists of fields to blocks; one per connection, every block in turn.

    Attributes:
        changes: How often something changed that the same fields might be encoded differently for.
        table_size_changes: The sizes of the table that the next block begins with (4.2).
    """

    __slots__ = (
        "_added",
        "_marks",
        "_numbers",
        "_size",
        "_table",
        "_table_bytes",
        "changes",
        "table_size_changes",
    )

    def __init__(self) -> None:
        self.changes = 0
        self.table_size_changes: list[int] = []
        self._size = _DEFAULT_TABLE
        # The table, the oldest first, and each field's number in the order in which they were added.
        self._table: deque[_Entry] = deque()
        self._table_bytes = 0
        self._added = 0
        self._numbers: dict[Field, int] = {}
        self._marks: set[int] = set()

    @property
    def header_table_size(self) -> int:
        """How large our table may be, in bytes: what the client's SETTINGS say, or 4,096 if they say more."""
        return self._size

    @header_table_size.setter
    def header_table_size(self, size: int) -> None:
        size = min(size, _DEFAULT_TABLE)
        if size == self._size:
            return
        self._size = size
        self.changes += 1
        self._evict()
        smallest = min([size, *self.table_size_changes])
        self.table_size_changes = [size] if smallest == size else [smallest, size]

    def encode(self, fields: Iterable[Any]) -> bytes:
        """Encode one block.

        Args:
            fields: In lower case.
        """
        parts: list[bytes] = []
        if self.table_size_changes:
            parts += [_integer(size, 0x1F, 0x20) for size in self.table_size_changes]
            self.table_size_changes = []
            self.changes += 1
        numbers = self._numbers
        for field in fields:
            name, value = field
            head = _NEVER_IN_TABLE.get(name)
            if head is None:
                number = numbers.get(field)
                if number is not None:
                    parts.append(_DYNAMIC_FIELDS[self._added - number])
                    continue
                coded = _STATIC_FIELDS.get(field)
                if coded is not None:
                    parts.append(coded)
                    continue
                head = _common_name(name, self._pattern(field))
            length = len(value)
            parts += (head, _LENGTHS[length] if length < _KNOWN_LENGTHS else _length(length), value)
        return b"".join(parts)

    def _pattern(self, field: Field) -> int:
        """Decide how a field is written that is in no table; add it to ours unless it comes for the first time."""
        size = _ENTRY_OVERHEAD + len(field[0]) + len(field[1])
        if size > self._size * _MAX_SHARE:
            return _WITHOUT_INDEXING
        self.changes += 1
        marks, mark = self._marks, hash(field)
        if mark not in marks:
            if len(marks) == _MAX_MARKS:
                marks.clear()
            marks.add(mark)
            return _WITHOUT_INDEXING
        self._table.append((field, size))
        self._table_bytes += size
        self._added += 1
        self._numbers[field] = self._added
        if self._table_bytes > self._size:
            self._evict()
        return _INCREMENTAL

    def _evict(self) -> None:
        """Drop the oldest entries until the others fit (4.3, 4.4)."""
        while self._table_bytes > self._size:
            field, size = self._table.popleft()
            self._table_bytes -= size
            del self._numbers[field]
