"""The carriers: what one ASGI conversation can travel over."""

from typing import NamedTuple


class Carrier(NamedTuple):
    """A version of HTTP, in the clear or over TLS.

    Attributes:
        name: What a test is called after it.
        http_version: As in the ASGI scope: "1.1" or "2".
        secure: Whether it is TLS.
    """

    name: str
    http_version: str
    secure: bool

    def __str__(self) -> str:
        return self.name


HTTP1_CLEAR = Carrier("http1-clear", "1.1", secure=False)
HTTP1_TLS = Carrier("http1-tls", "1.1", secure=True)
HTTP2_CLEAR = Carrier("http2-clear", "2", secure=False)
HTTP2_TLS = Carrier("http2-tls", "2", secure=True)

HTTP_CARRIERS = (HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS)

WEBSOCKET_CARRIERS = (HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS)
"""RFC 6455 over HTTP/1.1 and RFC 8441 over HTTP/2."""
