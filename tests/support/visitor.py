"""A client that resumes TLS sessions, and blocks: for servers in processes of their own."""

import re
import socket
import ssl

from .certificates import authority
from .process import PATIENCE_SECONDS


class Visitor:
    """A client that comes again and again, with the newest session that it has.

    Attributes:
        reused: Whether it was resumed at the last visit.
    """

    def __init__(self, port: int, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self._port = port
        self._context = authority().client_context("http/1.1")
        self._context.maximum_version = version
        self._session: ssl.SSLSession | None = None
        self.reused: bool | None = None

    def visit(self) -> int:
        """Make a request; return the last number in the answer, which is that of the process that served it."""
        connection = socket.create_connection(("127.0.0.1", self._port), PATIENCE_SECONDS)
        with self._context.wrap_socket(connection, server_hostname="127.0.0.1", session=self._session) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: tls.recv(4096), b""))
            self.reused, self._session = tls.session_reused, tls.session
        return int(re.findall(rb"\d+", answer)[-1])
