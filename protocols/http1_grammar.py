"""What head and trailer section have in common: tokens and field lines (RFC 9110, 5; RFC 9112, 5)."""

import re
from http import HTTPStatus
from typing import Final

from ..core.asgi import Field
from ..core.errors import StreamFault

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
"""RFC 9110, 5.6.2. Possessive, so that what does not match is told so in linear time."""

FIELD_LINE: Final = re.compile(rb"(%b):([\t\x20-\x7e\x80-\xff]*+)" % TOKEN)
"""No control character but the tab, and no white space before the colon."""

AUTHORITY: Final = re.compile(
    rb"(?:(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
)
"""RFC 3986, 3.2.2 and 3.2.3: a registered name or IPv4 address, or an IP literal; then perhaps a port.
An empty name would be legal there, but not in the URI of a resource (RFC 9110, 4.2.1)."""

LENGTH: Final = re.compile(rb"[0-9]{1,18}")
"""A number of bytes that fits 63 bits; anything longer is an attack, not an upload."""

# What a WebSocket's handshake has, and keeps in its scope for as long as it is open: one object for all of them.
_NAMES: Final = {
    name: name
    for name in (
        *(b"host", b"upgrade", b"connection", b"origin", b"user-agent", b"cookie", b"authorization"),
        *(
            b"sec-websocket-key",
            b"sec-websocket-version",
            b"sec-websocket-protocol",
            b"sec-websocket-extensions",
        ),
        *(
            b"accept-encoding",
            b"accept-language",
            b"cache-control",
            b"pragma",
            b"x-forwarded-for",
            b"x-forwarded-proto",
        ),
    )
}


def malformed(reason: str) -> StreamFault:
    """Make the fault of a request that is not one."""
    return StreamFault(HTTPStatus.BAD_REQUEST, reason)


def read_field(line: bytes) -> Field:
    """Read a field line, given without its line end; the name comes back in lower case.

    Raises:
        StreamFault: It is not one (400).
    """
    field = FIELD_LINE.fullmatch(line)
    if field is None:
        if line[:1] in (b" ", b"\t"):
            raise malformed("a folded field line (RFC 9112, 5.2)")
        raise malformed("a malformed field line")
    name = field[1].lower()
    return _NAMES.get(name, name), field[2].strip(b" \t")
