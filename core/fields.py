"""Checks of what an application wants to put into a head or a trailer section.

Every byte of a field is checked before anything is marked as sent, so that an application's
mistake can still become a 500 and never splits a response (RFC 9110, 5.1 and 5.5).
"""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from .asgi import Fields
from .errors import UnexpectedMessage

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROLS = bytes({*range(0x20), 0x7F} - {ord("\t")})

_MAX_KNOWN_NAMES = 1024
_known_names: dict[bytes, bytes] = {}

_Sorted: TypeAlias = tuple[Fields, list[tuple[bytes, Any]]]

_NO_PAIRS = "headers is an iterable of pairs of bytes"


def checked_name(name: Any) -> bytes:
    """Return a field name in lower case.

    Raises:
        UnexpectedMessage: It is not bytes, or not a token (RFC 9110, 5.1).
    """
    try:
        return _known_names[name]
    except (KeyError, TypeError):
        pass
    if not isinstance(name, bytes):
        raise UnexpectedMessage(f"a field name is bytes, not {type(name).__name__}")
    if not _TOKEN.fullmatch(name):
        raise UnexpectedMessage(f"{name!r} is not a field name")
    lower = name.lower()
    if len(_known_names) < _MAX_KNOWN_NAMES:
        _known_names[name] = lower
    return lower


def checked_value(name: bytes, value: Any) -> bytes:
    """Return a field value without surrounding white space.

    Raises:
        UnexpectedMessage: It is not bytes, or contains a control character such as CR, LF or NUL.
    """
    if not isinstance(value, bytes):
        raise UnexpectedMessage(f"the value of {name.decode()!r} is bytes, not {type(value).__name__}")
    # Of numbers, such as most values that are looked at one by one, `isalnum` knows it ten times as fast.
    if not value.isalnum() and len(value.translate(None, _CONTROLS)) != len(value):
        raise UnexpectedMessage(f"the value of {name.decode()!r} has a control character in it: {value!r}")
    return value.strip()  # of spaces and tabs: there is no other white space left


def sort_fields(pairs: Iterable[Any], apart: frozenset[bytes]) -> _Sorted:
    """Check fields, and set those apart that the server has to look at.

    Args:
        pairs: What the application sent: pairs of bytes.
        apart: The names of those that are set apart, in lower case.

    Returns:
        Fields with lower-case names; and those set apart, whose values have not been checked.

    Raises:
        UnexpectedMessage: Something is not a pair of bytes, or cannot stand in a head.
    """
    if type(pairs) is not list:
        try:
            iterator = iter(pairs)
        except TypeError:
            raise UnexpectedMessage(_NO_PAIRS) from None
        pairs = list(iterator)
    return _sort_together(pairs, apart) or _sort_one_by_one(pairs, apart)


def _sort_together(pairs: list[Any], apart: frozenset[bytes]) -> _Sorted | None:
    """Sort fields whose names are known, and look through their values at once; None if anything is wrong."""
    known, strip = _known_names, bytes.strip
    fields: Fields = []
    others: list[tuple[bytes, Any]] = []
    values = []
    try:
        for name, value in pairs:
            lower = known[name]
            if lower in apart:
                others.append((lower, value))
            else:
                fields.append((lower, strip(value)))
                values.append(value)
    except (KeyError, TypeError, ValueError):
        return None
    text = b"".join(values)
    return (fields, others) if len(text.translate(None, _CONTROLS)) == len(text) else None


def _sort_one_by_one(pairs: list[Any], apart: frozenset[bytes]) -> _Sorted:
    """Sort fields, and say what is wrong with the first that is."""
    fields: Fields = []
    others: list[tuple[bytes, Any]] = []
    for pair in pairs:
        try:
            raw_name, value = pair
        except (TypeError, ValueError):
            raise UnexpectedMessage(_NO_PAIRS) from None
        name = checked_name(raw_name)
        if name in apart:
            others.append((name, value))
        else:
            fields.append((name, checked_value(name, value)))
    return fields, others


def checked_fields(pairs: Iterable[Any], *, without: frozenset[bytes] = frozenset()) -> Fields:
    """Return fields with lower-case names.

    Args:
        pairs: What the application sent: pairs of bytes.
        without: Names that are dropped silently, because the server alone speaks about them.

    Raises:
        UnexpectedMessage: Something is not a pair of bytes, or cannot stand in a head.
    """
    return sort_fields(pairs, without)[0]
