"""Checks of what an application wants to put into a head or a trailer section.

Every byte of a field is checked before anything is marked as sent, so that an application's
mistake can still become a 500 and never splits a response (RFC 9110, 5.1 and 5.5).
"""

import re
from collections.abc import Iterable
from typing import Any

from .asgi import Field, Fields
from .errors import UnexpectedMessage

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_MAX_KNOWN_NAMES = 1024
_known_names: dict[bytes, bytes] = {}
_MAX_KNOWN_FIELDS = 512
_MAX_KNOWN_VALUE = 64  # bytes
_known_fields: dict[Field, Field] = {}


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
    if _FORBIDDEN_IN_VALUE.search(value):
        raise UnexpectedMessage(f"the value of {name.decode()!r} has a control character in it: {value!r}")
    return value.strip(b" \t")


def _remember(pair: Field, field: Field) -> None:
    """Keep a field that has been checked: an application says most of its fields again and again."""
    if len(_known_fields) >= _MAX_KNOWN_FIELDS:
        _known_fields.clear()
    _known_fields[pair] = field


def checked_fields(pairs: Iterable[Any], *, without: frozenset[bytes] = frozenset()) -> Fields:
    """Return fields with lower-case names.

    Args:
        pairs: What the application sent: pairs of bytes.
        without: Names that are dropped silently, because the server alone speaks about them.

    Raises:
        UnexpectedMessage: Something is not a pair of bytes, or cannot stand in a head.
    """
    fields: Fields = []
    try:
        for pair in pairs:
            field = _known_fields.get(pair) if type(pair) is tuple else None
            if field is not None:
                if field[0] not in without:
                    fields.append(field)
                continue
            raw_name, raw_value = pair
            name = checked_name(raw_name)
            if name not in without:
                field = (name, checked_value(name, raw_value))
                fields.append(field)
                if type(pair) is tuple and len(raw_value) <= _MAX_KNOWN_VALUE:
                    _remember(pair, field)
    except (TypeError, ValueError):
        raise UnexpectedMessage("headers is an iterable of pairs of bytes") from None
    return fields
