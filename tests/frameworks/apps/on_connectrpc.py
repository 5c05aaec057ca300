"""A gRPC service on Connect for Python: all four kinds of method, errors, metadata, deadlines.

Its messages are the wrapper types that ship with protobuf, so there is nothing to generate. It
speaks gRPC, gRPC-Web and the Connect protocol at the same paths.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from connectrpc.code import Code
from connectrpc.compat import google_protobuf_codecs
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

SERVICE = "alphorn.test.Horn"


class Horn:
    """The service."""

    def __init__(self) -> None:
        self._blown: set[str] = set()
        self._news = asyncio.Condition()

    async def say(self, request: StringValue, context: RequestContext[Any, Any]) -> StringValue:
        """Unary: greet; metadata comes back before and behind the answer."""
        heard = context.request_headers.get("x-visitor", "")
        context.response_headers["x-heard"] = heard
        context.response_trailers["x-said"] = heard
        if request.value == "fail":
            raise ConnectError(Code.FAILED_PRECONDITION, "the horn is broken: Grüezi")
        return StringValue(value=f"Grüezi {request.value}")

    async def collect(
        self, requests: AsyncIterator[StringValue], _context: RequestContext[Any, Any]
    ) -> StringValue:
        """Client-streaming: join what comes."""
        return StringValue(value=" ".join([request.value async for request in requests]))

    async def count(
        self, request: Int32Value, context: RequestContext[Any, Any]
    ) -> AsyncIterator[StringValue]:
        """Server-streaming: count, and fail in the middle of more than a thousand."""
        context.response_trailers["x-counted"] = "up"
        for number in range(request.value):
            if number == 1000:
                raise ConnectError(Code.RESOURCE_EXHAUSTED, "out of breath")
            yield StringValue(value=str(number))

    async def talk(
        self, requests: AsyncIterator[StringValue], _context: RequestContext[Any, Any]
    ) -> AsyncIterator[StringValue]:
        """Bidirectional: answer each message before the next one comes."""
        async for request in requests:
            yield StringValue(value=f"{request.value}!")

    async def blow(
        self, request: StringValue, _context: RequestContext[Any, Any]
    ) -> AsyncIterator[StringValue]:
        """Server-streaming: one message, then silence until the caller loses patience."""
        yield StringValue(value="blowing")
        try:
            await asyncio.Event().wait()
        finally:
            async with self._news:
                self._blown.add(request.value)
                self._news.notify_all()

    async def blown(self, request: StringValue, _context: RequestContext[Any, Any]) -> StringValue:
        """Unary: wait until a `blow` has come to its end."""
        async with self._news:
            await self._news.wait_for(lambda: request.value in self._blown)
        return request


async def horn_while_serving() -> AsyncGenerator[Horn]:
    """Make the service at startup; the generator is closed at shutdown."""
    try:
        yield Horn()
    finally:
        print("the application has ended", file=sys.stderr, flush=True)


def endpoints(horn: Horn) -> dict[str, Any]:
    """List the methods, as generated code would."""
    text, number = StringValue, Int32Value
    return dict(
        [
            _endpoint("Say", StreamType.UNARY, text, horn.say),
            _endpoint("Collect", StreamType.CLIENT_STREAM, text, horn.collect),
            _endpoint("Count", StreamType.SERVER_STREAM, number, horn.count),
            _endpoint("Talk", StreamType.BIDI_STREAM, text, horn.talk),
            _endpoint("Blow", StreamType.SERVER_STREAM, text, horn.blow),
            _endpoint("Blown", StreamType.UNARY, text, horn.blown),
        ]
    )


MAKERS: dict[StreamType, Any] = {
    StreamType.UNARY: Endpoint.unary,
    StreamType.CLIENT_STREAM: Endpoint.client_stream,
    StreamType.SERVER_STREAM: Endpoint.server_stream,
    StreamType.BIDI_STREAM: Endpoint.bidi_stream,
}


def _endpoint(name: str, kind: StreamType, takes: type[Any], function: Any) -> tuple[str, Any]:
    method = MethodInfo(
        name=name,
        service_name=SERVICE,
        input=takes,
        output=StringValue,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )
    return f"/{SERVICE}/{name}", MAKERS[kind](method, function)


class HornApplication(ConnectASGIApplication[Horn]):
    """The service as an ASGI application."""

    @property
    def path(self) -> str:
        """Where it may be mounted."""
        return f"/{SERVICE}"


app = HornApplication(service=horn_while_serving(), endpoints=endpoints, codecs=google_protobuf_codecs())
