"""Checks of what an application wants to put into a head or a trailer section.

Every byte of a field is checked before anything is marked as sent, so that an application's
mistake can still become a 500 and never splits a response (RFC 9110, 5.1 and 5.5).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from .asgi import Field, Fields
from .errors import UnexpectedMessage

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_MAX_KNOWN_NAMES = 1024
_known_names: dict[bytes, bytes] = {}
_MAX_KNOWN_FIELDS = 512
_MAX_KNOWN_VALUE = 64  # bytes
known_fields: dict[Any, Field] = {}
"""Pairs that were good before, and the fields they made."""

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
    if value.isalnum():  # which is found out sooner: lengths, tokens, digests
        return value
    if _FORBIDDEN_IN_VALUE.search(value):
        raise UnexpectedMessage(f"the value of {name.decode()!r} has a control character in it: {value!r}")
    return value.strip(b" \t")


def checked_field(pair: Any, without: frozenset[bytes]) -> Field | None:
    """Return a field with a lower-case name; None if it is one of those that are dropped.

    Raises:
        UnexpectedMessage: It is not a pair of bytes, or cannot stand in a head.
    """
    try:
        raw_name, raw_value = pair
    except (TypeError, ValueError):
        raise UnexpectedMessage(_NO_PAIRS) from None
    name = checked_name(raw_name)
    return None if name in without else (name, checked_value(name, raw_value))


def remember(pair: Any, field: Field) -> None:
    """Keep a field that has been checked, in `known_fields`: most are said again and again."""
    if type(pair) is tuple and len(field[1]) <= _MAX_KNOWN_VALUE:
        if len(known_fields) >= _MAX_KNOWN_FIELDS:
            known_fields.clear()
        known_fields[pair] = field


def checked_fields(pairs: Iterable[Any], *, without: frozenset[bytes] = frozenset()) -> Fields:
    """Return fields with lower-case names.

    Args:
        pairs: What the application sent: pairs of bytes.
        without: Names that are dropped silently, because the server alone speaks about them.

    Raises:
        UnexpectedMessage: Something is not a pair of bytes, or cannot stand in a head.
    """
    return [field for pair in iterated(pairs) if (field := checked_field(pair, without)) is not None]


def iterated(pairs: Any) -> Iterator[Any]:
    """Return what an application gave for its fields, one after the other.

    Raises:
        UnexpectedMessage: It cannot be iterated over.
    """
    try:
        iterator: Iterator[Any] = iter(pairs)
    except TypeError:
        raise UnexpectedMessage(_NO_PAIRS) from None
    return iterator
