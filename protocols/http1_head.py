"""Reading a request head strictly: h11 parses it, and what h11 would let through is refused here.

Where RFC 9112 gives a recipient the choice, the safe one is taken: two parties that read the same
bytes differently are how requests are smuggled. Knows no connection and no I/O.
"""

import re
from http import HTTPStatus
from typing import Final

import h11

from ..core.asgi import Fields
from ..core.errors import StreamFault
from ..core.scope import RequestHead

# RFC 9112, 2.2: a recipient may accept a bare LF, and one that does can be smuggled through. We refuse.
_BARE_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_OBSOLETE_FOLD: Final = re.compile(rb"\r\n[ \t]")
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/1\.[0-9]")
_FORBIDDEN_IN_HEAD: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# RFC 3986, 3.2.2 and 3.2.3: a registered name or IPv4 address, or an IP literal; then perhaps a port.
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?"
)
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#]+)(.*)", re.DOTALL)
# A number of bytes that fits 63 bits; anything longer is an attack, not an upload.
_MAX_LENGTH_DIGITS: Final = 18


class Http1Request:
    """A request head, and the h11 connection that frames its content and its response."""

    __slots__ = ("framer", "head", "keep_alive", "upgrade")

    def __init__(self, framer: h11.Connection, head: RequestHead, *, keep_alive: bool, upgrade: bool) -> None:
        self.framer = framer
        self.head = head
        self.keep_alive = keep_alive
        self.upgrade = upgrade


def check_unfinished(data: bytes | bytearray, max_head_bytes: int) -> None:
    """Refuse as early as it can be known what will never become a request head.

    Raises:
        StreamFault: With the status to answer (400, 414, 431).
    """
    if len(data) > max_head_bytes:
        raise _too_large(data)
    if data.endswith(b"\r"):
        data = data[:-1]
    if _BARE_LINE_END.search(data):
        raise StreamFault(HTTPStatus.BAD_REQUEST, "a line ends in CR LF, never in one of them alone")


def read_head(raw: bytes, *, max_head_bytes: int, max_fields: int) -> Http1Request:
    """Read a whole request head.

    Args:
        raw: The head, with the empty line that ends it.
        max_head_bytes: The largest head, in bytes.
        max_fields: The most fields.

    Raises:
        StreamFault: With the status to answer.
    """
    check_unfinished(raw, max_head_bytes)
    _check_lines(raw, max_fields)
    framer = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head_bytes)
    framer.receive_data(raw)
    try:
        event = framer.next_event()
    except h11.RemoteProtocolError as error:
        raise StreamFault(error.error_status_hint, str(error)) from error
    if not isinstance(event, h11.Request):
        raise StreamFault(HTTPStatus.BAD_REQUEST, "not a request head")
    fields: Fields = [(bytes(name), bytes(value)) for name, value in event.headers]
    http_version = "1.0" if event.http_version == b"1.0" else "1.1"
    _check_framing(fields, http_version)
    path, query, fields = _read_target(bytes(event.method), bytes(event.target), fields, http_version)
    head = RequestHead(event.method.decode("ascii"), path, query, fields, http_version)
    return Http1Request(
        framer, head, keep_alive=_keeps_alive(fields, http_version), upgrade=_wants_websocket(head)
    )


def _check_lines(raw: bytes, max_fields: int) -> None:
    line, _, section = raw.partition(b"\r\n")
    if not _REQUEST_LINE.fullmatch(line):
        version = line.rpartition(b" ")[2]
        if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version) and not version.startswith(b"HTTP/1."):
            raise StreamFault(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this is an HTTP/1.1 connection")
        raise StreamFault(HTTPStatus.BAD_REQUEST, "malformed request line")
    method = line.partition(b" ")[0]
    if method != method.upper():  # `get` is not GET (RFC 9110, 9.1), and a scope cannot say it
        raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "methods are in upper case")
    if _OBSOLETE_FOLD.search(raw):
        raise StreamFault(HTTPStatus.BAD_REQUEST, "a folded field line (RFC 9112, 5.2)")
    if _FORBIDDEN_IN_HEAD.search(section):
        raise StreamFault(HTTPStatus.BAD_REQUEST, "a control character in a field")
    if section.count(b"\r\n") - 1 > max_fields:
        raise StreamFault(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many fields")


def _check_framing(fields: Fields, http_version: str) -> None:
    """Refuse every doubt about where the content ends (RFC 9112, 6.1 and 6.3)."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if lengths and (len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > _MAX_LENGTH_DIGITS):
        raise StreamFault(HTTPStatus.BAD_REQUEST, "content-length is one number of bytes")
    if not codings:
        return
    if lengths:
        raise StreamFault(HTTPStatus.BAD_REQUEST, "both content-length and transfer-encoding")
    if http_version == "1.0":
        raise StreamFault(HTTPStatus.BAD_REQUEST, "transfer-encoding in HTTP/1.0")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "the only transfer coding here is chunked")


def _read_target(
    method: bytes, target: bytes, fields: Fields, http_version: str
) -> tuple[bytes, bytes, Fields]:
    """Read the request target in its four forms (RFC 9112, 3.2), and hold it against Host (3.2)."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and http_version == "1.1"):
        raise StreamFault(HTTPStatus.BAD_REQUEST, "a request has exactly one Host field")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise StreamFault(HTTPStatus.BAD_REQUEST, "malformed Host field")
    if method == b"CONNECT":
        raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "this is not a proxy")
    if b"#" in target:
        raise StreamFault(HTTPStatus.BAD_REQUEST, "a fragment in the request target")
    if target == b"*":
        if method != b"OPTIONS":
            raise StreamFault(HTTPStatus.BAD_REQUEST, "the target * is for OPTIONS")
        return target, b"", fields
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or not _HOST.fullmatch(absolute[1]):
            raise StreamFault(HTTPStatus.BAD_REQUEST, "malformed request target")
        # RFC 9112, 3.2.2: the authority of the target replaces Host.
        fields = [(name, absolute[1] if name == b"host" else value) for name, value in fields]
        target = absolute[2]
        if not target.startswith(b"/"):
            target = b"/" + target
    path, _, query = target.partition(b"?")
    return path, query, fields


def _connection_options(fields: Fields) -> set[bytes]:
    return {
        option.strip()
        for name, value in fields
        if name == b"connection"
        for option in value.lower().split(b",")
    }


def _keeps_alive(fields: Fields, http_version: str) -> bool:
    return http_version == "1.1" and b"close" not in _connection_options(fields)


def _wants_websocket(head: RequestHead) -> bool:
    """Whether this is an opening handshake (RFC 6455, 4.2.1); any other upgrade is ignored (RFC 9110, 7.8)."""
    if head.method != "GET" or head.http_version != "1.1":
        return False
    upgrades = [value for name, value in head.fields if name == b"upgrade"]
    has_content = any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in head.fields
    )
    wanted = len(upgrades) == 1 and upgrades[0].lower() == b"websocket"
    return wanted and not has_content and b"upgrade" in _connection_options(head.fields)


def _too_large(data: bytes | bytearray) -> StreamFault:
    if b"\r\n" not in data:
        return StreamFault(HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long")
    return StreamFault(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large")
