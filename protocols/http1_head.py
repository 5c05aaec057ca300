"""Reading a request head strictly: what h11 would let through is refused before h11 sees it.

Where RFC 9112 gives a recipient the choice, the safe one is taken: two parties that read the same
bytes differently are how requests are smuggled. The choices, each with its reason, are listed in
tests/compliance/http1_corpus_head.py. Knows no connection and no I/O.
"""

import re
from http import HTTPStatus
from typing import Final

import h11

from ..core.asgi import Fields
from ..core.config import Config
from ..core.errors import StreamFault
from .http1_content import ChunkedContent, MeasuredContent
from .http1_grammar import AUTHORITY, LENGTH, TOKEN, malformed, read_field
from .http1_request import Http1Request
from .http1_response import FramedResponse

_FIRST_OF_METHOD: Final = re.compile(TOKEN)
_REQUEST_LINE: Final = re.compile(rb"(%b) ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])" % TOKEN)
_ORIGIN_FORM: Final = re.compile(rb"/[^#]*")
_ABSOLUTE_FORM: Final = re.compile(rb"(?i:https?)://([^/?#]+)([^#]*)")
HEAD_END: Final = b"\r\n\r\n"
_CR: Final = ord("\r")


def measure_head(buffer: bytearray, seen: int, max_head_bytes: int) -> int:
    """Find the end of a request head, and refuse as early as can be what will never become one.

    Args:
        buffer: What has arrived, from the first byte of the head.
        seen: How many of these bytes have been looked at before; they are not looked at again.
        max_head_bytes: The largest head.

    Returns:
        The length of the head with the empty line that ends it, in bytes; 0 while it is unfinished.

    Raises:
        StreamFault: With the status to answer (400, 414, 431, 501, 505).
    """
    found = buffer.find(HEAD_END, max(0, seen - len(HEAD_END) + 1))
    length = len(buffer) if found < 0 else found + len(HEAD_END)
    end = min(length, max_head_bytes)
    start = seen - 1 if seen and buffer[seen - 1] == _CR else seen
    has_bare_lf = buffer.count(b"\n", start, end) != buffer.count(b"\r\n", start, end)
    if found >= 0 and length == end and not has_bare_lf:
        return length
    # Of several faults the first one counts, so that the answer does not depend on how the bytes arrive.
    _check_beginning(buffer, start, end)
    if has_bare_lf:
        # RFC 9112, 2.2: a recipient may accept a bare LF, and one that does can be smuggled through.
        raise malformed("a line ends in LF without CR")
    if length > max_head_bytes:
        if buffer.find(b"\r\n", 0, max_head_bytes) < 0:
            code, reason = HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long"
        else:
            code, reason = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large"
        raise StreamFault(code, reason, limit="max_head_bytes")
    return 0


def _check_beginning(buffer: bytearray, start: int, end: int) -> None:
    """Refuse an unfinished head for its first byte, and for its request line as soon as that is there."""
    if not start and buffer != b"\r" and not _FIRST_OF_METHOD.match(buffer):
        raise malformed("a malformed request line")
    line_end = buffer.find(b"\r\n", start, end)
    if line_end >= 0 and buffer.find(b"\n", 0, line_end) < 0:
        _read_request_line(bytes(buffer[:line_end]))


def read_head(raw: bytes, config: Config) -> Http1Request:
    """Read a whole request head.

    Args:
        raw: The head, with the empty line that ends it, as `measure_head` found it.
        config: How many fields there may be, and how much content.

    Raises:
        StreamFault: With the status to answer.
    """
    line, *field_lines = raw[: -len(HEAD_END)].split(b"\r\n")
    method, target, http_version = _read_request_line(line)
    if len(field_lines) > config.max_fields:
        raise StreamFault(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many fields", limit="max_fields"
        )
    fields = [read_field(field_line) for field_line in field_lines]
    _check_host(fields, http_version)
    length = _read_framing(fields, http_version)
    path, query, fields = _read_target(method, target, fields)
    _check_expectations(fields, http_version)
    framer = _open_framer(raw)
    return Http1Request(
        method.decode("ascii"),
        path,
        query,
        fields,
        http_version,
        ChunkedContent(framer, config) if length is None else MeasuredContent(framer, length),
        FramedResponse(framer, http_version),
        keep_alive=http_version == "1.1" and b"close" not in _members(fields, b"connection"),
        upgrade=length == 0 and _is_websocket_handshake(method, fields, http_version),
    )


