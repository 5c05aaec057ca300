"""When messages of WebSockets over HTTP/2 (RFC 8441) leave: at once where a client waits, else together."""

from alphorn.core.asgi import Receive, Scope, Send
from support.frames import PREFACE, Data, Headers, Settings
from support.http2_memory import MemoryConnection, memory_connection
from support.http2_requests import EXTENDED
from support.waiting import turns

CONNECT = [*EXTENDED, (b"sec-websocket-version", b"13")]
HELLO = b"\x81\x85\x00\x00\x00\x00hello"  # a text with a mask of zeros
ANSWER_BYTES = 9 + 2 + 5  # the heads of two frames, and what is in them


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def opened(connection: MemoryConnection, *streams: int) -> None:
    connection.sends(PREFACE, Settings(), *[Headers(stream, CONNECT) for stream in streams])
    await turns()
    connection.transport.read()
    connection.transport.writes = 0


async def test_the_answer_of_the_only_websocket_leaves_as_it_is_said() -> None:
    async with memory_connection(echo) as connection:
        await opened(connection, 1)
        for _ in range(3):
            connection.sends(Data(1, HELLO))
            await turns(1)  # in which the application has its turn
            assert len(connection.transport.read()) == ANSWER_BYTES
        await turns()
        assert connection.transport.writes == 3


async def test_answers_to_messages_of_one_read_leave_together() -> None:
    async with memory_connection(echo) as connection:
        await opened(connection, 1)
        connection.sends(Data(1, HELLO * 8), Data(1, HELLO * 8))
        await turns()
        assert connection.transport.writes == 1


async def test_answers_of_several_websockets_leave_together() -> None:
    async with memory_connection(echo) as connection:
        await opened(connection, 1, 3, 5)
        connection.sends(*[Data(stream, HELLO) for stream in (1, 3, 5)])
        await turns()
        assert connection.transport.writes == 1
        assert len(connection.transport.read()) == 3 * ANSWER_BYTES


async def test_what_follows_an_answer_that_left_at_once_leaves_together() -> None:
    async def chatty(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            for _ in range(10):
                await send({"type": "websocket.send", "text": "hello"})

    async with memory_connection(chatty) as connection:
        await opened(connection, 1)
        connection.sends(Data(1, HELLO))
        await turns()
        assert connection.transport.writes == 2
