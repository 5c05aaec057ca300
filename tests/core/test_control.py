"""The channel between supervisor and worker: what is said, asked and answered, and when the other end is gone."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from alphorn.core.control import Asking, Channel, answer
from alphorn.core.fleet import Commands
from support.clock import ManualClock
from support.waiting import stays_pending

COMMANDS: Commands = {
    "double": lambda number: {"number": 2 * number},
    "fail": lambda: 1 / 0,
}


class Pair:
    """Both ends, and who asks and answers over them."""

    def __init__(self, supervisor: Channel, worker: Channel, clock: ManualClock) -> None:
        self.supervisor = supervisor
        self.worker = worker
        self.asking = Asking(supervisor, clock)

    async def answer_one(self) -> None:
        question = await self.worker.receive()
        assert question is not None
        self.worker.send(answer(question, COMMANDS))
        told = await self.supervisor.receive()
        assert told is not None
        self.asking.answered(told)


@pytest.fixture
async def pair(clock: ManualClock) -> AsyncIterator[Pair]:
    first, second = socket.socketpair()
    pair = Pair(await Channel.over(first), await Channel.over(second), clock)
    yield pair
    pair.supervisor.close()
    pair.worker.close()


async def test_messages_come_as_they_were_sent(pair: Pair) -> None:
    for message in ({"event": "beat"}, {"text": "two\nlines", "surrogate": "\udcff", "list": [1, None, 2.5]}):
        pair.worker.send(message)
        assert await pair.supervisor.receive() == message


async def test_a_question_is_answered(pair: Pair) -> None:
    asked = asyncio.ensure_future(pair.asking.ask("double", {"number": 21}))
    await pair.answer_one()
    assert await asked == {"number": 42}


async def test_answers_belong_to_their_questions_in_any_order(pair: Pair) -> None:
    asked = [asyncio.ensure_future(pair.asking.ask("double", {"number": number})) for number in (1, 2)]
    questions = [await pair.worker.receive() for _ in asked]
    for question in reversed(questions):
        assert question is not None
        pair.asking.answered(answer(question, COMMANDS))
    assert await asyncio.gather(*asked) == [{"number": 2}, {"number": 4}]


async def test_a_command_that_fails_says_how_and_is_logged(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    asked = asyncio.ensure_future(pair.asking.ask("fail", {}))
    await pair.answer_one()
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        await asked
    assert "fail: the command failed" in caplog.text


async def test_an_unknown_command_is_named(pair: Pair) -> None:
    asked = asyncio.ensure_future(pair.asking.ask("dubble", {}))
    await pair.answer_one()
    with pytest.raises(KeyError, match="dubble"):
        await asked


async def test_who_does_not_answer_in_time_is_not_waited_for_and_a_late_answer_is_dropped(
    pair: Pair, clock: ManualClock
) -> None:
    asked = asyncio.ensure_future(pair.asking.ask("double", {"number": 1}))
    assert await stays_pending(asked)
    clock.advance(2)
    with pytest.raises(TimeoutError):
        await asked
    await pair.answer_one()


async def test_when_the_other_end_is_gone_nothing_comes_and_nothing_can_be_said(pair: Pair) -> None:
    asked = asyncio.ensure_future(pair.asking.ask("double", {"number": 1}))
    await pair.worker.receive()
    pair.worker.close()
    assert await pair.supervisor.receive() is None
    pair.asking.abandon()
    with pytest.raises(TimeoutError):
        await asked
    pair.supervisor.send({"event": "beat"})
