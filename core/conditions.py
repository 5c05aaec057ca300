"""Conditional requests: whether what a client has, or wants to build on, is what there is (RFC 9110, 13).

For GET and HEAD of something that exists. Reads fields and says which status they lead to; knows no
file and no response.
"""

import calendar
import email.utils
import re
from typing import Final, NamedTuple

from .asgi import Fields

_ENTITY_TAG: Final = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_WEAK: Final = b"W/"
# RFC 9110, 5.6.7: IMF-fixdate, and what HTTP/1.0 knew.
_DATE: Final = re.compile(
    rb"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}(?::[0-9]{2}){2} GMT"
    rb"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9]{2}(?::[0-9]{2}){2} GMT"
    rb"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}(?::[0-9]{2}){2} [0-9]{4}"
)


class Validators(NamedTuple):
    """What tells one state of a representation from another (RFC 9110, 8.8).

    Attributes:
        entity_tag: As it stands in the field, quotes included; weak ones begin with W/.
        last_modified: Seconds since the epoch; None where that cannot be told to a whole second yet.
    """

    entity_tag: bytes
    last_modified: int | None


def field_value(fields: Fields, name: bytes) -> bytes | None:
    """Return the value of a field, its lines put together (RFC 9110, 5.3); None if it is not there."""
    values = [value for known, value in fields if known == name]
    return b", ".join(values) if values else None


def precondition_status(fields: Fields, current: Validators) -> int | None:
    """Evaluate the preconditions of a GET or HEAD, in the order of RFC 9110, 13.2.2.

    Returns:
        412 if what the client insists on has changed, 304 if it has what there is; None to go on.
    """
    tags = field_value(fields, b"if-match")
    if tags is not None:
        unchanged = _any_tag(tags, current.entity_tag, weak=False)
    else:
        unchanged = _unmodified(current, _date(fields, b"if-unmodified-since"), otherwise=True)
    if not unchanged:
        return 412
    tags = field_value(fields, b"if-none-match")
    if tags is not None:
        known = _any_tag(tags, current.entity_tag, weak=True)
    else:
        known = _unmodified(current, _date(fields, b"if-modified-since"), otherwise=False)
    return 304 if known else None


def range_is_current(fields: Fields, current: Validators) -> bool:
    """Tell whether a part fits what the client has: If-Range is not there, or is still true (RFC 9110, 13.1.5)."""
    value = field_value(fields, b"if-range")
    if value is None:
        return True
    if value.startswith((_WEAK, b'"')):
        return value == current.entity_tag and not value.startswith(_WEAK)
    date = _date(fields, b"if-range")
    return date is not None and date == current.last_modified


def _any_tag(value: bytes, current: bytes, *, weak: bool) -> bool:
    """Compare a list of entity tags, or `*`, with the current one (RFC 9110, 8.8.3.2)."""
    if value.strip() == b"*":
        return True
    tags = _ENTITY_TAG.findall(value)
    if weak:
        return current.removeprefix(_WEAK) in [tag.removeprefix(_WEAK) for tag in tags]
    return current in tags and not current.startswith(_WEAK)


def _unmodified(current: Validators, date: int | None, *, otherwise: bool) -> bool:
    """Tell whether it is as it was at that date; `otherwise` if there is no date to be compared."""
    if date is None or current.last_modified is None:
        return otherwise
    return current.last_modified <= date


def _date(fields: Fields, name: bytes) -> int | None:
    """Read a date in any of the three forms of RFC 9110, 5.6.7; what is none counts as not said."""
    value = field_value(fields, name)
    if value is None or not _DATE.fullmatch(value):
        return None
    parts = email.utils.parsedate(value.decode("ascii"))
    return None if parts is None else calendar.timegm(parts)
