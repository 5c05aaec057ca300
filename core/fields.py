"""Checks of what an application wants to put into a head or a trailer section.

Every byte of a field is checked before anything is marked as sent, so that an application's
mistake can still become a 500 and never splits a response (RFC 9110, 5.1 and 5.5).
"""

import re
from collections.abc import Iterable
from typing import Any

from .asgi import Fields
from .errors import UnexpectedMessage

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROLS = bytes({*range(0x20), 0x7F} - {ord("\t")})

_MAX_KNOWN_NAMES = 1024
_known_names: dict[bytes, bytes] = {}

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
    if len(value.translate(None, _CONTROLS)) != len(value):
        raise UnexpectedMessage(f"the value of {name.decode()!r} has a control character in it: {value!r}")
    return value.strip()  # of spaces and tabs: there is no other white space left


def sort_fields(pairs: Iterable[Any], apart: frozenset[bytes]) -> tuple[Fields, list[tuple[bytes, Any]]]:
    """Check fields, and set those apart that the server has to look at.

    Args:
        pairs: What the application sent: pairs of bytes.
        apart: The names of those that are set apart, in lower case.

    Returns:
        Fields with lower-case names; and those set apart, whose values have not been checked.

    Raises:
        UnexpectedMessage: Something is not a pair of bytes, or cannot stand in a head.
    """
    fields: Fields = []
    others: list[tuple[bytes, Any]] = []
    known, controls = _known_names, _CONTROLS
    try:
        iterator = iter(pairs)
    except TypeError:
        raise UnexpectedMessage(_NO_PAIRS) from None
    for pair in iterator:
        try:
            raw_name, value = pair
        except (TypeError, ValueError):
            raise UnexpectedMessage(_NO_PAIRS) from None
        try:
            name = known[raw_name]
        except (KeyError, TypeError):
            name = checked_name(raw_name)
        if name in apart:
            others.append((name, value))
        elif type(value) is bytes and len(value.translate(None, controls)) == len(value):
            fields.append((name, value.strip()))  # as `checked_value` does, without the call
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
