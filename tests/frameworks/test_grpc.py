"""gRPC by grpcio and gRPC-Web, at a service of Connect for Python."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import httpx
import pyqwest
import pytest
from connectrpc.client import ConnectClient
from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from support.certificates import authority
from support.process import ServerProcess
from support.waiting import within

APP = "on_connectrpc:app"
SERVICE = "alphorn.test.Horn"


class Caller:
    """The service as grpcio sees it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        def method(kind: Any, name: str) -> Any:
            return kind(
                f"/{SERVICE}/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=StringValue.FromString,
            )

        self.say = method(channel.unary_unary, "Say")
        self.collect = method(channel.stream_unary, "Collect")
        self.count = method(channel.unary_stream, "Count")
        self.talk = method(channel.stream_stream, "Talk")
        self.blow = method(channel.unary_stream, "Blow")
        self.blown = method(channel.unary_unary, "Blown")
        self.unknown = method(channel.unary_unary, "Unknown")


@pytest.fixture
async def caller(server: ServerProcess) -> AsyncIterator[Caller]:
    credentials = grpc.ssl_channel_credentials(authority().pem.encode())
    async with grpc.aio.secure_channel(server.url.removeprefix("https://"), credentials) as channel:
        async with within("a gRPC channel"):
            await channel.channel_ready()
        yield Caller(channel)


def text(value: str) -> StringValue:
    return StringValue(value=value)


# --- The four kinds of method


async def test_unary_with_metadata_before_and_behind_the_answer(caller: Caller) -> None:
    call = caller.say(text("Heidi"), metadata=[("x-visitor", "from the town")])
    assert (await call).value == "Grüezi Heidi"
    assert dict(await call.initial_metadata())["x-heard"] == "from the town"
    assert dict(await call.trailing_metadata())["x-said"] == "from the town"
    assert await call.code() is grpc.StatusCode.OK


async def test_client_streaming(caller: Caller) -> None:
    words = [str(number) for number in range(1000)]
    assert (await caller.collect(map(text, words))).value == " ".join(words)


async def test_server_streaming(caller: Caller) -> None:
    call = caller.count(Int32Value(value=1000))
    assert [message.value async for message in call] == [str(number) for number in range(1000)]
    assert dict(await call.trailing_metadata())["x-counted"] == "up"


async def test_bidirectional_each_answer_before_the_next_message(caller: Caller) -> None:
    call = caller.talk()
    for number in range(100):
        await call.write(text(f"hello {number}"))
        async with within("the answer to a message while the request goes on"):
            assert (await call.read()).value == f"hello {number}!"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_big_messages_in_both_directions(caller: Caller) -> None:
    big = "alphorn" * 400_000
    call = caller.talk()
    for _ in range(5):
        await call.write(text(big))
        assert (await call.read()).value == f"{big}!"
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


# --- How calls fail


