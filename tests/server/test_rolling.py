"""Workers that are replaced under load: h2load and many WebSockets, and nothing of them is lost."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from support.load import APP, PATIENCE_SECONDS, SOCKETS, Requests, Talkers, told
from support.process import ServerProcess

pytestmark = pytest.mark.skipif("sys.platform == 'win32'", reason="sockets cannot be handed on there")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("shop:app", "--workers", "2", folder=folder, quiet=True) as server:
        server.wait_for("worker 1 (pid")
        server.wait_for("worker 2 (pid")
        yield server


async def under_load(
    needs_tool: Callable[[str], str],
    server: ServerProcess,
    act: Callable[[Talkers], Awaitable[None]],
) -> Talkers:
    """Do something while there are requests and messages; none of the requests fails."""
    async with Talkers(server.url) as talkers:
        with Requests(needs_tool("h2load"), server.url) as requests:
            await talkers.everybody_is_heard_again()
            await act(talkers)
            await talkers.everybody_is_heard_again()
            await talkers.until(lambda: requests.succeeded)
    assert requests.failures == []
    return talkers


async def test_a_rolling_restart_loses_no_request_and_no_message(
    needs_tool: Callable[[str], str], server: ServerProcess
) -> None:
    async def restart(_: Talkers) -> None:
        server.send_signal(signal.SIGHUP)
        await told(server, "2 workers were replaced")

    talkers = await under_load(needs_tool, server, restart)
    assert set(talkers.closings) == {1012}
    assert (
        SOCKETS <= talkers.closings[1012] <= 2 * SOCKETS
    )  # once, or twice if the other old worker came next


async def test_a_restart_with_code_that_does_not_start_leaves_everything_as_it_is(
    needs_tool: Callable[[str], str], server: ServerProcess, folder: Path
) -> None:
    async def restart(_: Talkers) -> None:
        (folder / "shop.py").write_text("import shopp\n")
        server.send_signal(signal.SIGHUP)
        await told(server, "the rolling restart is given up at worker 1, and the workers that serve stay: ")

    talkers = await under_load(needs_tool, server, restart)
    assert not talkers.closings


async def test_a_binary_upgrade_loses_no_request_and_no_message(
    needs_tool: Callable[[str], str], folder: Path
) -> None:
    server = await asyncio.to_thread(ServerProcess, "shop:app", "--workers", "2", folder=folder, quiet=True)
    successor: list[int] = []

    async def upgrade(_: Talkers) -> None:
        server.send_signal(signal.SIGUSR2)
        line = await told(server, "has taken over: shutting down")
        successor.append(int(line.split()[4]))

    try:
        talkers = await under_load(needs_tool, server, upgrade)
        assert set(talkers.closings) == {1012}
        assert server._process.wait(PATIENCE_SECONDS) == 0
    finally:
        for pid in successor:
            os.kill(pid, signal.SIGTERM)
        server.kill()


async def test_an_upgrade_that_does_not_start_leaves_everything_as_it_is(
    needs_tool: Callable[[str], str], server: ServerProcess, folder: Path
) -> None:
    async def upgrade(_: Talkers) -> None:
        (folder / "shop.py").write_text("import shopp\n")
        server.send_signal(signal.SIGUSR2)
        await told(server, ", which was to take over, has ended: going on")

    talkers = await under_load(needs_tool, server, upgrade)
    assert not talkers.closings


async def test_of_a_worker_that_is_killed_only_its_own_connections_are_lost(server: ServerProcess) -> None:
    line = await told(server, "worker 1 (pid")
    async with Talkers(server.url) as talkers:
        await talkers.everybody_is_heard_again()
        os.kill(int(line.partition("(pid ")[2].partition(")")[0]), signal.SIGKILL)
        await told(server, "was ended by SIGKILL")
        await talkers.everybody_is_heard_again()  # and nobody was refused
    assert set(talkers.closings) <= {1006}
    assert talkers.closings[1006] < SOCKETS
