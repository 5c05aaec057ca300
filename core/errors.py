"""The errors of the server, classed by whose fault they are and by how far they reach.

AlphornError
  ConfigError          the operator's: refuse to start, exit status 2, name the setting and the mend
    ApplicationFailed    likewise: the application's own module or factory raised; carries its traceback
  StartupFailed        the application's lifespan said no: exit status 3
  ShutdownFailed       the application's shutdown said that it failed, or took too long: exit status 4
  WorkersFailed        worker processes end again and again, or did not end well: exit status 1
  WireError            the peer's; carries the answer to give
    StreamFault          this exchange only (`code`: an HTTP status or an HTTP/2 error code)
    ConnectionFault      the whole connection (`code`: likewise)
  UnexpectedMessage    the application's (also a RuntimeError): an ASGI message that the state forbids
  Disconnected         the application's view of a peer that has left (also an OSError)

A peer's fault is never logged as our error; our fault never reaches the peer in detail.
"""

from typing import ClassVar


class AlphornError(Exception):
    """Base of every error that the server itself defines.

    Attributes:
        exit_status: With which the process ends that it ends.
        trace: The traceback to print before the message, if it helps: many lines.
    """

    exit_status: ClassVar[int] = 1
    trace: str = ""


class ConfigError(AlphornError):
    """A mistake of the operator. The message is one line: the cause, then the mend."""

    exit_status = 2


class ApplicationFailed(ConfigError):  # noqa: N818 - says whose failure it is
    """The application's module or factory raised while it was loaded; `trace` has its frames only."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace


class StartupFailed(AlphornError):  # noqa: N818 - the ASGI name of the event
    """The application answered `lifespan.startup.failed`, or raised with `--lifespan on`."""

    exit_status = 3


class ShutdownFailed(AlphornError):  # noqa: N818 - the ASGI name of the event
    """The application answered `lifespan.shutdown.failed`."""

    exit_status = 4


class WorkersFailed(AlphornError):  # noqa: N818 - says whose failure it is
    """The worker processes of a service end again and again, or one did not end well."""


class WireError(AlphornError):
    """A fault of the peer.

    Attributes:
        code: The answer to give: an HTTP status code on HTTP/1.1, an error code (RFC 9113, 7) on HTTP/2.
        limit: The setting whose limit the peer went beyond, if that is what it did.
    """

    def __init__(self, code: int, reason: str, *, limit: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.limit = limit


class StreamFault(WireError):  # noqa: N818 - fault says whose it is
    """A fault that ends one exchange and leaves its neighbours alone."""


class ConnectionFault(WireError):  # noqa: N818
    """A fault after which nothing more of this connection can be trusted."""


class UnexpectedMessage(AlphornError, RuntimeError):  # noqa: N818
    """The application sent a message that is malformed or that its state forbids; raised out of `send()`."""


class Disconnected(AlphornError, OSError):  # noqa: N818 - the ASGI word for it
    """The peer has left; raised out of `send()` (ASGI www 2.4)."""