async def test_an_error_has_its_code_message_and_metadata(caller: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await caller.say(text("fail"), metadata=[("x-visitor", "me")])
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "the horn is broken: Grüezi"
    assert dict(failed.value.trailing_metadata())["x-said"] == "me"


async def test_an_error_in_the_middle_of_a_stream_comes_behind_its_messages(caller: Caller) -> None:
    call = caller.count(Int32Value(value=2000))
    received = [(await call.read()).value for _ in range(1000)]
    assert received[-1] == "999"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failed.value.details() == "out of breath"


async def test_an_unknown_method_is_unimplemented(caller: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await caller.unknown(text("?"))
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_cancelled_call_ends_in_the_service(caller: Caller) -> None:
    call = caller.blow(text("cancelled"))
    assert (await call.read()).value == "blowing"
    call.cancel()
    async with within("the service to be told"):
        await caller.blown(text("cancelled"))


async def test_a_deadline_ends_the_call_in_the_service(caller: Caller) -> None:
    call = caller.blow(text("late"), timeout=0.3)
    assert (await call.read()).value == "blowing"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with within("the service to be told"):
        await caller.blown(text("late"))


async def test_a_client_that_vanishes_ends_its_calls_in_the_service(
    caller: Caller, server: ServerProcess
) -> None:
    credentials = grpc.ssl_channel_credentials(authority().pem.encode())
    channel = grpc.aio.secure_channel(server.url.removeprefix("https://"), credentials)
    call = Caller(channel).blow(text("vanished"))
    assert (await call.read()).value == "blowing"
    await channel.close()
    async with within("the service to be told"):
        await caller.blown(text("vanished"))


# --- gRPC-Web, as a browser's fetch() would send it


def frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Take a gRPC-Web body apart: flags and content of each frame."""
    while body:
        flags, length = struct.unpack_from("!BI", body)
        yield flags, body[5 : 5 + length]
        body = body[5 + length :]


async def call_web(visitor: httpx.AsyncClient, method: str, message: Any) -> tuple[list[str], dict[str, str]]:
    """Make a call; return the messages and what the trailer frame says."""
    content = message.SerializeToString()
    response = await visitor.post(
        f"/{SERVICE}/{method}",
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "x-visitor": "web"},
        content=struct.pack("!BI", 0, len(content)) + content,
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/grpc-web+proto"
    *messages, (flags, trailers) = frames(response.content)
    assert flags == 0x80, "the last frame has the trailers"
    assert all(flags == 0 for flags, _ in messages)
    lines = (line.partition(":") for line in trailers.decode().splitlines())
    return (
        [StringValue.FromString(message).value for _, message in messages],
        {name: value.strip() for name, _, value in lines},
    )


async def test_grpc_web(visitor: httpx.AsyncClient) -> None:
    messages, trailers = await call_web(visitor, "Say", text("Heidi"))
    assert messages == ["Grüezi Heidi"]
    assert trailers == {"x-said": "web", "grpc-status": "0"}
    messages, trailers = await call_web(visitor, "Count", Int32Value(value=2000))
    assert messages == [str(number) for number in range(1000)]
    assert trailers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    messages, trailers = await call_web(visitor, "Say", text("fail"))
    assert messages == []
    assert trailers["grpc-status"] == str(grpc.StatusCode.FAILED_PRECONDITION.value[0])


# --- Connect for Python as the client, which speaks all three protocols


def method(name: str, kind: StreamType) -> MethodInfo[StringValue, StringValue]:
    return MethodInfo(
        name=name,
        service_name=SERVICE,
        input=StringValue,
        output=StringValue,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )


@pytest.mark.parametrize("protocol", ProtocolType, ids=lambda protocol: protocol.name)
async def test_the_client_of_connect(server: ServerProcess, protocol: ProtocolType) -> None:
    http_client = pyqwest.Client(pyqwest.HTTPTransport(tls_ca_cert=authority().pem.encode()))
    client = ConnectClient(
        server.url, codec=google_protobuf_binary_codec(), protocol=protocol, http_client=http_client
    )
    async with client:
        say = method("Say", StreamType.UNARY)
        answer = await client.execute_unary(request=text("Heidi"), method=say)
        assert answer.value == "Grüezi Heidi"
        with pytest.raises(ConnectError) as failed:
            await client.execute_unary(request=text("fail"), method=say)
        assert (failed.value.code, failed.value.message) == (
            Code.FAILED_PRECONDITION,
            "the horn is broken: Grüezi",
        )
        talk = method("Talk", StreamType.BIDI_STREAM)
        answers: asyncio.Queue[str] = asyncio.Queue()

        async def say_on() -> AsyncIterator[StringValue]:
            """Go on only after the answer to the message before."""
            for number in range(10):
                yield text(str(number))
                assert await answers.get() == f"{number}!"

        async with within("a conversation in turns"):
            async for reply in client.execute_bidi_stream(request=say_on(), method=talk):
                answers.put_nowait(reply.value)
