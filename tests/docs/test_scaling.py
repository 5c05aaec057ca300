"""docs/guide/scaling.md, on two hosts behind HAProxy, with a real Redis."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from support.hosts import ROUTER, Network
from support.pages import ROOT, Page
from support.process import ServerProcess
from support.waiting import within

pytest.importorskip("redis")

GUIDE = Page(ROOT / "docs" / "guide" / "scaling.md")
(COMMANDS,) = (block.text.splitlines() for block in GUIDE.blocks("sh"))
(HAPROXY,) = (block.text for block in GUIDE.blocks("haproxy"))
HOSTS = ("one", "two")


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        network = Network(*HOSTS)
    except OSError as error:
        pytest.skip(f"no network namespaces: {error}")
    with network:
        yield network


class RedisServer:
    """A real Redis on the router; `restart()` lets it forget who listens."""

    def __init__(self, program: str, network: Network, folder: Path) -> None:
        options = ["--bind", ROUTER, "--protected-mode", "no", "--save", ""]
        self._command = [*network.on("router"), program, *options]
        self._folder = folder
        self._process = self._start()

    def restart(self) -> None:
        self.stop()
        self._process = self._start()

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self._command, cwd=self._folder, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        return process


@pytest.fixture
def redis(network: Network, needs_tool: Callable[[str], str], tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(needs_tool("redis-server"), network, tmp_path)
    yield server
    server.stop()


class Host(ServerProcess):
    """A server on a host of the network, started as the guide says; its name is in the `server` field."""

    def __init__(self, name: str, network: Network) -> None:
        self._name = name
        self._network = network
        *_, (variable, _, options) = (line.partition(" serve ") for line in COMMANDS[: HOSTS.index(name) + 1])
        self._variable = variable
        *flags, app = options.split()
        super().__init__(app, *flags, folder=ROOT / "docs" / "examples")

    def command(self, app: str, options: Sequence[str]) -> list[str]:
        """Return what is run."""
        program, *rest = super().command(app, [*options, "--server-header", self._name])
        port = rest.index("--port")
        del rest[port : port + 2]  # the guide names address and port
        return [*self._network.on(self._name), "env", self._variable, program, *rest]


@pytest.fixture
def hosts(network: Network, redis: RedisServer) -> Iterator[dict[str, Host]]:  # noqa: ARG001 - has to be there
    hosts = {name: Host(name, network) for name in HOSTS}
    yield hosts
    for host in hosts.values():
        host.kill()


@pytest.fixture
def door(
    network: Network,
    hosts: dict[str, Host],  # noqa: ARG001 - have to be there
    needs_tool: Callable[[str], str],
    tmp_path: Path,
) -> Iterator[str]:
    """HAProxy as the guide has it, but on a unix socket, through which a test reaches into the network."""
    door, file = f"{tmp_path}/door", tmp_path / "haproxy.cfg"
    assert HAPROXY.count("bind :80") == 1
    file.write_text(HAPROXY.replace("bind :80", f"bind unix@{door}"))
    command = [*network.on("router"), needs_tool("haproxy"), "-db", "-f", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield door
        finally:
            process.terminate()


async def enter(door: str) -> ClientConnection:
    """Join the chat, as soon as there is a way in."""
    async with within("a host that takes clients", 20):
        while True:
            with contextlib.suppress(OSError, WebSocketException):
                return await unix_connect(door, uri="ws://chat/", open_timeout=5)
            await asyncio.sleep(0.05)


def host_of(member: ClientConnection) -> str:
    assert member.response is not None
    return member.response.headers["server"]


async def two_members(door: str) -> tuple[ClientConnection, ClientConnection]:
    """Join as two members, who come to be on two hosts."""
    anna, berta = await enter(door), await enter(door)
    assert {host_of(anna), host_of(berta)} == set(HOSTS)
    return anna, berta


async def hear(member: ClientConnection, line: str) -> None:
    async with within(f"{line!r} to be heard", 10):
        assert await member.recv() == line


async def test_what_is_said_on_one_host_is_heard_on_the_other(door: str) -> None:
    anna, berta = await two_members(door)
    await anna.send("hoi zäme")
    for member in (anna, berta):
        await hear(member, "hoi zäme")
    await berta.send("hoi Anna")
    for member in (anna, berta):
        await hear(member, "hoi Anna")
    await anna.close()
    await berta.close()


@pytest.mark.parametrize("how", ["stopped", "killed", "unplugged"])
async def test_the_clients_of_a_host_that_goes_reconnect_to_the_other(
    how: str, door: str, hosts: dict[str, Host], network: Network
) -> None:
    anna, berta = await two_members(door)
    gone, left = host_of(anna), host_of(berta)
    match how:
        case "stopped":
            assert await asyncio.to_thread(hosts[gone].stop) == 0
        case "killed":
            hosts[gone].kill()
        case "unplugged":
            network.unplug(gone)
    async with within("the client to notice", 10):
        with pytest.raises(ConnectionClosed) as closed:
            await anna.recv()
    assert (closed.value.rcvd.code if closed.value.rcvd else None) == (1012 if how == "stopped" else None)

    anna = await enter(door)
    assert host_of(anna) == left
    await anna.send("here again")
    for member in (anna, berta):
        await hear(member, "here again")
    await anna.close()
    await berta.close()


async def test_the_chat_goes_on_when_redis_is_back(door: str, redis: RedisServer) -> None:
    anna, berta = await two_members(door)
    await asyncio.to_thread(redis.restart)
    heard = {asyncio.ensure_future(member.recv()) for member in (anna, berta)}
    async with within("both hosts to listen again", 20):
        while not all(each.done() for each in heard):
            await anna.send("are you there?")
            await asyncio.wait(heard, timeout=0.2)
    assert {await each for each in heard} == {"are you there?"}
    await anna.close()
    await berta.close()
