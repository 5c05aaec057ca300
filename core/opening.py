"""The door of the core: from a request head that a wire has read to the exchange that serves it."""

from http import HTTPStatus

from .asgi import Scope
from .errors import StreamFault
from .exchange import Stream
from .http import HttpExchange
from .proxies import AllowedHosts
from .scope import ConnectionFacts, RequestHead, http_scope, websocket_scope
from .websocket import WebSocketExchange
from .worker import Worker


def open_exchange(
    worker: Worker, stream: Stream, facts: ConnectionFacts, head: RequestHead, websocket: bool
) -> HttpExchange | WebSocketExchange:
    """Make the exchange of a request; the wire feeds it, then has the dispatcher start it.

    Args:
        worker: What the connection shares with its siblings.
        stream: The wire's half.
        facts: Of the connection.
        head: The request, checked.
        websocket: Whether it is the opening handshake of a WebSocket.

    Raises:
        StreamFault: It is refused; the code is the HTTP status to answer.
    """
    if not websocket:
        scope = http_scope(facts, head, stream.new_extensions())
        if worker.allowed_hosts is not None:
            _check_host(worker.allowed_hosts, scope)
        return HttpExchange(worker, stream, scope)
    handshake = worker.open_handshake(head.fields, head.http_version, worker.config)
    scope = websocket_scope(facts, head, stream.new_extensions(), handshake.subprotocols)
    if worker.allowed_hosts is not None:
        _check_host(worker.allowed_hosts, scope)
    return WebSocketExchange(worker, stream, scope, handshake)


def tell_refusal(  # noqa: PLR0913 - one argument per fact
    worker: Worker,
    facts: ConnectionFacts,
    head: RequestHead | None,
    *,
    status: int,
    length: int,
    stream_id: int = 0,
) -> None:
    """Tell the observers of an answer that a wire gave, because no application was to see the request.

    Args:
        worker: What the connection shares with its siblings.
        facts: Of the connection.
        head: The head of the request; None if not even that could be read.
        status: The status of the answer.
        length: Content sent, in bytes.
        stream_id: The HTTP/2 stream; 0 on HTTP/1.
    """
    if not worker.observers:
        return
    scope: Scope
    if head is None:
        scope = {"client": facts.client, "scheme": "https" if facts.secure else "http", "extensions": {}}
        if facts.secure:
            scope["extensions"]["tls"] = facts.tls
    else:
        scope = http_scope(facts, head, {})
    for observe in worker.observers:
        observe((scope, status, [], length, None, worker.clock.now(), stream_id))


def _check_host(allowed_hosts: AllowedHosts, scope: Scope) -> None:
    """Hold the authority against `--allowed-hosts`: 421 says that this server does not speak for it.

    (RFC 9110, 15.5.20; an application that builds links from Host must not be told just any.)
    """
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    if host not in allowed_hosts:
        raise StreamFault(HTTPStatus.MISDIRECTED_REQUEST, "this server does not serve that host")
