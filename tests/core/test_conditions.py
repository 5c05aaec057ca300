"""Preconditions: what RFC 9110, 13 says about them, in its order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.conditions import _DATE, Validators, precondition_status, range_is_current

MORNING = 784879200
AT = b"Tue, 15 Nov 1994 06:00:00 GMT"
BEFORE = b"Tue, 15 Nov 1994 05:59:59 GMT"
AFTER = b"Tue, 15 Nov 1994 06:00:01 GMT"

STRONG = Validators(b'"now"', MORNING)
WEAK = Validators(b'W/"now"', MORNING)


def fields(**values: bytes) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value) for name, value in values.items()]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, None),
        ({"if_none_match": b'"now"'}, 304),
        ({"if_none_match": b'W/"now"'}, 304),
        ({"if_none_match": b'"old", W/"now"'}, 304),
        ({"if_none_match": b'"a,b" , "now"'}, 304),
        ({"if_none_match": b"*"}, 304),
        ({"if_none_match": b'"old"'}, None),
        ({"if_none_match": b"now"}, None),
        ({"if_none_match": b""}, None),
        ({"if_match": b'"now"'}, None),
        ({"if_match": b'"old","now"'}, None),
        ({"if_match": b"*"}, None),
        ({"if_match": b'W/"now"'}, 412),
        ({"if_match": b'"old"'}, 412),
        ({"if_match": b""}, 412),
        ({"if_modified_since": AT}, 304),
        ({"if_modified_since": AFTER}, 304),
        ({"if_modified_since": BEFORE}, None),
        ({"if_unmodified_since": AT}, None),
        ({"if_unmodified_since": AFTER}, None),
        ({"if_unmodified_since": BEFORE}, 412),
    ],
)
def test_one_precondition_is_true_or_not(said: dict[str, bytes], status: int | None) -> None:
    assert precondition_status(fields(**said), STRONG) == status


@pytest.mark.parametrize(
    ("said", "status"),
    [
        # 1 and 2: a date counts only where there is no tag.
        ({"if_match": b'"now"', "if_unmodified_since": BEFORE}, None),
        ({"if_match": b'"old"', "if_unmodified_since": AFTER}, 412),
        # 3 and 4: likewise.
        ({"if_none_match": b'"old"', "if_modified_since": AFTER}, None),
        ({"if_none_match": b'"now"', "if_modified_since": BEFORE}, 304),
        # 1 and 2 come before 3 and 4.
        ({"if_match": b'"old"', "if_none_match": b'"now"'}, 412),
        ({"if_match": b'"now"', "if_none_match": b'"now"'}, 304),
        ({"if_unmodified_since": BEFORE, "if_modified_since": AFTER}, 412),
        ({"if_unmodified_since": AT, "if_none_match": b'"now"'}, 304),
    ],
)
def test_several_preconditions_have_an_order(said: dict[str, bytes], status: int | None) -> None:
    assert precondition_status(fields(**said), STRONG) == status


def test_a_weak_tag_is_good_enough_to_save_content_but_not_to_insist_on() -> None:
    assert precondition_status(fields(if_none_match=b'"now"'), WEAK) == 304
    assert precondition_status(fields(if_match=b'W/"now"'), WEAK) == 412
    assert not range_is_current(fields(if_range=b'W/"now"'), WEAK)


@pytest.mark.parametrize(
    "date",
    [AT, b"Tuesday, 15-Nov-94 06:00:00 GMT", b"Tue Nov 15 06:00:00 1994"],
    ids=["IMF-fixdate", "rfc850-date", "asctime-date"],
)
def test_dates_are_read_in_all_forms(date: bytes) -> None:
    assert precondition_status(fields(if_modified_since=date), STRONG) == 304
    assert range_is_current(fields(if_range=date), STRONG)


@pytest.mark.parametrize(
    "date",
    [
        b"",
        b"\xff",
        b"0",
        b"yesterday",
        b"1994-11-15",
        b"Tue, 15 Foo 1994 06:00:00 GMT",
        b"Tue, 15 Nov 1994 06:00:00 +0100",
        b"Tue, 15 Nov 99999 06:00:00 GMT",
        AT + b", " + AT,
    ],
)
def test_what_is_no_date_was_not_said(date: bytes) -> None:
    assert precondition_status(fields(if_modified_since=date), STRONG) is None
    assert precondition_status(fields(if_unmodified_since=date), STRONG) is None
    assert not range_is_current(fields(if_range=date), STRONG)


@given(st.from_regex(_DATE, fullmatch=True))
def test_no_date_makes_it_fail(date: bytes) -> None:
    precondition_status(fields(if_modified_since=date), STRONG)


def test_without_a_date_of_its_own_nothing_is_held_against_dates() -> None:
    unsettled = Validators(b'W/"now-new"', None)
    assert precondition_status(fields(if_modified_since=AFTER), unsettled) is None
    assert precondition_status(fields(if_unmodified_since=BEFORE), unsettled) is None
    assert not range_is_current(fields(if_range=AT), unsettled)


@pytest.mark.parametrize(
    ("value", "current"),
    [(b'"now"', True), (b'"old"', False), (b'W/"now"', False), (AT, True), (AFTER, False), (BEFORE, False)],
)
def test_a_part_must_fit_exactly_what_the_client_has(value: bytes, current: bool) -> None:
    assert range_is_current(fields(if_range=value), STRONG) is current


def test_a_part_without_a_condition_fits() -> None:
    assert range_is_current([], STRONG)
