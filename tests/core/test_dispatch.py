"""The dispatcher: one task per exchange, watched to its end; whose failure it was, and what the log says of it."""

import asyncio
import contextvars
import gc
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.admission import Admission
from alphorn.core.asgi import Message, Receive, Scope, Send
from alphorn.core.clock import Clock
from alphorn.core.config import Config
from alphorn.core.dispatch import Dispatcher
from alphorn.core.errors import Disconnected, UnexpectedMessage
from alphorn.core.worker import make_limits
from support.conversation import complaints
from support.waiting import turns, until, within

Body = Callable[["FakeCall"], Awaitable[None]]


class FakeCall:
    """What the dispatcher knows of an exchange; remembers how it was finished.

    Attributes:
        finishes: What `finished` was told, each time.
    """

    def __init__(self, body: Body, complaint: str | None = None) -> None:
        self.scope: Scope = {"type": "http", "method": "GET", "path": "/", "client": None}
        self.body = body
        self.complaint = complaint
        self.finishes: list[BaseException | None] = []
        self.running = False
        self.started_at = 0.0

    async def receive(self) -> Message:
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        raise Disconnected("the client has gone")

    def finished(self, error: BaseException | None) -> str | None:
        self.finishes.append(error)
        return self.complaint


def dispatcher_of(*calls: FakeCall, **settings: int) -> Dispatcher:
    """Make a dispatcher whose application does what each call says."""
    bodies = {id(call.scope): call for call in calls}

    async def application(scope: Scope, _receive: Receive, _send: Send) -> None:
        call = bodies[id(scope)]
        await call.body(call)

    clock, config = Clock(), Config(**settings)  # type: ignore[arg-type]
    return Dispatcher(application, Admission(config, clock, make_limits(config, clock)))


async def run(body: Body, complaint: str | None = None) -> FakeCall:
    """Run one call to its end."""
    call = FakeCall(body, complaint)
    dispatcher = dispatcher_of(call)
    dispatcher.start(call)
    async with within("the application to end"):
        await dispatcher.wait_idle()
    return call


def raising(error: BaseException) -> Body:
    async def body(_call: FakeCall) -> None:
        raise error

    return body


async def do_nothing(_call: FakeCall) -> None:
    pass


# --- Starting and ending


async def test_a_call_is_run_once_and_finished_once() -> None:
    call = await run(do_nothing)

    assert call.finishes == [None]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start eagerly from 3.12 on")
async def test_an_application_that_never_waits_has_ended_when_start_returns() -> None:
    call = FakeCall(do_nothing)
    dispatcher = dispatcher_of(call)
    dispatcher.start(call)

    assert call.finishes == [None]
    assert dispatcher.running == []


async def test_the_application_sees_a_task_of_its_own() -> None:
    seen: list[Any] = []

    async def body(_call: FakeCall) -> None:
        seen.append(asyncio.current_task())
        await turns(1)
        seen.append(asyncio.current_task())

    await run(body)
    assert seen[0] is seen[1]
    assert seen[0] not in (None, asyncio.current_task())


async def test_running_calls_are_counted_until_they_end() -> None:
    gate = asyncio.Event()

    async def body(_call: FakeCall) -> None:
        await gate.wait()

    calls = [FakeCall(body), FakeCall(body), FakeCall(do_nothing)]
    dispatcher = dispatcher_of(*calls)
    for call in calls:
        dispatcher.start(call)
    await turns(1)
    await turns(1)
    assert (dispatcher.running, dispatcher.started) == (calls[:2], 3)
    idle = asyncio.ensure_future(dispatcher.wait_idle())
    await turns(1)
    assert not idle.done()
    gate.set()
    async with within("the dispatcher to be idle"):
        await idle

    assert (dispatcher.running, dispatcher.started) == ([], 3)


async def test_nobody_waits_for_an_idle_dispatcher() -> None:
    async with within("an idle dispatcher"):
        await dispatcher_of().wait_idle()


# --- Contexts

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_what_one_call_sets_in_its_context_no_other_sees() -> None:
    seen: list[str] = []

    async def body(call: FakeCall) -> None:
        seen.append(variable.get())
        variable.set(f"set by {call.scope['path']}")
        await turns(1)
        seen.append(variable.get())

    calls = [FakeCall(body) for _ in range(3)]
    for number, call in enumerate(calls):
        call.scope["path"] = f"/{number}"
    dispatcher = dispatcher_of(*calls)
    for call in calls:
        dispatcher.start(call)
    await dispatcher.wait_idle()

    assert sorted(seen) == ["set by /0", "set by /1", "set by /2", "unset", "unset", "unset"]
    assert variable.get() == "unset"


