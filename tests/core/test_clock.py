"""The clock: one tick for every deadline, in the loop or in the hand of a test."""

import asyncio
import logging
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import pytest

from alphorn.core.clock import NEVER, TICK_SECONDS, Clock
from support.clock import ManualClock
from support.waiting import turns, within


class Alarm:
    """A deadline, and what happens at it."""

    def __init__(self, clock: Clock, seconds: float, act: Callable[[], None] = lambda: None) -> None:
        self.deadline = clock.now() + seconds
        self.rung: list[float] = []
        self._clock = clock
        self._act = act
        clock.watch(self)

    def expire(self) -> None:
        self.rung.append(self._clock.now())
        self.deadline = NEVER
        self._act()


def test_a_deadline_is_acted_on_once_and_not_before(clock: ManualClock) -> None:
    alarm = Alarm(clock, 5)
    clock.advance(4)
    assert alarm.rung == []
    clock.advance(1)
    assert len(alarm.rung) == 1
    clock.advance(100)
    assert len(alarm.rung) == 1


def test_time_passes_tick_by_tick(clock: ManualClock) -> None:
    begin = clock.now()
    alarm = Alarm(clock, 2.5)
    clock.advance(10)
    assert [at - begin for at in alarm.rung] == [3.0]


def test_what_is_forgotten_is_not_acted_on(clock: ManualClock) -> None:
    alarm = Alarm(clock, 1)
    clock.forget(alarm)
    clock.forget(alarm)
    clock.advance(1)
    assert alarm.rung == []


def test_a_deadline_that_another_one_moves_in_the_same_tick_is_not_acted_on(clock: ManualClock) -> None:
    alarms: list[Alarm] = []

    def put_the_others_off() -> None:
        for alarm in alarms:
            alarm.deadline = clock.now() + 10

    alarms += [Alarm(clock, 1, put_the_others_off) for _ in range(5)]
    clock.advance(1)
    assert sum(len(alarm.rung) for alarm in alarms) == 1


def test_what_another_one_forgets_in_the_same_tick_is_not_acted_on(clock: ManualClock) -> None:
    alarms: list[Alarm] = []

    def forget_all() -> None:
        for alarm in alarms:
            clock.forget(alarm)

    alarms += [Alarm(clock, 1, forget_all) for _ in range(5)]
    clock.advance(1)
    assert sum(len(alarm.rung) for alarm in alarms) == 1


class Faulty:
    """A deadline that raises, and does not say when the next one is."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def expire(self) -> None:
        raise ZeroDivisionError("a bug")


def test_a_fault_at_one_deadline_is_logged_once_and_does_not_stop_the_others(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        clock.watch(Faulty(clock.now()))
    alarm = Alarm(clock, 1)
    clock.advance(3)
    assert len(alarm.rung) == 1
    faults = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(faults) == 3
    assert all(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in faults)


async def test_it_ticks_in_the_loop_until_it_is_stopped() -> None:
    clock = Clock()
    rung = asyncio.Event()
    clock.watch(Faulty(clock.now()))  # which does not stop it
    Alarm(clock, TICK_SECONDS / 2, rung.set)
    clock.start()
    try:
        async with within("a tick"):
            await rung.wait()
    finally:
        clock.stop()
    clock.stop()


async def test_others_get_their_turn_before_a_thousand_deadlines_have_been_acted_on() -> None:
    clock, loop = Clock(), asyncio.get_running_loop()
    rung, rung_before_others = 0, [0]
    all_rung = asyncio.Event()

    def ring() -> None:
        nonlocal rung
        rung += 1
        if rung == 1000:
            all_rung.set()
        elif rung == 1:
            loop.call_soon(lambda: rung_before_others.append(rung))

    alarms = [Alarm(clock, 0, ring) for _ in range(1000)]
    clock.start()
    try:
        async with within("a tick"):
            await all_rung.wait()
    finally:
        clock.stop()
    assert 0 < rung_before_others[-1] <= 32
    assert all(len(alarm.rung) == 1 for alarm in alarms)


def test_the_date_is_that_of_the_tick(clock: ManualClock) -> None:
    before = parsedate_to_datetime(clock.date.decode())
    clock.tick()
    assert clock.date.endswith(b" GMT")
    assert parsedate_to_datetime(clock.date.decode()) >= before


async def test_a_timeout_is_exact_to_less_than_a_tick() -> None:
    with pytest.raises(TimeoutError):
        async with within("a hundredth of a second", TICK_SECONDS / 2), Clock().timeout(0.01):
            await asyncio.Event().wait()


async def test_a_test_brings_a_timeout_about(clock: ManualClock) -> None:
    async def wait() -> None:
        async with clock.timeout(30):
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(wait())
    await turns(1)
    clock.advance(29)
    await turns(1)
    assert not waiting.done()
    clock.advance(100)
    with pytest.raises(TimeoutError):
        await waiting
