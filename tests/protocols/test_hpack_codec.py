"""Our HPACK decodes what hpack's does and refuses what it refuses; and hpack decodes what ours encodes.

For hours: `ALPHORN_FUZZ_EXAMPLES=1000000 pytest -o timeout=0 tests/protocols/test_hpack_codec.py`.
"""

import os

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman as hpack_decode_huffman
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alphorn.core.asgi import Field, Fields
from alphorn.protocols import hpack_codec
from alphorn.protocols.hpack_codec import HpackDecoder
from alphorn.protocols.hpack_huffman import decode_huffman
from support.hpack_pair import MAX_LIST, Coders, Decoders, table_of

EXAMPLES = int(os.environ.get("ALPHORN_FUZZ_EXAMPLES", "200"))

huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode

# ---------------------------------------------------------------------- the examples of RFC 7541

DATE = b"Mon, 21 Oct 2013 20:13:21 GMT"
DATE_2 = b"Mon, 21 Oct 2013 20:13:22 GMT"
SET_COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
AUTHORITY = (b":authority", b"www.example.com")
CUSTOM = (b"custom-key", b"custom-value")
NO_CACHE = (b"cache-control", b"no-cache")
LOCATION = (b"location", b"https://www.example.com")
PRIVATE = (b"cache-control", b"private")
OK, REDIRECT, REDIRECT_2 = ((b":status", status) for status in (b"200", b"302", b"307"))
GET, HTTP, HTTPS = (b":method", b"GET"), (b":scheme", b"http"), (b":scheme", b"https")
SMALL = "3fe101"  # a table of 256 bytes, which C.5 and C.6 take for granted

REQUESTS = [
    ([GET, HTTP, (b":path", b"/"), AUTHORITY], [AUTHORITY]),
    ([GET, HTTP, (b":path", b"/"), AUTHORITY, NO_CACHE], [NO_CACHE, AUTHORITY]),
    ([GET, HTTPS, (b":path", b"/index.html"), AUTHORITY, CUSTOM], [CUSTOM, NO_CACHE, AUTHORITY]),
]
RESPONSES = [
    ([REDIRECT, PRIVATE, (b"date", DATE), LOCATION], [LOCATION, (b"date", DATE), PRIVATE, REDIRECT]),
    ([REDIRECT_2, PRIVATE, (b"date", DATE), LOCATION], [REDIRECT_2, LOCATION, (b"date", DATE), PRIVATE]),
    (
        [
            OK,
            PRIVATE,
            (b"date", DATE_2),
            LOCATION,
            (b"content-encoding", b"gzip"),
            (b"set-cookie", SET_COOKIE),
        ],
        [(b"set-cookie", SET_COOKIE), (b"content-encoding", b"gzip"), (b"date", DATE_2)],
    ),
]
# The blocks of one connection, and for each the fields and the table that come of it.
APPENDIX_C: dict[str, tuple[list[str], list[tuple[Fields, Fields]]]] = {
    "C.2.1": (
        ["400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"],
        [([(b"custom-key", b"custom-header")], [(b"custom-key", b"custom-header")])],
    ),
    "C.2.2": (["040c 2f73 616d 706c 652f 7061 7468"], [([(b":path", b"/sample/path")], [])]),
    "C.2.3": (["1008 7061 7373 776f 7264 0673 6563 7265 74"], [([(b"password", b"secret")], [])]),
    "C.2.4": (["82"], [([GET], [])]),
    "C.3": (
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        REQUESTS,
    ),
    "C.4": (
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
        REQUESTS,
    ),
    "C.5": (
        [
            (
                f"{SMALL} 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a"
                "3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"
            ),
            "4803 3330 37c1 c0bf",
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970"
                "7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61"
                "6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31"
            ),
        ],
        RESPONSES,
    ),
    "C.6": (
        [
            (
                f"{SMALL} 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e"
                "919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3"
            ),
            "4883 640e ffc1 c0bf",
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2"
                "e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07"
            ),
        ],
        RESPONSES,
    ),
}


