"""The end of a worker's connections: announced, bounded, and told to the operator second by second."""

import asyncio
import contextlib
from typing import Final

from .log import error_log, escape, format_address
from .worker import Worker

# What cancelled applications get to clean up in, and their last answers to leave.
_CANCEL_SECONDS: Final = 5.0
_FLUSH_SECONDS: Final = 1.0
_REPORT_SECONDS: Final = 1.0
_NAMED_IN_REPORT: Final = 3


async def drain(worker: Worker, grace: float) -> bool:
    """Let what is under way finish, then end what has not.

    Args:
        worker: Whose connections; its listeners are closed already.
        grace: How long requests may go on, in seconds.

    Returns:
        Whether all of it finished by itself.
    """
    worker.closing = True
    for connection in list(worker.connections):
        connection.shutdown()
    reporting = asyncio.ensure_future(_report(worker))
    complete = True
    try:
        async with asyncio.timeout(grace):
            await worker.dispatcher.wait_idle()
            await worker.wait_disconnected()
    except TimeoutError:
        complete = False
        await _cut_short(worker, grace)
    finally:
        reporting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporting
    for connection in list(worker.connections):
        connection.terminate()
    await worker.wait_disconnected()
    return complete


async def _cut_short(worker: Worker, grace: float) -> None:
    error_log.warning("after %g seconds still %s: cancelling", grace, _what_runs(worker))
    stubborn = await worker.dispatcher.cancel_all(_CANCEL_SECONDS)
    for call in stubborn:
        error_log.error("%s: the application ignores its cancellation", escape(call.scope["path"]))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FLUSH_SECONDS):
            await worker.wait_disconnected()


async def _report(worker: Worker) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        error_log.info("waiting for %s", _what_runs(worker))


def _what_runs(worker: Worker) -> str:
    running = worker.dispatcher.running
    named = [
        f"{escape(call.scope['path'])} of {format_address(call.scope['client'])}"
        for call in running[:_NAMED_IN_REPORT]
    ]
    if len(running) > _NAMED_IN_REPORT:
        named.append("...")
    requests = f"{len(running)} requests ({', '.join(named)})" if running else "no requests"
    return f"{requests}, {len(worker.connections)} connections"
