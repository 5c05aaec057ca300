"""A read of very many frames is taken in turns, so that one client's flood is not everybody's wait."""

from alphorn.core.asgi import Receive, Scope, Send
from support.frames import GET, PREFACE, Headers, Ping, RstStream, Settings
from support.http2_memory import memory_connection
from support.waiting import turns

PINGS = 500
ANSWER_BYTES = 17  # of a PING: nine for the head of the frame, eight of its own


async def answer(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - of ASGI
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def test_others_get_their_turn_before_the_frames_of_one_read_have_all_been_taken() -> None:
    async with memory_connection(answer) as connection:
        connection.sends(PREFACE, Settings())
        connection.transport.read()
        connection.sends(*[Ping()] * PINGS)
        answered = [len(connection.transport.written) // ANSWER_BYTES]
        assert 0 < answered[0] <= 100
        while answered[-1] < PINGS:
            assert not connection.transport.reading
            await turns(1)
            answered.append(len(connection.transport.written) // ANSWER_BYTES)
        assert connection.transport.reading
        assert len(answered) > PINGS / 100


async def test_what_comes_in_spite_of_that_is_taken_in_its_order() -> None:
    async with memory_connection(answer) as connection:
        connection.sends(PREFACE, Settings())
        connection.sends(*[Ping()] * PINGS)
        connection.sends(Ping(b"the last"))  # TLS may have decrypted it already
        pongs = [frame for frame in await connection.reads() if isinstance(frame, Ping)]
        assert len(pongs) == PINGS + 1
        assert pongs[-1].payload == b"the last"


async def test_a_request_begins_when_all_of_its_read_has_been_taken() -> None:
    begun = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await answer(scope, receive, send)

    async with memory_connection(note) as connection:
        connection.sends(PREFACE, Settings())
        connection.sends(Headers(1, GET, end_stream=True), *[Ping()] * PINGS, RstStream(1, 8))
        await turns()
        assert begun == []


async def test_many_fields_are_more_work_than_few() -> None:
    many = [(b"x-%d" % number, b"some value") for number in range(100)]
    async with memory_connection(answer) as connection:
        connection.sends(PREFACE, Settings())
        connection.sends(*[Headers(stream, [*GET, *many], end_stream=True) for stream in range(1, 41, 2)])
        assert not connection.transport.reading
        await turns()
        assert connection.transport.reading
        statuses = [frame for frame in await connection.reads() if isinstance(frame, Headers)]
        assert len(statuses) == 20


async def test_settings_are_more_work_than_a_ping() -> None:
    async with memory_connection(answer) as connection:
        connection.sends(PREFACE, Settings())
        connection.transport.read()
        connection.sends(*[Settings({0x4: 1000})] * 20)
        assert 0 < len(connection.transport.written) // 9 <= 10  # acknowledged, nine bytes each
        await turns()
        assert len(connection.transport.written) // 9 == 20


async def test_the_applications_of_one_read_start_in_turns() -> None:
    async with memory_connection(answer) as connection:
        connection.sends(PREFACE, Settings())
        connection.sends(*[Headers(stream, GET, end_stream=True) for stream in range(1, 241, 2)])
        await turns(1)  # the rest of them has been taken
        assert 0 < connection.worker.dispatcher.started <= 64
        await turns()
        assert connection.worker.dispatcher.started == 120


async def test_a_client_may_leave_before_its_turn() -> None:
    async with memory_connection(answer) as connection:
        connection.sends(PREFACE, Settings())
        connection.sends(*[Ping()] * PINGS)
        connection.transport.hang_up()
        await turns()
        assert len(connection.transport.written) // ANSWER_BYTES < PINGS
