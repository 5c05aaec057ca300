"""Our HPACK beside hpack's, on the same connection: what one does the other has to do."""

from typing import Any

import hpack
from hpack.table import HeaderTable

from alphorn.core.asgi import Fields
from alphorn.protocols import hpack_codec
from alphorn.protocols.hpack_codec import HpackDecoder, HpackEncoder

MAX_LIST = 2000
"""How large a list of fields may become here, in bytes as RFC 7541, 4.1, counts them."""


class Decoders:
    """Our decoder and hpack's, on the same connection.

    Attributes:
        failed: Whether a block was refused: then nothing is to be compared any more.
    """

    def __init__(self) -> None:
        self.ours = HpackDecoder(MAX_LIST)
        self.theirs = hpack.Decoder(MAX_LIST)
        self.failed = False

    def allow(self, size: int) -> None:
        """Allow the client a table of another size."""
        self.ours.max_allowed_table_size = self.theirs.max_allowed_table_size = size

    def decode(self, block: bytes) -> Any:
        """Decode with both; return the list, or the kind of error."""
        theirs: Any
        ours: Any
        try:
            theirs = [tuple(field) for field in self.theirs.decode(block, raw=True)]
        except hpack.HPACKError as error:
            theirs = kind_of(error)
        try:
            ours = self.ours.decode(block, raw=True)
        except hpack.HPACKError as error:
            ours = kind_of(error)
        assert ours == theirs
        if isinstance(ours, list):
            assert all(type(name) is type(value) is bytes for name, value in ours)
            table = self.theirs.header_table
            assert table_of(self.ours) == list(table.dynamic_entries)
            assert self.ours._table_bytes == table._current_size
            assert self.ours.header_table_size == table.maxsize
        else:
            self.failed = True
        return ours


def kind_of(error: hpack.HPACKError) -> type:
    """What an error means for the connection: h2 tells the oversized from the invalid."""
    kinds = (hpack.OversizedHeaderListError, hpack.InvalidTableSizeError, hpack.HPACKDecodingError)
    return next(kind for kind in kinds if isinstance(error, kind))


class Coders:
    """Our encoder and hpack's decoder, on the same connection."""

    def __init__(self) -> None:
        self.encoder = HpackEncoder()
        self.decoder = hpack.Decoder(2**20)

    def allow(self, size: int) -> None:
        """Allow another table, as the client's SETTINGS do."""
        self.encoder.header_table_size = size
        self.decoder.max_allowed_table_size = size

    def passes(self, fields: Fields) -> bytes:
        """Encode, decode and compare, the tables as well; return the block."""
        block = self.encoder.encode(fields)
        decoded = list(self.decoder.decode(block, raw=True))
        assert decoded == fields
        for field, got in zip(fields, decoded, strict=True):
            if field[0] in hpack_codec._SECRET:
                assert isinstance(got, hpack.NeverIndexedHeaderTuple)
        table = self.decoder.header_table
        assert [field for field, _ in reversed(self.encoder._table)] == list(table.dynamic_entries)
        assert self.encoder._table_bytes == table._current_size <= self.encoder.header_table_size
        assert self.encoder._numbers.keys() == set(table.dynamic_entries)
        return block


def table_of(decoder: HpackDecoder) -> Fields:
    """The dynamic table, the newest entry first."""
    return [field for field, _ in decoder._table[HeaderTable.STATIC_TABLE_LENGTH + 1 :]]
