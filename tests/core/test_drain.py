"""The order in which a worker ends, with connections and applications that do as the test says."""

# ruff: noqa: ARG001 - what is called by its signature need not use all of it

import asyncio
import logging

import pytest

from alphorn.core.asgi import Field, Fields, Message, Receive, Scope, Send
from alphorn.core.codec import Handshake
from alphorn.core.config import Config
from alphorn.core.drain import Report, drain
from alphorn.core.worker import Worker
from support.clock import ManualClock
from support.steered_app import SteeredApp
from support.waiting import turns, within

GRACE = 10.0


def no_handshake(fields: Fields, http_version: str, config: Config) -> Handshake:
    raise AssertionError("nobody asks for one")


class Connection:
    """A connection that notes what it is told, and leaves when the test says so."""

    idle = False

    def __init__(self, worker: Worker) -> None:
        self.told: list[str] = []
        self._worker = worker
        worker.join(self, None)

    def shutdown(self) -> None:
        self.told.append("shutdown")

    def retire(self) -> None:
        self.told.append("retire")

    def terminate(self) -> None:
        self.told.append("terminate")
        self.leave()

    def leave(self) -> None:
        self._worker.leave(self)


class Request:
    """A call of the application, as the dispatcher sees an exchange."""

    def __init__(self, path: str, started_at: float = 0.0) -> None:
        server: Field = (b"host", b"example.org")
        self.scope: Scope = {"type": "http", "path": path, "client": ("192.0.2.1", 5), "headers": [server]}
        self.error: BaseException | None = None
        self.running = False
        self.started_at = started_at

    async def receive(self) -> Message:
        return {"type": "http.request"}

    async def send(self, message: Message) -> None:
        """Take it."""

    def finished(self, error: BaseException | None) -> str | None:
        self.error = error
        return None


@pytest.fixture
async def worker(app: SteeredApp, clock: ManualClock) -> Worker:
    return Worker(Config(), clock, app, no_handshake)


async def draining(worker: Worker) -> "asyncio.Task[bool]":
    task = asyncio.ensure_future(drain(worker, GRACE))
    await turns()
    return task


async def test_a_worker_with_nothing_under_way_is_done_at_once(worker: Worker) -> None:
    assert await drain(worker, 0)
    assert worker.closing


async def test_every_connection_is_told_once_and_waited_for(worker: Worker) -> None:
    connections = [Connection(worker) for _ in range(3)]
    task = await draining(worker)
    assert [connection.told for connection in connections] == [["shutdown"]] * 3
    for connection in connections:
        assert not task.done()
        connection.leave()
    async with within("the drain"):
        assert await task
    assert [connection.told for connection in connections] == [["shutdown"]] * 3


async def test_applications_are_waited_for_even_without_a_connection(worker: Worker, app: SteeredApp) -> None:
    worker.dispatcher.start(Request("/"))
    call = await app.next_call()
    task = await draining(worker)
    assert not task.done()
    call.finish()
    assert await task
    assert call.outcome == "done"


async def test_what_is_left_after_the_grace_is_cancelled_then_terminated(
    worker: Worker, app: SteeredApp, clock: ManualClock
) -> None:
    connection, request = Connection(worker), Request("/")
    worker.dispatcher.start(request)
    call = await app.next_call()
    task = await draining(worker)
    clock.advance(GRACE)
    await turns()
    assert call.outcome is None, "it is told first"
    clock.advance(1)
    assert await call.cancelled_or_done() == "cancelled"
    assert isinstance(request.error, asyncio.CancelledError)
    await turns()
    assert connection.told == ["shutdown"], "its last bytes may leave"
    clock.advance(1)
    async with within("the drain"):
        assert not await task
    assert connection.told == ["shutdown", "terminate"]


async def test_a_connection_whose_bytes_leave_in_the_last_moment_was_drained(
    worker: Worker, clock: ManualClock
) -> None:
    connection = Connection(worker)
    task = await draining(worker)
    clock.advance(GRACE)
    await turns()
    connection.leave()
    async with within("the drain"):
        assert await task
    assert connection.told == ["shutdown"]


async def test_a_connection_that_never_leaves_is_terminated(worker: Worker, clock: ManualClock) -> None:
    connection = Connection(worker)
    task = await draining(worker)
    clock.advance(GRACE)
    await turns()
    clock.advance(1)
    async with within("the drain"):
        assert not await task
    assert connection.told == ["shutdown", "terminate"]


async def test_a_cancelled_drain_ends_everything(worker: Worker, app: SteeredApp) -> None:
    connection = Connection(worker)
    worker.dispatcher.start(Request("/"))
    call = await app.next_call()
    task = await draining(worker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await call.cancelled_or_done() == "cancelled"
    assert connection.told == ["shutdown", "terminate"]


@pytest.mark.parametrize("requests", [0, 1, 2, 4])
async def test_the_report_counts_and_names(
    worker: Worker, app: SteeredApp, clock: ManualClock, caplog: pytest.LogCaptureFixture, requests: int
) -> None:
    caplog.set_level(logging.INFO, "alphorn.error")
    connections = [Connection(worker) for _ in range(max(1, requests))]
    for number in range(requests):
        worker.dispatcher.start(Request(f"/{number}", clock.now() - 10 * (5 - number)))
    task = await draining(worker)
    clock.advance(1)
    first, second, third = (f"/{number} of 192.0.2.1:5 for {10 * (5 - number) + 1} s" for number in range(3))
    assert caplog.messages == [
        {
            0: "waiting for 1 connection to take what was answered",
            1: f"waiting for 1 request ({first}), 1 connection",
            2: f"waiting for 2 requests ({first}, {second}), 2 connections",
            4: f"waiting for 4 requests ({first}, {second}, {third}, ...), 4 connections",
        }[requests]
    ]
    for connection in connections:
        connection.leave()
    app.finish_all()
    await task


async def test_a_scope_that_the_application_spoilt_does_not_spoil_the_drain(
    worker: Worker, app: SteeredApp, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    request = Request("/", clock.now())
    worker.dispatcher.start(request)
    call = await app.next_call()
    del request.scope["path"]
    request.scope["client"] = "somebody"
    task = await draining(worker)
    clock.advance(GRACE)
    await turns()
    clock.advance(1)
    assert await call.cancelled_or_done() == "cancelled"
    assert not await task
    assert "1 request (- of - for 10 s), 0 connections" in caplog.text


async def test_a_connection_that_is_terminated_is_gone_before_the_drain_is_over(
    worker: Worker, clock: ManualClock
) -> None:
    class Asynchronous(Connection):
        """Like a transport: what was lost is told in a later turn of the loop."""

        def terminate(self) -> None:
            asyncio.get_running_loop().call_soon(self.leave)

    Asynchronous(worker)
    task = await draining(worker)
    clock.advance(GRACE)
    await turns()
    clock.advance(1)
    assert not await task
    assert not worker.connections


def test_a_report_is_made_every_second_while_its_block_runs(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alphorn.error")
    with Report(clock, lambda: f"{clock.now():g}"):
        clock.advance(0.5)
        assert caplog.messages == []
        clock.advance(3)
    clock.advance(10)
    assert caplog.messages == ["waiting for 1001.5", "waiting for 1002.5", "waiting for 1003.5"]


async def crashing_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError(scope["path"])


async def test_an_application_that_crashes_meanwhile_is_no_reason_to_wait(clock: ManualClock) -> None:
    worker = Worker(Config(), clock, crashing_app, no_handshake)
    worker.dispatcher.start(Request("/"))
    async with within("the drain"):
        assert await drain(worker, GRACE)