@pytest.mark.parametrize(("blocks", "expected"), APPENDIX_C.values(), ids=APPENDIX_C)
def test_the_examples_of_the_rfc_are_decoded(
    blocks: list[str], expected: list[tuple[Fields, Fields]]
) -> None:
    decoder = HpackDecoder(MAX_LIST)
    for block, (fields, table) in zip(blocks, expected, strict=True):
        assert decoder.decode(bytes.fromhex(block)) == fields
        assert table_of(decoder) == table


@pytest.mark.parametrize(("block", "size"), [("2a", 10), ("3f9a0a", 1337)], ids=["C.1.1", "C.1.2"])
def test_the_integers_of_the_rfc_are_decoded(block: str, size: int) -> None:
    decoder = HpackDecoder(MAX_LIST)
    assert decoder.decode(bytes.fromhex(block)) == []
    assert decoder.header_table_size == size


# ---------------------------------------------------------------------- decoding: what hpack decodes

# Few names and values, so that they come again; and some that fill a table.
names = st.sampled_from(
    [b":path", b":status", b"accept", b"cookie", b"date", b"x-a", b"x-b", b"x-" + b"c" * 150]
) | st.binary(max_size=3)
values = st.sampled_from([b"", b"/", b"200", b"v", b"w" * 126, b"x" * 127, b"y" * 700]) | st.binary(
    max_size=8
)
marked_fields = st.tuples(names, values, st.booleans())  # and whether it is never to be indexed
sizes = st.sampled_from([0, 31, 32, 40, 100, 256, 800, 4096]) | st.integers(0, 9000)


@given(
    st.lists(st.tuples(st.lists(marked_fields, max_size=8), st.booleans(), st.lists(sizes, max_size=3))),
    sizes,
)
@settings(max_examples=EXAMPLES)
def test_what_hpack_encodes_is_decoded_as_hpack_does(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, list[int]]], allowed: int
) -> None:
    encoder, decoders = hpack.Encoder(), Decoders()
    decoders.allow(allowed)
    encoder.header_table_size = min(4096, allowed)
    for fields, compressed, changes in blocks:
        for size in changes:
            encoder.header_table_size = min(size, allowed)
        decoded = decoders.decode(encoder.encode(fields, huffman=compressed))
        if decoders.failed:
            break
        assert decoded == [(name, value) for name, value, _ in fields]


# ---------------------------------------------------------------------- decoding: any bytes


def integer(value: int, prefix_bits: int, pattern: int, padding: int = 0) -> bytes:
    """An integer of RFC 7541, 5.1, with superfluous zeros behind it if there are continuation bytes."""
    encoded = hpack.hpack.encode_integer(value, prefix_bits)
    encoded[0] |= pattern
    if padding and len(encoded) > 1:
        encoded[-1] |= 0x80
        encoded += b"\x80" * (padding - 1) + b"\0"
    return bytes(encoded)


numbers = st.integers(0, 75) | st.sampled_from([127, 200, 4096, 2**31, 2**32 - 1, 2**35, 2**42])
paddings = st.just(0) | st.integers(0, 6)
strings = st.one_of(
    values.map(lambda value: integer(len(value), 7, 0) + value),
    values.map(huffman).map(lambda value: integer(len(value), 7, 0x80) + value),
    st.binary(max_size=12).map(lambda value: integer(len(value), 7, 0x80) + value),
    st.tuples(numbers, paddings, st.binary(max_size=12)).map(lambda x: integer(x[0], 7, 0, x[1]) + x[2]),
)
indexed = st.builds(integer, numbers, st.just(7), st.just(0x80), paddings)
literals = st.one_of(
    *(
        st.one_of(
            st.tuples(st.builds(integer, numbers, st.just(bits), st.just(pattern), paddings), strings),
            st.tuples(st.just(bytes((pattern,))), strings, strings),
        ).map(b"".join)
        for bits, pattern in ((6, 0x40), (4, 0x00), (4, 0x10))
    )
)
updates = st.builds(integer, sizes | numbers, st.just(5), st.just(0x20), paddings)
plain = st.sampled_from([b"\x82", b"\xbe", b"\xbf", b"\x40\x01x\x01y", b"\x51\x03abc", b"\x0f\x02\x01z"])
# Of `authorization` and `cookie`, as browsers send them: the same value again, and others that begin alike.
secrets = st.sampled_from(
    [
        b"\x1f\x08\x03abc",
        b"\x1f\x08\x03abd",
        b"\x1f\x08\x02ab",
        b"\x0f\x11\x03abc",
        b"\x1f\x08\x83\x1c\x64\x5f",
    ]
)
representations = st.one_of(plain, plain, secrets, indexed, literals, literals, st.binary(max_size=4))
blocks_of_any_bytes = st.one_of(
    st.binary(max_size=60),
    st.lists(representations, max_size=12).map(b"".join),
    st.tuples(st.lists(updates, max_size=3), st.lists(representations, max_size=8)).map(
        lambda parts: b"".join(parts[0] + parts[1])
    ),
)


