"""TLS without a network: contexts from the settings, and handshakes in memory."""

import ssl
from typing import Any

from alphorn.core.config import Config
from alphorn.tls.context import ServerContext, ServerContexts, server_contexts

from .certificates import Pair


def config_of(*pairs: Pair, **settings: Any) -> Config:
    """The settings of a server with these certificates."""
    certfiles, keyfiles = (tuple(files) for files in zip(*pairs, strict=True))
    return Config(certfile=certfiles, keyfile=keyfiles, **settings)


def contexts_of(*pairs: Pair, **settings: Any) -> ServerContexts:
    """What a server with these certificates serves with; its workers resume each other's sessions."""
    contexts = server_contexts(config_of(*pairs, **settings))
    contexts.share_tickets(b"secret of the service")
    return contexts


def context_of(pair: Pair, **settings: Any) -> ServerContext:
    """The same for one certificate."""
    return contexts_of(pair, **settings).choose(None)


class Handshake:
    """A handshake in memory, and its two ends.

    Attributes:
        client: The TLS of the client.
        server: The TLS of the server.
    """

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
        *,
        name: str = "localhost",
    ) -> None:
        """Shake hands.

        Args:
            server: The context of the server.
            client: That of the client.
            session: One to resume.
            name: Whom the client wants to reach.

        Raises:
            ssl.SSLError: It failed; for the client's fault the server says so.
        """
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
        for _ in range(3):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                    end.read(1)
                except ssl.SSLWantReadError:
                    continue
