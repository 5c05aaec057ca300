"""From the settings to an `ssl.SSLContext`: versions, ciphers, the order of protocols, the certificate."""

import ssl
from contextvars import ContextVar
from typing import Final

from ..core.config import Config
from ..core.errors import ConfigError

CIPHERS: Final = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
"""What TLS 1.2 clients may use: forward secrecy (ECDHE) and authenticated encryption, nothing else.

These are the ciphers of Mozilla's "intermediate" configuration without its DHE ones, which are
slow and which no client needs that has TLS 1.2 at all; none is on the list that HTTP/2 forbids
(RFC 9113, appendix A). Level 2 refuses keys weaker than 112 bits (RSA below 2048). TLS 1.3 has
only good ciphers and is not affected by this list.
"""


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


class ServerContext(ssl.SSLContext):
    """An SSLContext that knows the certificate it serves, for which `ssl` has no getter.

    Attributes:
        certificate: The server's own certificate, PEM, without its chain.
    """

    sslobject_class = ServerSide
    certificate: str | None = None


def alpn_protocols(config: Config) -> tuple[str, ...]:
    """Name the protocols that ALPN may choose, the best first (RFC 7301).

    "http/1.0" is there for clients that offer nothing else, such as `curl --http1.0`.
    """
    http2 = ("h2",) if config.http2 else ()
    http1 = ("http/1.1", "http/1.0") if config.http1 else ()
    return http2 + http1


def server_context(config: Config) -> ServerContext:
    """Make the context that a TLS listener serves with.

    A certificate that has expired, or is not valid yet, is served all the same: a client that
    does not look goes on, and one that does says it better than a server that is down. The
    operator gets a warning.

    Raises:
        ConfigError: The certificate or its key cannot be used.
    """
    # Imports cryptography, for which a server without TLS need not pay.
    from . import certificates  # noqa: PLC0415

    if config.certfile is None:
        raise ConfigError("TLS needs a certificate: give --certfile, and --keyfile if the key is not in it")
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996; RFC 9113, 9.2
    context.set_ciphers(CIPHERS)
    # All that is left is good, so the client chooses: it knows whether its hardware has AES.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_COMPRESSION  # CRIME; RFC 9113, 9.2.1
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs us more than the client; RFC 9113, 9.2.1
    # Session tickets stay on: resumption saves the signature, and the alternative in OpenSSL is a
    # cache of sessions that clients can fill. TLS 1.3 makes a new secret in each resumed session,
    # so a stolen ticket key does not open recorded ones; the key dies with this context. One
    # ticket per handshake, as in Go: whoever resumes gets the next one.
    context.num_tickets = 1
    context.set_alpn_protocols(list(alpn_protocols(config)))
    info = certificates.load_pair(context, config.certfile, config.keyfile, config.keyfile_password)
    certificates.warn_if_not_valid(info, config.certfile)
    context.certificate = info.pem
    return context