@given(st.lists(st.tuples(st.none() | sizes, blocks_of_any_bytes), max_size=12))
@settings(max_examples=EXAMPLES)
@example([(None, b"\x3f\xe1\x1f"), (256, b"\x82")])  # allowed less, and not made smaller
@example([(None, b"\x40\x01x\x01y" + b"\xbe" * 100)])  # an HPACK bomb
def test_any_bytes_are_accepted_or_refused_as_hpack_does(blocks: list[tuple[int | None, bytes]]) -> None:
    decoders = Decoders()
    for allowed, block in blocks:
        if allowed is not None:
            decoders.allow(allowed)
        decoders.decode(block)
        if decoders.failed:
            break


EOS_PADDED = b"\xff\xff\xff\xff"  # 30 bits of EOS and two of padding
REFUSED = {
    "index 0": b"\x80",
    "an index beyond the static table": b"\xbe",
    "an index of many digits": b"\xff\xff\xff\xff\xff\x0f",
    "an index that does not end": b"\xff\x80\x80",
    "an index with six continuation bytes": b"\xff\x80\x80\x80\x80\x80\x00",
    "a name that is in no table": b"\x7e\x01x",
    "a literal without a name": b"\x40",
    "a literal without a value": b"\x40\x01x",
    "a string shorter than its length": b"\x40\x01x\x05abcd",
    "a length that does not end": b"\x40\x01x\x7f\x80",
    "EOS": b"\x40\x01x\x84" + EOS_PADDED,
    "padding of a whole byte": b"\x40\x01x\x82\x1f\xff",
    "padding with zeros": b"\x40\x01x\x81\x18",
    "a table size above the allowed one": b"\x3f\xe2\x1f",
    "a table size behind a field": b"\x82\x20",
    "a table size of many digits": b"\x3f\xff\xff\xff\xff\x7f",
    "a list that is too large": b"\x40\x01x\x01y" + b"\xbe" * 60,
}


@pytest.mark.parametrize("block", REFUSED.values(), ids=REFUSED)
def test_what_the_rfc_forbids_is_refused(block: bytes) -> None:
    decoders = Decoders()
    decoders.decode(block)
    assert decoders.failed


def test_a_list_may_be_as_large_as_the_limit() -> None:
    for size in (MAX_LIST, MAX_LIST + 1):
        value = b"v" * (size - 33)
        assert Decoders().decode(b"\0\1x" + integer(len(value), 7, 0) + value) == (
            [(b"x", value)] if size == MAX_LIST else hpack.OversizedHeaderListError
        )


def test_an_integer_may_have_five_continuation_bytes() -> None:
    decoders = Decoders()
    assert decoders.decode(b"\x3f\x81\x80\x80\x80\x00") == []
    assert decoders.ours.header_table_size == 32


@given(st.binary(max_size=40) | st.text("/abc019?=&AZ{\\", max_size=80).map(str.encode))
@settings(max_examples=EXAMPLES)
@example(bytes(range(256)))
def test_any_string_survives_the_huffman_code(data: bytes) -> None:
    assert decode_huffman(huffman(data)) == data


LONG = huffman(b"/one/path/of/many?with=a&query=too")
nearly_huffman = st.builds(
    lambda text, cut, end: huffman(text)[: -1 - cut] + end,
    st.text("/abc019?=&AZ{\\", max_size=60).map(str.encode) | st.binary(max_size=40),
    st.integers(0, 2),
    st.lists(st.sampled_from([0x00, 0x7F, 0xFE, 0xFF]) | st.integers(0, 255), max_size=3).map(bytes),
)


