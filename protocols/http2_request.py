"""Reading a request from an HTTP/2 field section (RFC 9113, 8.2 and 8.3).

h2 would end the whole connection for a malformed request; RFC 9113 (8.1.1) makes it an error of
one stream, and on a connection that a proxy shares among clients that is what keeps one client's
fault from the others. So the rules are applied here. Where the RFC leaves a choice, the safe one
is taken: what HTTP/1.1 could not carry, or would carry as something else, is malformed here too,
for the application may pass it on. Knows no connection and no I/O.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from h2.errors import ErrorCodes
from hpack import NeverIndexedHeaderTuple
from hpack.table import HeaderTable

from ..core.asgi import Field, Fields
from ..core.errors import StreamFault
from ..core.scope import RequestHead

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
# RFC 9113, 8.2.1 forbids NUL, CR and LF in a value; RFC 9110, 5.5 the other controls but the tab.
_CONTROLS: Final = bytes({*range(0x20), 0x7F} - {ord("\t")})
_NOT_IN_TARGET: Final = bytes({*range(0x21), ord("#"), *range(0x7F, 0x100)})  # it begins with "/"
_AUTHORITY: Final = re.compile(
    rb"(?:(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
)
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
# Fields that not only the application looks at; of the cookie's, all but the first.
_NOTED: Final = frozenset((b"content-length", b"cookie", b"expect", b"host", b"priority"))
# Names that need no check, as most do: those of HPACK (RFC 7541, A) that mean nothing here.
_ORDINARY: Final = frozenset(
    name for name, _ in HeaderTable.STATIC_TABLE if not name.startswith(b":") and name != b"transfer-encoding"
)
_COMMON_METHODS: Final = frozenset((b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT"))
# A browser sends some fifteen fields with every request, and one or two of them are new each time.
_MAX_KNOWN_NAMES: Final = 64
_MAX_KNOWN_BYTES: Final = 1024  # of a field
# What a promised request never has: its authority is the parent's, and it has no content.
_NEVER_PROMISED: Final = frozenset((b"connection", b"content-length", b"expect", b"host"))
# RFC 7541, 7.1.3: values that are guessed one by one if they get into the tables.
_SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
# A number of bytes that fits 63 bits; anything longer is an attack, not an upload.
_MAX_LENGTH_DIGITS: Final = 18
_LONGEST_REASON: Final = 200


@dataclass(slots=True)
class Http2Request(RequestHead):
    """A well-formed request.

    Attributes:
        protocol: The `:protocol` of an extended CONNECT (RFC 8441), else None.
        length: The content-length in bytes, or None.
        priority: How urgent it is (RFC 9218), or None.
        expects_continue: Whether the client waits for 100 before it sends its content (RFC 9110, 10.1.1).
    """

    protocol: bytes | None
    length: int | None = None
    priority: bytes | None = None
    expects_continue: bool = False


class RequestReader:
    """Reads the requests of one connection.

    A field that a client repeats is checked once: the first one of each name is remembered, within a
    bound, and never for another client. What changes under a name is checked each time.
    """

    __slots__ = ("_control", "_host", "_known", "_last", "_method", "_names", "_said", "_said_fields")

    def __init__(self) -> None:
        self._last: Fields | None = None  # many a client says the same again and again
        self._said: Http2Request | None = None  # what it says, once it has come twice
        self._said_fields: Fields = []
        self._control: dict[bytes, bytes] | None = (
            None  # the last control data but the path, if there was one
        )
        self._method = ""
        self._names: set[bytes] = set()
        self._known: set[Field] = set()
        # The last one that was good, and a good one to begin with.
        self._host: Field = (b"host", b"localhost")

    def read(self, section: Fields) -> Http2Request:
        """Read a request, which is good until the next one is read.

        Raises:
            StreamFault: It is malformed; the code is PROTOCOL_ERROR.
        """
        if section != self._last:
            self._last, self._said = section, None
            return self._read(section)
        said = self._said
        if said is None:
            said = self._said = self._read(section)
            self._said_fields = said.fields
        said.fields = self._said_fields.copy()
        return said

    def _read(self, section: Fields) -> Http2Request:
        control: dict[bytes, bytes] = {}
        for name, value in section:
            if name not in _PSEUDO:
                break
            if name in control:
                raise _malformed(f"pseudo-header field {name!r} is repeated")
            control[name] = value
        fields = section[len(control) :]
        target = control.pop(b":path", None)
        if control != self._control:
            _check_control(control)
            self._control, self._method = control, control[b":method"].decode("ascii")
        _check_target(control, target)
        path, _, query = (target or b"").partition(b"?")
        noted = self._check_fields(fields)
        request = Http2Request(self._method, path, query, fields, "2", control.get(b":protocol"))
        authority = control.get(b":authority", b"")
        if noted:
            authority = _authority(control, noted)
            _note(request, noted)
        if authority != self._host[1]:
            self._host = _host(authority)
        request.fields.insert(0, self._host)
        return request

    def _check_fields(self, fields: Fields) -> Fields:
        """Check fields; return those that not only the application looks at."""
        known, names = self._known, self._names
        noted: Fields = []
        cookie = None
        for field in [field for field in fields if field not in known]:
            name, value = field
            if value.strip().translate(None, _CONTROLS) != value:  # as `_check_value` does, without the call
                raise _malformed(f"the value of {name!r}")
            if name == b"cookie" and cookie is None:
                cookie = field  # alone it is a field like any other
            elif name in _NOTED:
                noted.append(field)
            elif name not in names:
                if name not in _ORDINARY:
                    _check_name(name, value)
                if name != b"te" and len(name) + len(value) <= _MAX_KNOWN_BYTES:
                    self._remember(field)
        return noted

    def _remember(self, field: Field) -> None:
        if len(self._names) >= _MAX_KNOWN_NAMES:
            self._names.clear()
            self._known.clear()
        self._names.add(field[0])
        self._known.add(field)


def promised_request(
    path: bytes, fields: Fields, authority: bytes, *, secure: bool
) -> tuple[RequestHead, Fields]:
    """Make the request that a PUSH_PROMISE promises to answer (RFC 9113, 8.4): a GET.

    Args:
        path: Its path and query, checked.
        fields: Its fields, checked; those that a promised request cannot have are left out.
        authority: The parent's.
        secure: Whether the connection is TLS.

    Returns:
        The head that goes into the scope, and the field section to send.
    """
    own = [field for field in fields if field[0] not in _NEVER_PROMISED]
    pseudo = [
        (b":method", b"GET"),
        (b":scheme", b"https" if secure else b"http"),
        (b":authority", authority),
        (b":path", path),
    ]
    sent = [_guarded(field) for field in own]
    raw_path, _, query = path.partition(b"?")
    return RequestHead("GET", raw_path, query, [(b"host", authority), *own], "2"), [*pseudo, *sent]


def check_trailers(section: Iterable[tuple[bytes, bytes]], *, tunnel: bool = False) -> None:
    """Check a trailer section (RFC 9113, 8.1); a tunnel has none (8.5).

    Raises:
        StreamFault: It is malformed; the code is PROTOCOL_ERROR.
    """
    if tunnel:
        raise _malformed("HEADERS in a tunnel")
    for name, value in section:
        _check_value(name, value)
        _check_name(name, value)


def check_content(length: int | None, received: int) -> None:
    """Hold the content that came against the content-length that was announced (RFC 9113, 8.1.1).

    Raises:
        StreamFault: They differ; the code is PROTOCOL_ERROR.
    """
    if length is not None and received != length:
        raise _malformed(f"{received} bytes of content instead of {length}")


def _guarded(field: Field) -> Any:
    """Return a field as it is sent; one whose value is secret says so to both encoders."""
    return NeverIndexedHeaderTuple(*field) if field[0] in _SECRET else field


def _malformed(reason: str) -> StreamFault:
    if len(reason) > _LONGEST_REASON:  # there is a name in it
        reason = f"{reason[: _LONGEST_REASON // 2]}...{reason[-_LONGEST_REASON // 2 :]}"
    return StreamFault(ErrorCodes.PROTOCOL_ERROR, f"malformed request: {reason}")


def _check_name(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise _malformed(f"{name!r} is not a field name in lower case")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
        raise _malformed(f"{name!r} belongs to a connection, not to a request")


def _check_value(name: bytes, value: bytes) -> None:
    """Refuse a value with a control character in it, or with white space around it (RFC 9113, 8.2.1)."""
    if value.strip().translate(None, _CONTROLS) != value:
        raise _malformed(f"the value of {name!r}")


def _check_control(control: dict[bytes, bytes]) -> None:
    """Check the control data but the path (RFC 9113, 8.3.1 and 8.5; RFC 8441, 4)."""
    method = control.get(b":method", b"")
    if method not in _COMMON_METHODS and not _NAME.fullmatch(method.lower()):
        raise _malformed("no valid :method")
    connect, extended = method == b"CONNECT", b":protocol" in control
    if extended:
        if not connect:
            raise _malformed(":protocol without CONNECT")
        _check_value(b":protocol", control[b":protocol"])
    if connect and not extended:
        if b":scheme" in control or b":authority" not in control:
            raise _malformed("CONNECT has :authority alone")
    elif control.get(b":scheme") not in (b"http", b"https"):
        raise _malformed("no valid :scheme")


def _check_target(control: dict[bytes, bytes], target: bytes | None) -> None:
    """Check the `:path` that comes with other control data, which is good."""
    if b":scheme" not in control:  # a plain CONNECT
        if target is not None:
            raise _malformed("CONNECT has :authority alone")
    elif target is None or not (
        (target[:1] == b"/" and target.translate(None, _NOT_IN_TARGET) == target)
        or (target == b"*" and control[b":method"] == b"OPTIONS")
    ):
        raise _malformed("no valid :path")


def _authority(pseudo: dict[bytes, bytes], fields: Fields) -> bytes:
    """Return the one authority; `host` may repeat it, but not contradict it (RFC 9113, 8.3.1)."""
    hosts = [value for name, value in fields if name == b"host"]
    authority = pseudo.get(b":authority", hosts[0] if hosts else b"")
    if len(hosts) > 1 or any(host.lower() != authority.lower() for host in hosts):
        raise _malformed("host and :authority differ, or there are several")
    return authority


def _host(authority: bytes) -> Field:
    if not _AUTHORITY.fullmatch(authority):
        raise _malformed("no valid :authority")
    return (b"host", authority)


def _note(request: Http2Request, noted: Fields) -> None:
    """Put into a request what its fields say about it, and its fields in order."""
    crumbled = False
    for name, value in noted:
        if name == b"cookie":
            crumbled = True
        elif name == b"content-length":
            if request.length is not None or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                raise _malformed("content-length is one number of bytes")
            request.length = int(value)
        elif name == b"priority":
            request.priority = value
        elif name == b"expect":
            request.expects_continue = value.lower() == b"100-continue"
        else:
            request.fields = [field for field in request.fields if field[0] != b"host"]
    if crumbled:
        request.fields = _joined(request.fields)


def _joined(fields: Fields) -> Fields:
    """Join the crumbs of the cookie where the first one stood (RFC 9113, 8.2.3)."""
    crumbs = [value for name, value in fields if name == b"cookie"]
    joined: Fields = []
    for field in fields:
        if field[0] != b"cookie":
            joined.append(field)
        elif crumbs:
            joined.append((b"cookie", b"; ".join(crumbs)))
            crumbs = []
    return joined
