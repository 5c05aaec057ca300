"""What the messages of a websocket application say, checked before anything is done about it.

Pure functions from a message to its meaning. Each raises UnexpectedMessage for what cannot be sent.
"""

from typing import Final

from .asgi import Fields, Message
from .errors import UnexpectedMessage
from .fields import checked_fields

_NORMAL: Final = 1000

# What only the server says in the head that accepts (RFC 9110, 7.6.1; RFC 6455, 4.2.2).
_SERVER_ONLY: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)


def read_accept(message: Message) -> tuple[str | None, Fields]:
    """Return the subprotocol and the fields of a `websocket.accept`."""
    subprotocol = message.get("subprotocol")
    if subprotocol is not None and not isinstance(subprotocol, str):
        raise UnexpectedMessage(f"a subprotocol is a str, not {type(subprotocol).__name__}")
    fields = checked_fields(message.get("headers") or (), without=_SERVER_ONLY)
    if any(name == b"sec-websocket-protocol" for name, _ in fields):
        raise UnexpectedMessage("'sec-websocket-protocol' is not a header to accept with: say subprotocol")
    return subprotocol, fields


def read_send(message: Message) -> str | bytes:
    """Return the payload of a `websocket.send`; whether text can be encoded is for the codec to see."""
    text, data = message.get("text"), message.get("bytes")
    if (text is None) == (data is None):
        raise UnexpectedMessage("websocket.send has either bytes or text, and not both")
    if isinstance(text, str):
        return text
    if text is not None:
        raise UnexpectedMessage(f"text is a str, not {type(text).__name__}")
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise UnexpectedMessage(f"bytes are bytes, not {type(data).__name__}")


def read_close(message: Message) -> tuple[int, str]:
    """Return the code and the reason of a `websocket.close`."""
    code, reason = message.get("code"), message.get("reason")
    if code is None:
        code = _NORMAL
    if not isinstance(code, int) or not _is_sendable(code):
        raise UnexpectedMessage(f"{code!r} is not a close code that may be sent (RFC 6455, 7.4)")
    if reason is None:
        reason = ""
    if not isinstance(reason, str):
        raise UnexpectedMessage(f"a reason is a str, not {type(reason).__name__}")
    try:
        reason.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise UnexpectedMessage(f"the reason is not Unicode: {error}") from error
    return code, reason


def read_denial(message: Message) -> Message:
    """Return the `http.response.start` that a `websocket.http.response.start` asks for."""
    status = message.get("status")
    if isinstance(status, int) and 200 <= status < 300:  # over HTTP/2 that would accept (RFC 8441, 4)
        raise UnexpectedMessage(f"{status} does not deny a websocket: say 300 or more")
    return {"type": "http.response.start", "status": status, "headers": message.get("headers") or ()}


def _is_sendable(code: int) -> bool:
    """Whether an application may close with this code; 1005 stands for a close frame without one."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1006))