def _read_request_line(line: bytes) -> tuple[bytes, bytes, str]:
    """Return method, target and version (RFC 9112, 3)."""
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise malformed("a malformed request line")
    method, target, major, minor = parts.groups()
    if major != b"1":
        raise StreamFault(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this is an HTTP/1.1 connection")
    if method != method.upper():  # `get` is not GET (RFC 9110, 9.1), and a scope cannot say it
        raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "methods are in upper case")
    if method == b"CONNECT":
        raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "this is not a proxy")
    # A higher minor version than ours is served as ours (RFC 9110, 2.5).
    return method, target, "1.0" if minor == b"0" else "1.1"


def _check_host(fields: Fields, http_version: str) -> None:
    """Demand one valid Host field (RFC 9112, 3.2); HTTP/1.0 may go without."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and http_version == "1.1"):
        raise malformed("a request has exactly one Host field")
    if hosts and not AUTHORITY.fullmatch(hosts[0]):
        raise malformed("a malformed Host field")


def _read_framing(fields: Fields, http_version: str) -> int | None:
    """Return the length of the content in bytes, None if it is chunked; refuse every doubt.

    RFC 9112, 6.1 and 6.3. A list of equal lengths may be taken for one, and both ways of framing
    at once for the second; neither is, because others on the way may have decided otherwise.
    """
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if lengths and (len(lengths) > 1 or not LENGTH.fullmatch(lengths[0])):
        raise malformed("content-length is one number of bytes")
    if not codings:
        return int(lengths[0]) if lengths else 0
    if lengths:
        raise malformed("both content-length and transfer-encoding")
    if http_version == "1.0":
        raise malformed("transfer-encoding in HTTP/1.0")
    *others, last = (coding.strip(b" \t") for coding in b",".join(codings).lower().split(b","))
    if last != b"chunked" or not {b"chunked", b""}.isdisjoint(others):
        raise malformed("the last transfer coding, and no other, is chunked")
    if others:
        raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "the only transfer coding here is chunked")
    return None


def _read_target(method: bytes, target: bytes, fields: Fields) -> tuple[bytes, bytes, Fields]:
    """Return path, query and fields; the target has one of three forms here (RFC 9112, 3.2)."""
    if target == b"*":
        if method != b"OPTIONS":
            raise malformed("the target * is for OPTIONS")
        return target, b"", fields
    if not _ORIGIN_FORM.fullmatch(target):
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        if absolute is None or not AUTHORITY.fullmatch(absolute[1]):
            raise malformed("a malformed request target")
        authority, target = absolute.groups()
        # RFC 9112, 3.2.2: the authority of the target replaces Host.
        fields = [(b"host", authority), *(field for field in fields if field[0] != b"host")]
        if not target.startswith(b"/"):
            target = b"/" + target
    path, _, query = target.partition(b"?")
    return path, query, fields


def _check_expectations(fields: Fields, http_version: str) -> None:
    """Refuse what we cannot do (RFC 9110, 10.1.1).

    A server may ignore an unknown expectation. But proxies have been led astray by odd ones, so
    that they disagreed with the server about whether the content follows.
    """
    if http_version != "1.0" and _members(fields, b"expect") - {b"100-continue"}:
        raise StreamFault(HTTPStatus.EXPECTATION_FAILED, "the only expectation here is 100-continue")


def _open_framer(raw: bytes) -> h11.Connection:
    """Make the h11 connection of one exchange; h11 has the last word on whether this is a request."""
    framer = h11.Connection(h11.SERVER)
    framer.receive_data(raw)
    try:
        framer.next_event()
    except h11.RemoteProtocolError as error:
        raise malformed("a malformed request head") from error
    return framer


def _is_websocket_handshake(method: bytes, fields: Fields, http_version: str) -> bool:
    """Whether this is an opening handshake (RFC 6455, 4.2.1); any other upgrade is ignored (RFC 9110, 7.8)."""
    return (
        method == b"GET"
        and http_version == "1.1"
        and b"websocket" in _members(fields, b"upgrade")
        and b"upgrade" in _members(fields, b"connection")
    )


def _members(fields: Fields, wanted: bytes) -> set[bytes]:
    """Return the members of a list field, in lower case (RFC 9110, 5.6.1)."""
    members = {
        member.strip(b" \t")
        for name, value in fields
        if name == wanted
        for member in value.lower().split(b",")
    }
    return members - {b""}
