"""From a request head and the facts of its connection to an ASGI scope."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from .asgi import HTTP_VERSIONS, Address, Fields, Scope, TlsExtension
from .proxies import Hop, TrustedProxies


class ConnectionFacts:
    """What does not change during a connection: who talks to whom, and how it is secured.

    Attributes:
        client: The peer's host and port, or None where it has none (a unix socket).
        server: Our host and port, or the path of the unix socket and None.
        secure: Whether the connection is TLS.
        root_path: The prefix under which the application is mounted.
        state: What the application left in its lifespan state; copied for each request.
        proxies: Whom to believe about the client, if the peer is a trusted proxy; else None.
    """

    __slots__ = ("_make_tls", "_tls", "client", "proxies", "root_path", "secure", "server", "state")

    def __init__(  # noqa: PLR0913 - one argument per fact
        self,
        client: Address | None = None,
        server: Address | None = None,
        *,
        make_tls: Callable[[], TlsExtension] | None = None,
        root_path: str = "",
        state: Mapping[str, Any] | None = None,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self.client = client
        self.server = server
        self.secure = make_tls is not None
        self.root_path = root_path
        self.state = state
        self.proxies = proxies if proxies is not None and proxies.trusts(client) else None
        self._make_tls = make_tls
        self._tls: TlsExtension | None = None

    @property
    def limited_client(self) -> Address | None:
        """Whose connections are counted; None for a trusted proxy, who comes for many."""
        return self.client if self.proxies is None else None

    @property
    def tls(self) -> TlsExtension | None:
        """The `tls` extension: built once, when first needed; None on clear connections."""
        if self._tls is None and self._make_tls is not None:
            self._tls = self._make_tls()
        return self._tls


@dataclass(slots=True)
class RequestHead:
    """A request head as a wire read it: checked, names in lower case, pseudo-headers removed."""

    method: str
    path: bytes
    query: bytes
    fields: Fields
    http_version: str


def http_scope(facts: ConnectionFacts, request: RequestHead, extensions: dict[str, dict[str, Any]]) -> Scope:
    """Build the scope of an HTTP exchange (ASGI www 2.5).

    Args:
        facts: Of the connection.
        request: The head; its fields become the scope's.
        extensions: Of the stream; they become the scope's, which may change them.
    """
    path, root_path = request.path, facts.root_path
    scope = _HTTP.copy()  # to fill a copy takes half the time that a dict of so many keys takes
    scope["asgi"] = HTTP_VERSIONS.copy()
    scope["http_version"] = request.http_version
    scope["method"] = request.method
    scope["path"] = root_path + decode_path(path)
    scope["raw_path"] = path
    scope["query_string"] = request.query
    scope["root_path"] = root_path
    scope["headers"] = request.fields
    scope["client"] = facts.client
    scope["server"] = facts.server
    scope["extensions"] = extensions
    if facts.secure:
        scope["scheme"] = "https"
        if (tls := facts.tls) is not None:
            extensions["tls"] = {**tls, "client_cert_chain": list(tls["client_cert_chain"])}
    if facts.state is not None:
        scope["state"] = dict(facts.state)
    if facts.proxies is not None:
        _believe(facts.proxies.read(request.fields), scope, request)
    return scope


def websocket_scope(
    facts: ConnectionFacts,
    request: RequestHead,
    extensions: dict[str, dict[str, Any]],
    subprotocols: list[str],
) -> Scope:
    """Build the scope of a WebSocket exchange (ASGI www 2.5); see `http_scope`."""
    scope = http_scope(facts, request, extensions)
    del scope["method"]
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["subprotocols"] = subprotocols
    return scope


_HTTP: Final[Scope] = {
    "type": "http",
    "asgi": HTTP_VERSIONS,
    "http_version": "",
    "method": "",
    "scheme": "http",
    "path": "",
    "raw_path": b"",
    "query_string": b"",
    "root_path": "",
    "headers": [],
    "client": None,
    "server": None,
    "extensions": {},
}


def _believe(said: Hop, scope: Scope, request: RequestHead) -> None:
    """Put what a trusted proxy said about the client in the place of what we see of the proxy."""
    if said.client is not None:
        scope["client"] = said.client
    if said.scheme is not None:
        scope["scheme"] = "https" if said.scheme == b"https" else "http"
    if said.host is not None:
        others = (field for field in request.fields if field[0] != b"host")
        scope["headers"] = [(b"host", said.host), *others]
    if said.prefix is not None:
        scope["root_path"] += said.prefix.decode("ascii")
        scope["path"] = scope["root_path"] + decode_path(request.path)


def decode_path(raw: bytes) -> str:
    """Percent-decode a path once; bytes that are not UTF-8 become U+FFFD (`raw_path` keeps them)."""
    if raw.find(b"%") >= 0:  # `in` tries first whether it has been given a number, which takes longest
        raw = unquote_to_bytes(raw)
    return raw.decode("utf-8", "replace")
