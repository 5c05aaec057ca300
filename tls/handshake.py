"""What a server's side of a TLS handshake needs beyond `ssl`: its protocols, and a word to those who fail.

Loads nothing heavy: a server without TLS has this too.
"""

import ssl
from contextvars import ContextVar
from typing import Final

from ..core.config import Config

FAILURES: Final[ContextVar[list[ssl.SSLError]]] = ContextVar("FAILURES")
"""Where a failed handshake leaves its reason, if whoever starts it has set a list in the context."""


class ServerSide(ssl.SSLObject):
    """The TLS of one connection, which tells a client why its handshake failed.

    OpenSSL leaves an alert to be sent then (RFC 8446, 6.2), but asyncio and uvloop close without
    sending it. What they send is what there is when more input is wanted; so that is what they are
    told first. The client, which has its alert, closes. The handshake timeout ends one that does not.
    """

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """Go on with the handshake as far as the input allows.

        Raises:
            ssl.SSLError: It has failed, and the client has been told; or it wants input.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._failure = error.with_traceback(None)  # which would hold this object, and so itself
            FAILURES.get([]).append(error)
            raise ssl.SSLWantReadError("the alert is to be sent first") from None


def alpn_protocols(config: Config) -> tuple[str, ...]:
    """Name the protocols that ALPN may choose, the best first (RFC 7301).

    "http/1.0" is there for clients that offer nothing else, such as `curl --http1.0`.
    """
    http2 = ("h2",) if config.http2 else ()
    http1 = ("http/1.1", "http/1.0") if config.http1 else ()
    return http2 + http1