async def test_a_call_sees_the_context_that_the_server_was_started_in() -> None:
    seen: list[str] = []

    async def body(_call: FakeCall) -> None:
        seen.append(variable.get())

    call = FakeCall(body)
    token = variable.set("outside")
    try:
        dispatcher = dispatcher_of(call)
    finally:
        variable.reset(token)
    dispatcher.start(call)
    await dispatcher.wait_idle()

    assert seen == ["outside"]


# --- Failures


@pytest.mark.parametrize(
    "error",
    [RuntimeError("boom"), SystemExit(1), UnexpectedMessage("wrong"), OSError("disk"), StopAsyncIteration()],
)
async def test_a_failure_ends_its_call_and_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    call = await run(raising(error))

    (finish,) = call.finishes
    assert finish is error or isinstance(finish, RuntimeError)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "GET /: exception in the application")
    assert record.exc_info is not None


async def test_a_failed_task_complains_to_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    await run(raising(SystemExit(1)))
    await run(raising(RuntimeError()))
    gc.collect()

    assert reports == []
    assert len(caplog.records) == 2


async def test_what_an_exchange_complains_about_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    await run(do_nothing, "application returned while the response was not started")

    assert complaints(caplog) == ["GET /: application returned while the response was not started"]


async def test_a_log_line_cannot_be_forged_by_a_path(caplog: pytest.LogCaptureFixture) -> None:
    async def body(call: FakeCall) -> None:
        call.scope["path"] = "/\n2026-01-01 error forged"
        raise RuntimeError

    await run(body)
    assert complaints(caplog) == [r"GET /\x0a2026-01-01 error forged: exception in the application"]


async def test_a_websocket_has_no_method_but_a_name_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def body(call: FakeCall) -> None:
        del call.scope["method"]
        raise RuntimeError

    await run(body)
    assert complaints(caplog) == ["WEBSOCKET /: exception in the application"]


# --- The server's own error, which is no failure


async def leak(call: FakeCall) -> None:
    await call.send({"type": "http.response.start"})


async def leak_in_a_group(call: FakeCall) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leak(call))
        group.create_task(leak(call))


async def leak_in_a_nested_group(call: FakeCall) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leak_in_a_group(call))


@pytest.mark.parametrize("body", [leak, leak_in_a_group, leak_in_a_nested_group])
async def test_a_leaked_disconnect_is_not_logged(caplog: pytest.LogCaptureFixture, body: Body) -> None:
    caplog.set_level(logging.DEBUG)
    await run(body)

    assert caplog.records == []


class ClientDisconnect(Exception):  # noqa: N818 - what a framework calls it
    """The exception of a framework."""


async def translate(call: FakeCall) -> None:
    try:
        await leak(call)
    except OSError:
        raise ClientDisconnect  # noqa: B904 - as Starlette does


async def translate_explicitly(call: FakeCall) -> None:
    try:
        await leak(call)
    except OSError as error:
        raise ClientDisconnect from error


async def translate_in_silence(call: FakeCall) -> None:
    try:
        await leak(call)
    except OSError:
        raise ClientDisconnect from None


async def translate_twice(call: FakeCall) -> None:
    try:
        await translate_explicitly(call)
    except ClientDisconnect as error:
        raise RuntimeError("no response") from error


async def translate_a_group(call: FakeCall) -> None:
    try:
        await leak_in_a_group(call)
    except BaseExceptionGroup as error:
        raise ClientDisconnect from error


async def translate_into_a_group(call: FakeCall) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(translate(call))
        group.create_task(leak(call))


@pytest.mark.parametrize(
    "body",
    [
        translate,
        translate_explicitly,
        translate_in_silence,
        translate_twice,
        translate_a_group,
        translate_into_a_group,
    ],
)
async def test_what_a_framework_makes_of_a_disconnect_is_news_but_no_error(
    caplog: pytest.LogCaptureFixture, body: Body
) -> None:
    caplog.set_level(logging.INFO)
    await run(body)

    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith("after the client had gone")
    assert record.exc_info is None


async def fail_beside_a_leak(call: FakeCall) -> None:
    error = await caught(leak(call))
    raise BaseExceptionGroup("", [error, ValueError("a bug")])


async def fail_with_a_group_of_both(call: FakeCall) -> None:
    error = await caught(leak(call))
    raise RuntimeError from BaseExceptionGroup("", [error, ValueError("a bug")])


async def caught(work: Awaitable[None]) -> BaseException:
    """Return what `work` raises, free of any context."""
    try:
        await work
    except OSError as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("body", [fail_beside_a_leak, fail_with_a_group_of_both])
async def test_a_disconnect_excuses_no_other_failure(caplog: pytest.LogCaptureFixture, body: Body) -> None:
    await run(body)

    assert complaints(caplog) == ["GET /: exception in the application"]


async def test_an_error_that_is_its_own_cause_is_logged_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    await run(raising(first))

    assert complaints(caplog) == ["GET /: exception in the application"]


