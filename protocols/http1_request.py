"""A request as the connection sees it, whichever lane read it: the seam between connection and lanes.

`http1_head` reads every head, with h11; `http1_plain` reads those without any oddity, without.
"""

from dataclasses import dataclass
from typing import Protocol

from ..core.asgi import Fields
from ..core.exchange import Head
from ..core.scope import RequestHead


class Content(Protocol):
    """The content of one request."""

    @property
    def remaining(self) -> int:
        """How many bytes are still to come, as far as is known."""

    @property
    def ended(self) -> bool:
        """Whether its end has been read."""

    def take(self, data: bytes) -> bool:
        """Take a whole read, if it is content and nothing else, as it is; tell whether it was taken."""

    def read(self, buffer: bytearray) -> bytes:
        """Take from the front of the buffer what belongs to this content, and decode it.

        Raises:
            StreamFault: With the status to answer. The connection cannot be used any further.
        """


class Response(Protocol):
    """Turns a response into bytes, part by part (RFC 9112, 6).

    Without content-length it is chunked on HTTP/1.1, and ends with the connection on HTTP/1.0.
    """

    @property
    def begun(self) -> bool:
        """Whether the final head has been sent."""

    @property
    def ends_by_close(self) -> bool:
        """Whether only a reset tells the client that the response is cut (RFC 9112, 6.3 and 8)."""

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for 100 Continue, and has had no answer yet (RFC 9110, 10.1.1)."""

    def encode(self, head: Head | None, body: bytes, end: bool, close: bool) -> bytes:
        """Return the bytes of a part of the response.

        Args:
            head: The head, with the first part.
            body: The next of the body.
            end: Whether this is the end.
            close: Whether the head says that the connection will be closed.
        """

    def encode_informational(self, status: int, fields: Fields) -> bytes:
        """Return the bytes of a 1xx head: none for HTTP/1.0, which would take it for the answer."""

    def encode_trailers(self, fields: Fields) -> bytes:
        """Return the bytes of the end; only chunks have a place for trailers (RFC 9112, 7.1.2)."""

    def encode_around(self, length: int) -> tuple[bytes, bytes]:
        """Return the bytes before and after `length` bytes of body that are sent by somebody else."""


@dataclass(slots=True)
class Http1Request(RequestHead):
    """A request head, and how the rest of its exchange is framed.

    Attributes:
        content: Takes the content from the bytes that follow.
        response: Turns the response into bytes.
        keep_alive: Whether the client wants to make another request on this connection.
        upgrade: Whether this is the opening handshake of a WebSocket.
    """

    content: Content
    response: Response
    keep_alive: bool
    upgrade: bool
