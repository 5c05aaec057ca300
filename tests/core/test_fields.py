"""Fields of applications: what can stand in a head passes unchanged, everything else is refused."""

import re
import string
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core import fields
from alphorn.core.errors import UnexpectedMessage
from alphorn.core.fields import Apart, checked_fields, checked_name, checked_value, sort_fields

TOKEN_CHARACTERS = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
"""RFC 9110, 5.6.2."""

CONTROLS = bytes(set(range(0x20)) - {0x09}) + b"\x7f"

names = st.lists(st.sampled_from(list(TOKEN_CHARACTERS)), min_size=1, max_size=20).map(bytes)
values = st.binary(max_size=30).filter(lambda value: not set(value) & set(CONTROLS))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | names | values,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(names)
def test_a_token_is_a_name_and_becomes_lower_case(name: bytes) -> None:
    assert checked_name(name) == name.lower()


@given(st.binary(max_size=20).filter(lambda name: not name or set(name) - set(TOKEN_CHARACTERS)))
def test_nothing_else_is_a_name(name: bytes) -> None:
    with pytest.raises(UnexpectedMessage, match="is not a field name"):
        checked_name(name)


@given(anything.filter(lambda thing: not isinstance(thing, bytes)))
def test_a_name_is_bytes(name: Any) -> None:
    with pytest.raises(UnexpectedMessage, match="a field name is bytes"):
        checked_name(name)


@given(values)
def test_a_value_is_kept_but_for_white_space_around_it(value: bytes) -> None:
    assert checked_value(b"x", value) == value.strip(b" \t")


@given(st.binary(max_size=10), st.sampled_from(list(CONTROLS)), st.binary(max_size=10))
def test_no_control_character_is_part_of_a_value(before: bytes, control: int, after: bytes) -> None:
    with pytest.raises(UnexpectedMessage, match="control character"):
        checked_value(b"x", before + bytes([control]) + after)


@given(anything.filter(lambda thing: not isinstance(thing, bytes)))
def test_a_value_is_bytes(value: Any) -> None:
    with pytest.raises(UnexpectedMessage, match="the value of 'x' is bytes"):
        checked_value(b"x", value)


@given(st.lists(st.tuples(names, values), max_size=5))
def test_fields_keep_their_order_and_their_duplicates(pairs: list[tuple[bytes, bytes]]) -> None:
    assert checked_fields(pairs) == [(name.lower(), value.strip(b" \t")) for name, value in pairs]


@given(anything)
def test_whatever_an_application_sends_is_checked_fields_or_one_error(thing: Any) -> None:
    try:
        checked = checked_fields(thing)
    except UnexpectedMessage:
        return
    for name, value in checked:
        assert checked_name(name) == name
        assert checked_value(name, value) == value


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=4))
def test_what_passes_makes_one_line_each_on_the_wire(pairs: list[tuple[bytes, bytes]]) -> None:
    """h11 is asked for a second opinion: no field can split a response."""
    try:
        checked = checked_fields(pairs, without=frozenset((b"content-length", b"transfer-encoding")))
    except UnexpectedMessage:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    connection.next_event()
    wire = connection.send(h11.Response(status_code=200, headers=checked))
    assert wire is not None
    head, _, rest = wire.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")[1:]
    assert lines[: len(checked)] == [name + b": " + value for name, value in checked]
    assert rest == b""


def test_names_that_only_the_server_says_are_dropped_whatever_their_case() -> None:
    pairs = [(b"Connection", b"close"), (b"x", b"y"), (b"CONNECTION", b"\n")]

    assert checked_fields(pairs, without=frozenset([b"connection"])) == [(b"x", b"y")]


def test_fields_may_come_from_any_iterable() -> None:
    assert checked_fields([b"A", b"b"] for _ in range(2)) == [(b"a", b"b"), (b"a", b"b")]


def test_what_is_remembered_about_names_is_bounded() -> None:
    apart = Apart((b"x-7",))

    for number in range(5000):
        assert sort_fields([(b"X-%d" % number, b"")], apart)[number == 7] == [(b"x-%d" % number, b"")]

    assert len(apart.told) <= fields._MAX_KNOWN_NAMES


def test_a_field_that_was_good_once_is_checked_anew_when_it_is_not_the_same() -> None:
    good = (b"X-Known", b"value")
    assert checked_fields([good, list(good)]) == [(b"x-known", b"value")] * 2
    assert checked_fields([good], without=frozenset((b"x-known",))) == []
    for bad in ((b"X-Known", b"value\n"), (b"X-Known ", b"value"), (b"X-Known", "value"), (b"X-Known",)):
        with pytest.raises(UnexpectedMessage):
            checked_fields([bad])


def test_fields_that_the_server_looks_at_are_set_apart_when_their_names_are_new_and_when_they_are_known() -> (
    None
):
    pairs = [(b"A", b" b "), (b"Date", b"e "), [b"c", b"d"], (b"date", b"f")]
    apart = Apart((b"date",))

    for _ in range(2):
        assert sort_fields(pairs, apart) == ([(b"a", b"b"), (b"c", b"d")], [(b"date", b"e"), (b"date", b"f")])


@pytest.mark.parametrize("value", ["not bytes", b"a\n", b"\x00", None])
def test_fields_that_are_set_apart_are_checked_like_others(value: Any) -> None:
    apart = Apart((b"date",))
    sort_fields([(b"date", b"")], apart)

    for name in (b"date", b"Date"):
        with pytest.raises(UnexpectedMessage, match="the value of 'date'"):
            sort_fields([(name, value)], apart)


@given(st.lists(st.tuples(names, st.binary(max_size=20)), max_size=4))
def test_sorting_checks_values_as_each_is_checked_alone(pairs: list[tuple[bytes, bytes]]) -> None:
    try:
        expected = [(lower := checked_name(name), checked_value(lower, value)) for name, value in pairs]
    except UnexpectedMessage as error:
        with pytest.raises(UnexpectedMessage, match=re.escape(str(error))):
            sort_fields(pairs, Apart(()))
    else:
        apart = Apart(())
        for _ in range(2):
            assert sort_fields(pairs, apart) == (expected, [])


def test_a_field_that_is_wrong_is_named_among_good_ones() -> None:
    class Text(bytes):
        """What some frameworks have in place of bytes."""

    pairs = [(b"a", b"b"), (b"c", Text(b" d ")), (b"e", b"f\r\ng: h"), (b"i", b"j")]

    with pytest.raises(UnexpectedMessage, match="'e'"):
        sort_fields(pairs, Apart(()))
    assert sort_fields(pairs[:2], Apart(())) == ([(b"a", b"b"), (b"c", b"d")], [])