LEAVES = st.builds(Disconnected, st.just("gone")) | st.builds(ValueError)
ERRORS: st.SearchStrategy[BaseException] = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda members: BaseExceptionGroup("", members), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in leaves(member)]
    return [error]


@given(ERRORS)
async def test_a_group_is_silent_if_all_its_members_are(error: BaseException) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("alphorn.error")
    logger.addHandler(handler)
    try:
        await run(raising(error))
    finally:
        logger.removeHandler(handler)

    silent = all(isinstance(leaf, Disconnected) for leaf in leaves(error))
    assert [record.levelname for record in records] == ([] if silent else ["ERROR"])


# --- Cancellation


async def test_cancelled_calls_are_finished_with_their_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    async def wait_for_ever(_call: FakeCall) -> None:
        await asyncio.Event().wait()

    calls = [FakeCall(wait_for_ever) for _ in range(3)]
    dispatcher = dispatcher_of(*calls)
    for call in calls:
        dispatcher.start(call)
    await turns(1)
    dispatcher.cancel()
    async with within("the cancelled to end"):
        await dispatcher.wait_idle()

    assert all(isinstance(call.finishes[0], asyncio.CancelledError) for call in calls)
    assert complaints(caplog) == []


async def test_a_cancelled_call_may_clean_up_and_one_that_does_not_listen_stays_running() -> None:
    gate, cleaned = asyncio.Event(), asyncio.Event()

    async def stubborn(_call: FakeCall) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cleaned.set()
            await gate.wait()

    call = FakeCall(stubborn)
    dispatcher = dispatcher_of(call)
    dispatcher.start(call)
    await turns(1)
    dispatcher.cancel()
    async with within("the application to notice"):
        await cleaned.wait()
    assert dispatcher.running == [call]
    gate.set()
    await dispatcher.wait_idle()

    assert call.finishes == [None]


async def test_some_calls_can_be_chosen_for_cancellation() -> None:
    gate = asyncio.Event()

    async def wait(_call: FakeCall) -> None:
        await gate.wait()

    chosen, spared = FakeCall(wait), FakeCall(wait)
    dispatcher = dispatcher_of(chosen, spared)
    dispatcher.start(chosen)
    dispatcher.start(spared)
    await turns(1)
    dispatcher.cancel(lambda call: call is chosen)
    gate.set()
    async with within("both to end"):
        await dispatcher.wait_idle()

    assert isinstance(chosen.finishes[0], asyncio.CancelledError)
    assert spared.finishes == [None]


async def test_a_cancellation_that_the_server_did_not_order_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = await run(raising(asyncio.CancelledError()))

    assert isinstance(call.finishes[0], asyncio.CancelledError)
    assert complaints(caplog) == ["GET /: cancelled by the application itself"]


def test_ctrl_c_in_an_application_is_not_swallowed() -> None:
    """Where nobody handles the signal, the interrupt is the program's, not the application's failure."""
    call = FakeCall(raising(KeyboardInterrupt()))

    async def main() -> None:
        dispatcher = dispatcher_of(call)
        dispatcher.start(call)
        await dispatcher.wait_idle()

    with asyncio.Runner() as runner:
        # asyncio remarks that nobody asked the interrupted task for its result.
        runner.get_loop().set_exception_handler(lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
    gc.collect()
    assert isinstance(call.finishes[0], KeyboardInterrupt)


# --- Admission


class FakeRequest(FakeCall):
    """A call that may have to wait for its turn."""

    gone = False

    def refuse(self) -> None:
        raise AssertionError("there is room in the queue")


async def test_a_request_made_by_another_that_ends_at_once_has_its_turn() -> None:
    """A push, for one: it is begun while the request that promises it is."""

    async def nothing(_call: FakeCall) -> None:
        pass

    async def ask_for_more(_call: FakeCall) -> None:
        dispatcher.admit(second)

    first, second = FakeRequest(ask_for_more), FakeRequest(nothing)
    dispatcher = dispatcher_of(first, second, max_in_flight=1)
    dispatcher.admit(first)
    await until(lambda: bool(second.finishes), "the second to end")
    await dispatcher.wait_idle()


async def test_many_that_wait_and_end_at_once_do_not_pile_up() -> None:
    async def nothing(_call: FakeCall) -> None:
        pass

    gate = asyncio.Event()

    async def wait(_call: FakeCall) -> None:
        await gate.wait()

    first, others = FakeRequest(wait), [FakeRequest(nothing) for _ in range(2 * sys.getrecursionlimit())]
    dispatcher = dispatcher_of(first, *others, max_in_flight=1, max_queued=len(others))
    dispatcher.admit(first)
    for other in others:
        dispatcher.admit(other)
    gate.set()
    await until(lambda: all(other.finishes for other in others), "all to end")
    await dispatcher.wait_idle()
