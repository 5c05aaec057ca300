"""The response of one HTTP/1 exchange as bytes; h11 frames it (RFC 9112, 6). Knows no connection and no I/O."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import h11

from ..core.asgi import Field, Fields
from ..core.errors import StreamFault
from ..core.exchange import Head
from .http1_request import Response

REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class FramedResponse:
    """Turns a response into bytes, part by part, with h11; see `Response`."""

    __slots__ = ("_framer", "_is_10", "_measured")

    def __init__(self, framer: h11.Connection, http_version: str) -> None:
        self._framer = framer
        self._is_10 = http_version == "1.0"
        self._measured = False

    @property
    def begun(self) -> bool:
        """Whether the final head has been sent."""
        return self._framer.our_state is not h11.SEND_RESPONSE

    @property
    def ends_by_close(self) -> bool:
        """Whether only a reset tells the client that the response is cut (RFC 9112, 6.3 and 8)."""
        return self._is_10 and self.begun and not self._measured

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for 100 Continue, and has had no answer yet (RFC 9110, 10.1.1)."""
        return self._framer.they_are_waiting_for_100_continue

    def encode(self, head: Head | None, body: bytes, end: bool, close: bool) -> bytes:
        """Return the bytes of a part of the response."""
        if head is not None and head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return self.encode_informational(head.status, head.fields)
        framer = self._framer
        parts: list[Any] = []
        if head is not None:
            parts += framer.send_with_data_passthrough(self._final_head(head, close=close)) or ()
        if body:
            parts += framer.send_with_data_passthrough(h11.Data(data=body)) or ()
        if end:
            parts += framer.send_with_data_passthrough(h11.EndOfMessage()) or ()
        return b"".join(parts)

    def encode_informational(self, status: int, fields: Fields) -> bytes:
        """Return the bytes of a 1xx head: none for HTTP/1.0, which would take it for the answer."""
        if self._is_10:
            return b""
        head = h11.InformationalResponse(status_code=status, headers=fields, reason=REASONS[status])
        return self._framer.send(head) or b""

    def encode_trailers(self, fields: Fields) -> bytes:
        """Return the bytes of the end; only chunks have a place for trailers (RFC 9112, 7.1.2)."""
        if self._is_10 or self._measured:
            fields = []
        return self._framer.send(h11.EndOfMessage(headers=fields)) or b""

    def encode_around(self, length: int) -> tuple[bytes, bytes]:
        """Return the bytes before and after `length` bytes of body that are sent by somebody else."""
        event = h11.Data(data=_Placeholder(length))  # type: ignore[arg-type] # h11 asks for its length alone
        pieces: list[Any] = self._framer.send_with_data_passthrough(event) or []
        place = next(i for i, piece in enumerate(pieces) if isinstance(piece, _Placeholder))
        return b"".join(pieces[:place]), b"".join(pieces[place + 1 :])

    def _final_head(self, head: Head, *, close: bool) -> h11.Response:
        fields = head.fields
        self._measured = head.measured
        if close:
            fields = [*fields, (b"connection", b"close")]
        return h11.Response(status_code=head.status, headers=fields, reason=REASONS.get(head.status, b""))


def refusal(fault: StreamFault, date: bytes, server: Field | None, *, bodiless: bool) -> bytes:
    """Return a whole answer to what is not a request, without h11, which could not read it either.

    Args:
        fault: Its code is the status, its reason the text. Nothing that the client sent is in it.
        date: The value of the date field.
        server: The server field, if there is one.
        bodiless: Whether the text is left out, because the method was HEAD.
    """
    text = b"%d %s: %s\n" % (fault.code, REASONS[fault.code], str(fault).encode("ascii", "replace"))
    fields = [
        (b"date", date),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(text)),
        (b"connection", b"close"),
    ]
    if fault.code == HTTPStatus.UPGRADE_REQUIRED:
        fields += [
            (b"connection", b"upgrade"),  # RFC 9110, 7.8
            (b"upgrade", b"websocket"),
            (b"sec-websocket-version", b"13"),
        ]
    if server is not None:
        fields.append(server)
    head = b"HTTP/1.1 %d %s\r\n" % (fault.code, REASONS[fault.code])
    section = b"".join(b"%s: %s\r\n" % field for field in fields)
    return head + section + b"\r\n" + (b"" if bodiless else text)


class _Placeholder:
    """Stands for bytes that h11 does not see."""

    __slots__ = ("_length",)

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


if TYPE_CHECKING:
    _: type[Response] = FramedResponse
