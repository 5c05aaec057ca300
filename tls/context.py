"""From the settings to `ssl.SSLContext`s: versions, ciphers, protocols, certificates and who gets which."""

import ssl
from collections.abc import Sequence
from typing import Final

from ..core.config import Config
from ..core.errors import ConfigError
from .certificates import CertificateInfo, certificate_pairs, load_pair, warn_if_not_valid
from .clients import verify_clients
from .handshake import ServerSide, alpn_protocols
from .passwords import key_password
from .session_tickets import share_tickets

CIPHERS: Final = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
"""What TLS 1.2 clients may use: forward secrecy (ECDHE) and authenticated encryption, nothing else.

These are the ciphers of Mozilla's "intermediate" configuration without its DHE ones, which are
slow and which no client needs that has TLS 1.2 at all; none is on the list that HTTP/2 forbids
(RFC 9113, appendix A). Level 2 refuses keys weaker than 112 bits (RSA below 2048). TLS 1.3 has
only good ciphers and is not affected by this list.
"""

_VERSIONS: Final = {
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}  # RFC 9113, 9.2: not below 1.2


class ServerContext(ssl.SSLContext):
    """An SSLContext that knows the certificate it serves, for which `ssl` has no getter.

    Attributes:
        certificate: The server's own certificate, PEM, without its chain.
        judges: What clients are held against, as settings and contents of files.
    """

    sslobject_class = ServerSide
    certificate: str | None = None
    judges: tuple[bytes, ...] = ()


class ServerContexts:
    """One context per certificate, and which of them serves whom.

    Attributes:
        certificates: What the certificates say, in the order of the settings.
    """

    def __init__(self, contexts: Sequence[ServerContext], certificates: Sequence[CertificateInfo]) -> None:
        self.certificates = tuple(certificates)
        self._contexts = tuple(contexts)
        self._default = contexts[0]
        self._by_name: dict[bytes, ServerContext] = {}
        for context, certificate in zip(contexts, certificates, strict=True):
            for name in certificate.names:
                self._by_name.setdefault(name.lower().encode(), context)

    def choose(self, server_name: bytes | None) -> ServerContext:
        """Choose the context for a client that wants to reach `server_name`.

        A certificate for that very name goes before one with a wildcard, which stands for exactly
        one label, the left-most (RFC 9525, 6.3). A name that no certificate has, or none at all, gets
        the first: the client then says best what is wrong. (nginx and Go do so too.)
        """
        if server_name is None:
            return self._default
        name = server_name.lower()
        wildcard = b"*." + name.partition(b".")[2]
        return self._by_name.get(name) or self._by_name.get(wildcard) or self._default

    def share_tickets(self, *secrets: bytes) -> None:
        """Resume what servers with the same secrets have begun, and nobody else, where that is possible.

        A session that is resumed is not judged again. So a ticket is read only where its client would have
        been judged alike (the judgement of another virtual host is CVE-2025-23419 of nginx), and by the same
        certificate. Where the files have changed, there is a full handshake.
        """
        for context in self._contexts:
            assert context.certificate is not None
            if share_tickets(context, *secrets, context.certificate.encode(), *context.judges):
                context.num_tickets = 1


def server_contexts(config: Config) -> ServerContexts:
    """Make the contexts that a TLS listener serves with, one per certificate.

    A certificate that has expired, or is not valid yet, is served all the same: a client that
    does not look goes on, and one that does says it better than a server that is down. The
    operator gets a warning.

    Raises:
        ConfigError: A certificate, its key or what clients are held against cannot be used.
    """
    if not config.certfile:
        raise ConfigError("TLS needs a certificate: give --certfile, and --keyfile if the key is not in it")
    password = key_password(config)
    contexts = []
    certificates = []
    for pair in certificate_pairs(config):
        context = _bare_context(config)
        info = load_pair(context, pair, password)
        warn_if_not_valid(info, pair.certfile)
        context.certificate = info.pem
        contexts.append(context)
        certificates.append(info)
    return ServerContexts(contexts, certificates)


def _bare_context(config: Config) -> ServerContext:
    """Make a context that has no certificate yet."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.tls_min]
    context.set_ciphers(CIPHERS)
    # All that is left is good, so the client chooses: it knows whether its hardware has AES.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_COMPRESSION  # CRIME; RFC 9113, 9.2.1
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs us more than the client; RFC 9113, 9.2.1
    # Session tickets stay on: resumption saves the signature, and the alternative in OpenSSL is a
    # cache of sessions that clients can fill. TLS 1.3 makes a new secret in each resumed session,
    # so a stolen ticket key does not open recorded ones. One ticket per handshake, as in Go: whoever
    # resumes gets the next one.
    # Until `share_tickets` succeeds, the key is this context's own, and TLS 1.3 makes no tickets that only one
    # of several workers could read; nor for clients with certificates, who would never be judged again: each
    # ticket is good for two hours, but so is the next one. TLS 1.2 keeps its tickets, or there would be that cache.
    context.num_tickets = 1 if config.workers == 1 and config.client_auth == "none" else 0
    context.set_alpn_protocols(list(alpn_protocols(config)))
    contents = verify_clients(context, config)
    context.judges = (config.tls_min.encode(), config.client_auth.encode(), *contents)
    return context
