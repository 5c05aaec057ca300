"""Names of requests: `x-request-id`, and the trace they belong to (W3C Trace Context).

A name that came with the request stays, if it is one and can do no harm in a log; else one is made.
The application sees it among the fields of its request.
"""

import contextlib
import re
import secrets
from typing import Any, Final

from .asgi import Application, Fields, Message, Receive, Scope, Send

REQUEST_ID: Final = b"x-request-id"

_TRACEPARENT: Final = b"traceparent"
# What others make: UUIDs, ULIDs, digits in bases of all kinds, AWS's "Root=1-67891233-abcdef012345678912345678".
_VALID_ID: Final = re.compile(rb"[A-Za-z0-9._~:;+/=@-]{1,128}")
# Version, trace-id, parent-id, flags (Trace Context, 3.2.2); a later version may say more behind a dash.
_VALID_TRACE: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.DOTALL
)
_HEADS: Final = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))


def read_trace_id(traceparent: bytes | None) -> str | None:
    """Return the trace-id of a `traceparent` field, 32 hexadecimal digits; None if it is not valid."""
    found = _VALID_TRACE.fullmatch(traceparent or b"")
    if found is None or (found[1] == b"00" and found[3]):
        return None
    return found[2].decode("ascii")


def name_of(scope: Scope) -> Fields:
    """Return the field that names a request in an answer of the server's own; none if it has no valid name."""
    with contextlib.suppress(Exception):  # by now the scope is the application's
        for name, value in scope["headers"]:
            if name == REQUEST_ID and _VALID_ID.fullmatch(value):
                return [(REQUEST_ID, value)]
    return []


class Named:
    """An application whose requests have names, around one that need not know."""

    def __init__(self, application: Application, *, request_id: bool, trace_context: bool) -> None:
        """Put names around an application.

        Args:
            application: The application.
            request_id: Give each request an `x-request-id`, and its answer the same.
            trace_context: Give each request a `traceparent`.
        """
        self._application = application
        self._request_id = request_id
        self._trace_context = trace_context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the request, then run the application."""
        if scope["type"] != "lifespan":
            if self._trace_context:
                scope["headers"] = _with_trace(scope["headers"])
            if self._request_id:
                scope["headers"], name = _with_id(scope["headers"])
                send = _naming(send, name)
        await self._application(scope, receive, send)


def _with_id(fields: Fields) -> tuple[Fields, bytes]:
    given = [value for name, value in fields if name == REQUEST_ID]
    if len(given) == 1 and _VALID_ID.fullmatch(given[0]):
        return fields, given[0]
    made = secrets.token_hex(16).encode()
    return [*(field for field in fields if field[0] != REQUEST_ID), (REQUEST_ID, made)], made


def _with_trace(fields: Fields) -> Fields:
    """Begin a trace where there is none. What is not valid takes its `tracestate` with it (3.3.1)."""
    given = [value for name, value in fields if name == _TRACEPARENT]
    if len(given) == 1 and read_trace_id(given[0]) is not None:
        return fields
    # "Sampled", because the access log records it; not sampled, libraries would record nothing below it.
    made = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01".encode()
    others = (field for field in fields if field[0] not in (_TRACEPARENT, b"tracestate"))
    return [*others, (_TRACEPARENT, made)]


def _naming(send: Send, name: bytes) -> Send:
    """Return a `send` that adds the name to the head of the answer, unless the application has said one."""

    async def send_named(message: Message) -> None:
        if isinstance(message, dict) and message.get("type") in _HEADS:
            message = {**message, "headers": _add(message.get("headers", ()), name)}
        await send(message)

    return send_named


def _add(pairs: Any, name: bytes) -> Any:
    try:
        fields = list(pairs)
        if any(bytes(field[0]).lower() == REQUEST_ID for field in fields):
            return fields
    except (TypeError, ValueError, IndexError):  # the exchange has the words for what is wrong
        return pairs
    return [*fields, (REQUEST_ID, name)]
