"""Startup and shutdown with the application, as messages (ASGI lifespan 2.0)."""

# ruff: noqa: ARG001 - not every application here needs all that it is given

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

import pytest

from alphorn.core.asgi import Application, Receive, Scope, Send
from alphorn.core.errors import StartupFailed, UnexpectedMessage
from alphorn.core.lifespan import Lifespan
from support.clock import ManualClock
from support.steered_app import Call, SteeredApp, accept_lifespan
from support.waiting import turns, within

Make = Callable[..., Lifespan]


@pytest.fixture
def make(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> Make:
    """Make the lifespan of an application, with everything it logs caught."""
    caplog.set_level(logging.DEBUG, "alphorn.error")

    def make(
        app: Application, mode: Literal["auto", "on", "off"] = "auto", shutdown_timeout: float = 30.0
    ) -> Lifespan:
        return Lifespan(app, mode, clock, shutdown_timeout)

    return make


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


# --- As it should be


async def test_startup_and_shutdown_are_told_and_waited_for(make: Make) -> None:
    app = SteeredApp(steer_lifespan=True)
    lifespan = make(app, "on")
    starting = asyncio.ensure_future(lifespan.startup())
    call = await app.next_call()
    assert call.scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert await call.receive() == {"type": "lifespan.startup"}
    assert not starting.done()
    await call.send({"type": "lifespan.startup.complete"})
    await starting

    stopping = asyncio.ensure_future(lifespan.shutdown())
    assert await call.receive() == {"type": "lifespan.shutdown"}
    assert not stopping.done()
    await call.send({"type": "lifespan.shutdown.complete"})
    call.finish()
    await stopping
    assert not lifespan.failed


async def test_the_state_is_what_the_application_makes_of_it(make: Make) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["pool"] = "a pool"
        await accept_lifespan(receive, send)

    lifespan = make(app)
    await lifespan.startup()
    assert lifespan.state == {"pool": "a pool"}
    await lifespan.shutdown()


async def test_switched_off_it_never_calls_the_application(make: Make) -> None:
    app = SteeredApp(steer_lifespan=True)
    lifespan = make(app, "off")
    await lifespan.startup()
    await lifespan.shutdown()
    assert app.calls == []


async def test_a_startup_may_take_for_ever_defect_5(make: Make, clock: ManualClock) -> None:
    app = SteeredApp(steer_lifespan=True)
    starting = asyncio.ensure_future(make(app).startup())
    call = await app.next_call()
    await call.receive()
    clock.advance(3600)
    await turns(1)
    assert not starting.done()
    await call.send({"type": "lifespan.startup.complete"})
    await starting
    call.finish()


async def test_what_the_application_does_after_its_last_answer_is_waited_for(make: Make) -> None:
    app = SteeredApp(steer_lifespan=True)
    lifespan = make(app)
    starting = asyncio.ensure_future(lifespan.startup())
    call = await app.next_call()
    await call.receive()
    await call.send({"type": "lifespan.startup.complete"})
    await starting
    stopping = asyncio.ensure_future(lifespan.shutdown())
    await call.receive()
    await call.send({"type": "lifespan.shutdown.complete"})
    await turns(1)
    assert not stopping.done()
    call.finish()
    await stopping


async def test_an_application_that_loops_for_ever_is_let_go_after_shutdown(make: Make) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await send({"type": f"{(await receive())['type']}.complete"})

    lifespan = make(app)
    await lifespan.startup()
    async with within("the shutdown"):
        await lifespan.shutdown()
    assert not lifespan.failed


# --- Without support


async def unsupporting(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError("only http here\nand nothing else")


async def answerless(scope: Scope, receive: Receive, send: Send) -> None:
    """Return at once."""


async def crashing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise RuntimeError("no database")


@pytest.mark.parametrize(
    ("app", "what"),
    [
        (unsupporting, "raised ValueError: only http here"),
        (answerless, "returned without an answer"),
        (crashing, "raised RuntimeError: no database"),
    ],
)
async def test_without_support_auto_goes_on_and_says_so(
    make: Make, caplog: pytest.LogCaptureFixture, app: Application, what: str
) -> None:
    lifespan = make(app)
    await lifespan.startup()
    assert messages(caplog) == [
        f"going on without lifespan: the application's lifespan {what} (--lifespan on forbids that)"
    ]
    assert ("Traceback" in caplog.text) == ("raised" in what)  # with --log-level debug
    await lifespan.shutdown()
    assert not lifespan.failed


async def test_an_exception_with_lifespan_on_is_fatal_and_shows_its_traceback(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StartupFailed, match="raised RuntimeError: no database"):
        await make(crashing, "on").startup()
    frames = [line.strip() for line in caplog.text.splitlines() if line.startswith("  File ")]
    assert len(frames) == 1, "ours say nothing"
    assert frames[0].endswith("in crashing")


async def test_no_answer_with_lifespan_on_is_fatal(make: Make) -> None:
    with pytest.raises(StartupFailed, match="returned without an answer"):
        await make(answerless, "on").startup()


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_an_application_that_exits_in_its_startup_is_not_served(make: Make, mode: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise SystemExit("no configuration")

    with pytest.raises(StartupFailed, match="raised SystemExit: no configuration"):
        await make(app, mode).startup()


# --- Failures


def refusing(message: str, *, then: BaseException | None = None) -> Application:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": message})
        if then is not None:
            raise then

    return app


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_a_refused_startup_is_logged_and_fatal(
    make: Make, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    with pytest.raises(StartupFailed, match=r"^the application refuses to start: no database$"):
        await make(refusing("no database"), mode).startup()
    assert messages(caplog) == ["the application refuses to start: no database"]


async def test_a_refusal_with_a_traceback_is_logged_whole_and_named_by_its_last_line(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    # Starlette says what it then raises.
    app = refusing("Traceback ...\nRuntimeError: no database\n", then=RuntimeError("no database"))
    with pytest.raises(StartupFailed, match=r"^the application refuses to start: RuntimeError: no database$"):
        await make(app).startup()
    assert messages(caplog) == ["the application refuses to start: Traceback ...\nRuntimeError: no database"]


async def test_a_refusal_without_a_reason_says_that(make: Make) -> None:
    with pytest.raises(StartupFailed, match="it gave no reason"):
        await make(refusing("")).startup()


async def test_an_application_that_refuses_may_clean_up(make: Make) -> None:
    cleaned = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})
        await turns()
        cleaned.set()
        await receive()

    with pytest.raises(StartupFailed):
        await make(app).startup()
    assert cleaned.is_set()


async def test_a_failed_shutdown_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "disk full"})
        raise RuntimeError("disk full")

    lifespan = make(app)
    await lifespan.startup()
    await lifespan.shutdown()
    assert lifespan.failed
    assert messages(caplog) == ["the application's shutdown failed: disk full"]


async def test_an_exception_during_shutdown_is_a_failed_shutdown(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise RuntimeError("disk full")

    lifespan = make(app)
    await lifespan.startup()
    await lifespan.shutdown()
    assert lifespan.failed
    assert messages(caplog) == ["exception in the application's lifespan"]
    assert "RuntimeError: disk full" in caplog.text


async def test_a_lifespan_that_dies_in_between_is_logged_at_once_and_fails_the_shutdown(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    app = SteeredApp(steer_lifespan=True)
    lifespan = make(app)
    starting = asyncio.ensure_future(lifespan.startup())
    call = await app.next_call()
    await call.receive()
    await call.send({"type": "lifespan.startup.complete"})
    await starting
    call.crash(RuntimeError("lost the database"))
    await call.cancelled_or_done()
    await turns(1)
    assert messages(caplog) == ["exception in the application's lifespan"]
    await lifespan.shutdown()
    assert lifespan.failed


async def test_a_lifespan_that_returns_in_between_has_nothing_to_shut_down(make: Make) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    lifespan = make(app)
    await lifespan.startup()
    await turns(1)
    await lifespan.shutdown()
    assert not lifespan.failed


# --- Messages


@pytest.mark.parametrize("kind", ["lifespan.shutdown.complete", "http.response.start"])
async def test_a_message_that_the_state_forbids_raises(make: Make, kind: str) -> None:
    raised: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": kind})
        except UnexpectedMessage as error:
            raised.append(str(error))
        await accept_lifespan(receive, send)

    await make(app).startup()
    legal = "lifespan.startup.complete, lifespan.startup.failed"
    assert raised == [f"{kind!r} while the application is starting; legal: {legal}"]


async def test_startup_cannot_be_answered_twice(make: Make) -> None:
    raised = asyncio.get_running_loop().create_future()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await send({"type": "lifespan.startup.complete"})
        except UnexpectedMessage as error:
            raised.set_result(str(error))

    await make(app).startup()
    assert await raised == "'lifespan.startup.complete' while the application is serving; legal: nothing"


# --- Cancelled


async def test_a_cancelled_startup_leaves_nothing_behind(make: Make) -> None:
    app = SteeredApp(steer_lifespan=True)
    starting = asyncio.ensure_future(make(app).startup())
    call = await app.next_call()
    starting.cancel()
    assert await call.cancelled_or_done() == "cancelled"
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_an_application_that_ignores_the_cancellation_of_its_startup_is_not_waited_for(
    make: Make, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    begun, cancelled, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        try:
            await release.wait()
        except asyncio.CancelledError:
            cancelled.set()
            await release.wait()

    starting = asyncio.ensure_future(make(app).startup())
    await begun.wait()
    starting.cancel()
    async with within("the cancellation"):
        await cancelled.wait()
    assert not starting.done()
    clock.advance(5)
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert messages(caplog) == ["the application's lifespan ignores its cancellation"]
    release.set()


async def test_a_cancelled_shutdown_leaves_nothing_behind(make: Make) -> None:
    app = SteeredApp(steer_lifespan=True)
    lifespan = make(app)
    starting = asyncio.ensure_future(lifespan.startup())
    call = await app.next_call()
    await call.receive()
    await call.send({"type": "lifespan.startup.complete"})
    await starting
    stopping = asyncio.ensure_future(lifespan.shutdown())
    assert await call.receive() == {"type": "lifespan.shutdown"}
    stopping.cancel()
    assert await call.cancelled_or_done() == "cancelled"
    with pytest.raises(asyncio.CancelledError):
        await stopping


# --- A shutdown that does not end


async def begin_shutdown(app: SteeredApp, lifespan: Lifespan) -> tuple[Call, asyncio.Future[None]]:
    """Start an application up, and begin to shut it down."""
    starting = asyncio.ensure_future(lifespan.startup())
    call = await app.next_call()
    await call.receive()
    await call.send({"type": "lifespan.startup.complete"})
    await starting
    stopping = asyncio.ensure_future(lifespan.shutdown())
    assert await call.receive() == {"type": "lifespan.shutdown"}
    return call, stopping


@pytest.mark.parametrize("answered", [False, True], ids=["without answer", "answered"])
async def test_a_shutdown_that_takes_too_long_is_cancelled_and_has_failed(
    make: Make, clock: ManualClock, caplog: pytest.LogCaptureFixture, *, answered: bool
) -> None:
    app = SteeredApp(steer_lifespan=True)
    lifespan = make(app, shutdown_timeout=7.5)
    call, stopping = await begin_shutdown(app, lifespan)
    if answered:
        await call.send({"type": "lifespan.shutdown.complete"})
    clock.advance(7)
    await turns(1)
    assert not stopping.done()
    clock.advance(0.5)
    assert await call.cancelled_or_done() == "cancelled"
    await stopping
    assert lifespan.failed
    assert messages(caplog) == [
        "the application's shutdown takes longer than 7.5 seconds (--shutdown-timeout): cancelling"
    ]


async def test_a_shutdown_may_take_any_time_where_the_operator_says_so(
    make: Make, clock: ManualClock
) -> None:
    app = SteeredApp(steer_lifespan=True)
    lifespan = make(app, shutdown_timeout=0.0)
    call, stopping = await begin_shutdown(app, lifespan)
    clock.advance(86400)
    await turns(1)
    await call.send({"type": "lifespan.shutdown.complete"})
    call.finish()
    await stopping
    assert not lifespan.failed
