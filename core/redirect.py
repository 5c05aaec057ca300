"""`--redirect-bind`: an application that sends whoever comes by http to https.

Knows no TLS: it is served in the clear, on addresses of its own. It is not asked for challenges of
ACME (`/.well-known/acme-challenge/`) either: an authority follows the redirect (RFC 8555, 8.3 lets
it, Let's Encrypt does), and the application may answer there.
"""

import re
from typing import Final

from .asgi import Field, Receive, Scope, Send

HTTPS_PORT: Final = 443

# A host as DNS, an address or a container's name has it (RFC 1123, 2.1, and the underscores of habit);
# what else RFC 3986 would let a name have is in no certificate, and ends up in a field of ours.
_HOST: Final = re.compile(rb"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_PREFIXES: Final = {"http": "http.response", "websocket": "websocket.http.response"}
_SCHEMES: Final = {"http": b"https", "websocket": b"wss"}


class RedirectToHttps:
    """The application: 308, which keeps the method (RFC 9110, 15.4.9), to the same host, path and query."""

    def __init__(self, port: int) -> None:
        """Redirect to this port, which is where clients find https."""
        self._port = b"" if port == HTTPS_PORT else b":%d" % port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        location = self._location(scope)
        fields: list[Field] = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        if location is None:
            status, body = 400, b"Bad Request"
        else:
            status, body = 308, b"This is served over https only."
            fields.append((b"location", location))
        prefix = _PREFIXES[scope["type"]]
        await send({"type": f"{prefix}.start", "status": status, "headers": fields})
        await send({"type": f"{prefix}.body", "body": body})

    def _location(self, scope: Scope) -> bytes | None:
        """Say where to; None when the request does not say whom it wants, or wants nothing there."""
        host = _HOST.fullmatch(next((value for name, value in scope["headers"] if name == b"host"), b""))
        path, query = scope["raw_path"], scope["query_string"]
        if host is None or not path.startswith(b"/"):  # "*" of OPTIONS is no place
            return None
        return b"%b://%b%b%b%b" % (
            _SCHEMES[scope["type"]],
            host[1],
            self._port,
            path,
            b"?" + query if query else b"",
        )