@given(st.binary(max_size=40) | nearly_huffman)
@settings(max_examples=5 * EXAMPLES)
@example(EOS_PADDED)
@example(EOS_PADDED + huffman(b"after EOS"))
@example(LONG + b"\xff")
@example(LONG + EOS_PADDED)
@example(EOS_PADDED + LONG)
def test_any_bytes_are_a_huffman_string_or_not_as_hpack_says(data: bytes) -> None:
    try:
        expected = hpack_decode_huffman(data)
    except hpack.HPACKDecodingError:
        with pytest.raises(hpack.HPACKDecodingError):
            decode_huffman(data)
    else:
        assert decode_huffman(data) == expected


# ---------------------------------------------------------------------- encoding


secret_names = st.sampled_from([b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"])
ours = st.one_of(
    st.tuples(names, values),
    st.tuples(names, values),
    st.tuples(secret_names, values),
)


@given(st.lists(st.tuples(st.lists(sizes | st.just(2**32 - 1), max_size=3), st.lists(ours, max_size=8))))
@settings(max_examples=EXAMPLES)
def test_hpack_decodes_whatever_is_encoded(blocks: list[tuple[list[int], Fields]]) -> None:
    coders = Coders()
    for changes, fields in blocks:
        for size in changes:
            coders.allow(size)
        coders.passes(fields)
        coders.passes(fields)


def test_a_field_that_repeats_is_one_byte_from_the_third_time_on() -> None:
    coders, fields = Coders(), [(b"server", b"alphorn"), (b"x-own", b"value")]
    lengths = [len(coders.passes(fields)) for _ in range(4)]
    assert lengths[0] > lengths[2] == lengths[3] == 2


def test_fields_that_never_come_again_stay_out_of_the_table() -> None:
    coders = Coders()
    for number in range(1000):
        coders.passes([(b"etag", b"%d" % number), (b"x-request-id", b"%d" % number)])
        assert len(coders.encoder._marks) <= 128
    assert not coders.encoder._table


def test_the_oldest_fields_make_room_for_new_ones() -> None:
    coders = Coders()
    for number in range(300):
        for _ in range(3):
            coders.passes([(b"date", b"%d" % number)])
    assert len(coders.passes([(b"date", b"299")])) == 1
    assert len(coders.passes([(b"date", b"0")])) > 1


def test_a_field_that_would_drive_out_the_others_stays_out_of_the_table() -> None:
    coders, small, large = Coders(), (b"server", b"alphorn"), (b"x-large", b"v" * 4000)
    for _ in range(3):
        coders.passes([small, large])
    assert [field for field, _ in coders.encoder._table] == [small]


@pytest.mark.parametrize("name", sorted(hpack_codec._SECRET))
def test_a_secret_is_a_literal_every_time(name: bytes) -> None:
    coders = Coders()
    blocks = {coders.passes([(name, b"secret")]) for _ in range(3)}
    assert len(blocks) == 1
    assert not coders.encoder._table
    assert not coders.encoder._marks


def test_of_many_changes_of_size_the_smallest_and_the_last_are_announced() -> None:
    coders, field = Coders(), (b"server", b"alphorn")
    for _ in range(3):
        coders.passes([field])
    for size in (4096, 200, 0, 100, 50, 2**32 - 1):
        coders.allow(size)
    assert coders.passes([]) == integer(0, 5, 0x20) + integer(4096, 5, 0x20)
    assert coders.passes([]) == b""
    coders.allow(300)
    coders.allow(100)
    assert coders.passes([]) == integer(100, 5, 0x20)


def test_a_change_of_size_is_announced_even_if_it_was_set_twice() -> None:
    coders = Coders()
    for size in (0, 0):
        coders.allow(size)
    assert coders.passes([]) == b"\x20"


def test_long_names_and_values_are_encoded() -> None:
    fields: list[Field] = [(b"n" * size, b"v" * size) for size in (126, 127, 128, 1023, 1024, 70_000)]
    assert len(Coders().passes(fields)) > 140_000
