"""From a request that is well-formed to its exchange, or to the answer that it gets in place of one."""

from http import HTTPStatus

from ..core.asgi import Fields
from ..core.config import Config
from ..core.errors import StreamFault
from ..core.opening import open_exchange
from ..core.scope import ConnectionFacts
from ..core.worker import Worker
from .http2_request import Http2Request
from .http2_stream import AnyExchange, Http2Stream


def open_on_stream(
    worker: Worker, facts: ConnectionFacts, stream: Http2Stream, request: Http2Request, size: int
) -> AnyExchange:
    """Make the exchange of a request.

    Args:
        worker: What the connection shares with its siblings.
        facts: Of the connection.
        stream: The wire's half.
        request: The request, well-formed.
        size: Of its field list, in bytes.

    Raises:
        StreamFault: It is refused; the code is the HTTP status to answer.
    """
    config, method = worker.config, request.method
    if request.length or size > config.max_head_bytes or len(request.fields) > config.max_fields:
        _check_size(config, request, size)
    stream.take_hints(request)
    if method != method.upper():  # `get` is not GET (RFC 9110, 9.1), and a scope cannot say it
        raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "methods are in upper case")
    if method != "CONNECT":
        stream.length = request.length
        return open_exchange(worker, stream, facts, request, websocket=False)
    if request.protocol != b"websocket":
        raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is for WebSocket alone (RFC 8441)")
    stream.tunnel = True
    return open_exchange(worker, stream, facts, request, websocket=True)


def refusal(worker: Worker, fault: StreamFault) -> Fields:
    """Return the head of the answer to a request that is refused; it has no content."""
    fields = [
        (b":status", b"%d" % fault.code),
        (b"date", worker.clock.date),
        (b"content-length", b"0"),
    ]
    if fault.code == HTTPStatus.UPGRADE_REQUIRED:
        fields.append((b"sec-websocket-version", b"13"))
    if worker.server_field is not None:
        fields.append(worker.server_field)
    return fields


def _check_size(config: Config, request: Http2Request, size: int) -> None:
    """Hold a request against the limits that its head shows.

    Raises:
        StreamFault: It is too large; the code is the HTTP status to answer.
    """
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if size > config.max_head_bytes:
        raise StreamFault(status, "the request head is too large", limit="max_head_bytes")
    if len(request.fields) > config.max_fields:
        raise StreamFault(status, "the request head has too many fields", limit="max_fields")
    if config.max_body and request.length is not None and request.length > config.max_body:
        raise content_too_large()


def content_too_large() -> StreamFault:
    """Make the fault of a client whose content is above `--max-body`, announced or not."""
    reason = "the request content is too large"
    return StreamFault(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason, limit="max_body")
