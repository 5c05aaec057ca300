"""What new TLS connections are served with, replaced in place when its files change.

Invariants:
- Connections that are there keep what they began with; only new handshakes get what is new.
- All or nothing: files that cannot be used as a whole change nothing, and are one line in the log, once.
- The files are looked at every few seconds rather than watched. So every way of replacing one is
  noticed, on every file system: written in place, renamed over, or a symlink above it turned to
  another folder, as Kubernetes does.
- Whoever resumes a session, with whichever worker, is judged anew after two hours at the latest.
"""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ..core.clock import NEVER, Clock, Timed
from ..core.config import Config
from ..core.errors import ConfigError
from ..core.log import error_log
from .context import ServerContext, server_contexts

POLL_SECONDS: Final = 5.0
"""How often the files are looked at. What has changed is used when it has not changed again by the
next time: whoever writes a certificate and then its key needs a moment. (controller-runtime: 10.)"""

TICKET_KEY_SECONDS: Final = 2 * 3600.0
"""How long a key of session tickets is used. OpenSSL lets a ticket live for as long, but in TLS 1.3 whoever
resumes gets a new one, and so on without end; RFC 8446 (4.6.1) recommends one. (Caddy: 12 hours; nginx: none.)"""

_Identity: TypeAlias = tuple[int, int, int, int] | None
"""What tells one state of a file from another: device, inode, size in bytes, time of change. None: no file."""


class ServedTls:
    """The certificates of a server, and what its clients are held against.

    Attributes:
        deadline: When to look at the files again.
    """

    def __init__(self, config: Config, clock: Clock, ticket_secret: bytes | None = None) -> None:
        """Load everything.

        Args:
            config: The settings.
            clock: The time.
            ticket_secret: What servers share that resume each other's sessions.

        Raises:
            ConfigError: A file cannot be used.
        """
        self.deadline = NEVER
        self._config = config
        self._clock = clock
        self._ticket_secret = ticket_secret or secrets.token_bytes(32)
        others = (config.keyfile_password_file, config.client_ca, config.client_crl)
        self._files = [
            Path(path) for path in (*config.certfile, *config.keyfile, *others) if path is not None
        ]
        # Looked at before they are read: what changes meanwhile is noticed later, not missed.
        self._seen = self._tried = self._look()
        self._contexts = server_contexts(config)
        self._share_tickets()

    @property
    def names(self) -> str:
        """The hosts that the certificates in use are for."""
        return "; ".join(", ".join(each.names) for each in self._contexts.certificates)

    def choose(self, server_name: bytes | None) -> ServerContext:
        """Choose the context for a new client that wants to reach `server_name`."""
        return self._contexts.choose(server_name)

    def start(self) -> None:
        """Begin to look at the files."""
        self.deadline = self._clock.now() + POLL_SECONDS
        self._clock.watch(self)

    def stop(self) -> None:
        """Stop looking."""
        self._clock.forget(self)

    def expire(self) -> None:
        """Look at the files, and load them when they have changed and are at rest; renew the key of tickets."""
        self.deadline = self._clock.now() + POLL_SECONDS
        before, self._seen = self._seen, self._look()
        if self._seen == before != self._tried:
            self.reload()
        if self._ticket_key != self._present_ticket_key():
            self._share_tickets()

    def reload(self) -> bool:
        """Read the files again; what is wrong with them is logged.

        It takes some milliseconds, in which nobody else is served.

        Returns:
            Whether what they have is in use now.
        """
        self._tried = self._look()
        try:
            self._contexts = server_contexts(self._config)
        except ConfigError as error:
            error_log.error("the certificates in use stay: %s", error)
            return False
        self._share_tickets()
        first = min(each.not_after for each in self._contexts.certificates)
        error_log.info("new certificates are in use: %s (until %s)", self.names, f"{first:%Y-%m-%d}")
        return True

    def _share_tickets(self) -> None:
        self._ticket_key = self._present_ticket_key()
        self._contexts.share_tickets(self._ticket_secret, b"%d" % self._ticket_key)

    def _present_ticket_key(self) -> int:
        """Return the number of the key to use now, the same in every process of this computer."""
        return int(self._clock.now() // TICKET_KEY_SECONDS)

    def _look(self) -> list[_Identity]:
        return [_identity(path) for path in self._files]


def _identity(path: Path) -> _Identity:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


if TYPE_CHECKING:
    _: type[Timed] = ServedTls
