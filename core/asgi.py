"""The scope and message types this server speaks, in one place (ASGI 3.0, www 2.5, lifespan 2.0, tls 0.2).

Messages cross the boundary to applications as plain dicts; the TypedDicts here document
their shape and type the places where the server itself builds one.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

Field: TypeAlias = tuple[bytes, bytes]
"""One header or trailer field: a lower-case name and its value. A tuple, so that it may be shared."""

Fields: TypeAlias = list[Field]
Address: TypeAlias = tuple[str, int | None]
"""A host and its port, or the path of a unix socket and None."""

Scope: TypeAlias = dict[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3 application; `core.application` makes one of everything else."""

HTTP_VERSIONS: dict[str, str] = {"version": "3.0", "spec_version": "2.5"}
LIFESPAN_VERSIONS: dict[str, str] = {"version": "3.0", "spec_version": "2.0"}


class TlsExtension(TypedDict):
    """The `tls` extension of a scope (ASGI tls 0.2).

    Attributes:
        server_cert: The certificate the server sent, PEM, or None where it is not known.
        client_cert_chain: The client's certificates, PEM, its own first; empty without one.
        client_cert_name: The subject of the client's certificate as an RFC 4514 string, or None.
        client_cert_error: Why the client's certificate was not accepted, or None.
        tls_version: The protocol version on the wire: 0x0303 is TLS 1.2, 0x0304 is TLS 1.3.
        cipher_suite: The 16-bit number of the cipher suite in the IANA registry.
    """

    server_cert: str | None
    client_cert_chain: list[str]
    client_cert_name: str | None
    client_cert_error: str | None
    tls_version: int | None
    cipher_suite: int | None


class HttpScope(TypedDict):
    """The scope of an HTTP exchange (ASGI www 2.5)."""

    type: Literal["http"]
    asgi: dict[str, str]
    http_version: str
    method: str
    scheme: str
    path: str
    raw_path: bytes
    query_string: bytes
    root_path: str
    headers: Fields
    client: Address | None
    server: Address | None
    state: NotRequired[dict[str, Any]]
    extensions: dict[str, dict[str, Any]]


class WebSocketScope(TypedDict):
    """The scope of a WebSocket exchange (ASGI www 2.5)."""

    type: Literal["websocket"]
    asgi: dict[str, str]
    http_version: str
    scheme: str
    path: str
    raw_path: bytes
    query_string: bytes
    root_path: str
    headers: Fields
    client: Address | None
    server: Address | None
    subprotocols: list[str]
    state: NotRequired[dict[str, Any]]
    extensions: dict[str, dict[str, Any]]
