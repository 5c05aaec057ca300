"""Checks of what an application wants to put into a head or a trailer section.

Every byte of a field is checked before anything is marked as sent, so that an application's
mistake can still become a 500 and never splits a response (RFC 9110, 5.1 and 5.5).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from .asgi import Fields
from .errors import UnexpectedMessage

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# A table in which every control character but the tab becomes another: text without any stays as it is.
_CONTROLS_REPLACED = bytes(ord("?") if (c < 0x20 and c != ord("\t")) or c == 0x7F else c for c in range(256))

_MAX_KNOWN_NAMES = 1024

_Sorted: TypeAlias = tuple[Fields, Fields]

_NO_PAIRS = "headers is an iterable of pairs of bytes"


class Apart:
    """Names of fields that are set apart; and those that have been told from them, so that each is checked once.

    Attributes:
        names: Those that are set apart, in lower case.
        told: Names as applications wrote them, and in lower case; None in place of those set apart.
    """

    __slots__ = ("names", "told")

    def __init__(self, names: Iterable[bytes]) -> None:
        self.names = frozenset(names)
        self.told: dict[bytes, bytes | None] = {}


def checked_name(name: Any) -> bytes:
    """Return a field name in lower case.

    Raises:
        UnexpectedMessage: It is not bytes, or not a token (RFC 9110, 5.1).
    """
    if not isinstance(name, bytes):
        raise UnexpectedMessage(f"a field name is bytes, not {type(name).__name__}")
    if not _TOKEN.fullmatch(name):
        raise UnexpectedMessage(f"{name!r} is not a field name")
    return name.lower()


def checked_value(name: bytes, value: Any) -> bytes:
    """Return a field value without surrounding white space.

    Raises:
        UnexpectedMessage: It is not bytes, or contains a control character such as CR, LF or NUL.
    """
    if not isinstance(value, bytes):
        raise UnexpectedMessage(f"the value of {name.decode()!r} is bytes, not {type(value).__name__}")
    if value.translate(_CONTROLS_REPLACED) != value:
        raise UnexpectedMessage(f"the value of {name.decode()!r} has a control character in it: {value!r}")
    return value.strip()  # of spaces and tabs: there is no other white space left


def sort_fields(pairs: Iterable[Any], apart: Apart) -> _Sorted:
    """Check fields, and set those apart that the server has to look at.

    Args:
        pairs: What the application sent: pairs of bytes.
        apart: Which are set apart.

    Returns:
        Fields with lower-case names; and those set apart.

    Raises:
        UnexpectedMessage: Something is not a pair of bytes, or cannot stand in a head.
    """
    listed = _listed(pairs)
    return _sort_together(listed, apart) or _sort_one_by_one(listed, apart)


def _listed(pairs: Iterable[Any]) -> list[Any]:
    if type(pairs) is list:
        return pairs
    try:
        iterator = iter(pairs)
    except TypeError:
        raise UnexpectedMessage(_NO_PAIRS) from None
    return list(iterator)


def _sort_together(pairs: list[Any], apart: Apart) -> _Sorted | None:
    """Sort fields whose names are known, and look through their values at once; None if anything is wrong."""
    told, strip = apart.told, bytes.strip
    fields: Fields = []
    others: Fields = []
    values = []
    try:
        for name, value in pairs:
            lower = told[name]
            if lower is None:
                others.append((name.lower(), strip(value)))
            else:
                fields.append((lower, strip(value)))
            values.append(value)
    except (KeyError, TypeError, ValueError):
        return None
    text = b"".join(values)
    return (fields, others) if text.translate(_CONTROLS_REPLACED) == text else None


def _sort_one_by_one(pairs: list[Any], apart: Apart) -> _Sorted:
    """Sort fields, and say what is wrong with the first that is."""
    fields: Fields = []
    others: Fields = []
    for raw_name, name, value in _named(pairs):
        noted = name in apart.names
        (others if noted else fields).append((name, checked_value(name, value)))
        if len(apart.told) < _MAX_KNOWN_NAMES:
            apart.told[raw_name] = None if noted else name
    return fields, others


def _named(pairs: list[Any]) -> Iterator[tuple[bytes, bytes, Any]]:
    """Yield names as they came, names in lower case, and values that have yet to be checked."""
    for pair in pairs:
        try:
            raw_name, value = pair
        except (TypeError, ValueError):
            raise UnexpectedMessage(_NO_PAIRS) from None
        yield raw_name, checked_name(raw_name), value


def checked_fields(pairs: Iterable[Any], *, without: frozenset[bytes] = frozenset()) -> Fields:
    """Return fields with lower-case names.

    Args:
        pairs: What the application sent: pairs of bytes.
        without: Names that are dropped silently, because the server alone speaks about them.

    Raises:
        UnexpectedMessage: Something is not a pair of bytes, or cannot stand in a head.
    """
    return [
        (name, checked_value(name, value)) for _, name, value in _named(_listed(pairs)) if name not in without
    ]
