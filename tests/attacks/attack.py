"""What an attack is: facts about it, and one attempt to do harm from outside.

An attempt connects, misbehaves for a bounded time and returns what it saw the server do about it; it raises
`Undefended` if that was nothing. How often and by how many it is repeated, and what it costs the server and
its other clients, is for others to say (trial.py).
"""

import asyncio
import json
import secrets
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from support.carrier import Carrier
from support.wire import Wire

FLOOD_SECONDS = 6.0
"""How long a flood may go on before the server is taken to have no defence."""
ENOUGH_SECONDS = 2.5
"""How long an attack goes on that no server needs to put an end to."""
_POLL_SECONDS = 0.5


class Undefended(Exception):  # noqa: N818 - it says what the server is
    """The server did nothing about it."""


@dataclass(frozen=True)
class Target:
    """Where to attack.

    Attributes:
        port: On 127.0.0.1.
        secure: Whether it speaks TLS.
        scale: How much of what an attack can do it shall do; 1 is all.
        patience: How long an attack that waits goes on before the server is taken to have no defence; by
            default longer than any default deadline and its tick.
        source: The address to come from, if the attacker is not to have the neighbour's.
    """

    port: int
    secure: bool
    scale: float = 1.0
    patience: float = 110.0
    source: str = ""

    @property
    def url(self) -> str:
        """Where its neighbours go."""
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    async def connect(self, protocol: str = "http/1.1", *, receive_buffer: int | None = None) -> Wire:
        """Connect; over TLS, with this protocol by ALPN.

        Args:
            protocol: For ALPN.
            receive_buffer: Bytes that the kernel holds for us.
        """
        tls = client_context(protocol) if self.secure else None
        return await Wire.open(self.url, tls=tls, receive_buffer=receive_buffer, source=self.source)

    async def connect_bare(self) -> Wire:
        """Connect without a word of TLS, whatever is spoken there."""
        return await Wire.open(self.url)

    async def ask(self, path: str) -> dict[str, int]:
        """Ask the application for `/calls` or `/state`; see `attack_app`.

        Raises:
            ValueError: The answer is none.
        """
        wire = await self.connect()
        try:
            # The first request is there for the connection to have found its protocol when the second is answered.
            await wire.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = await wire.read()
            await wire.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            while data := await wire.read():
                answer += data
        finally:
            wire.close()
        found: dict[str, int] = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
        return found


@dataclass(frozen=True)
class Attack:
    """One way to do harm.

    Attributes:
        name: As `make attack` and the tests call it.
        what: What the attacker does, as the report says it.
        carrier: What it travels over.
        settings: What the operator can set about it, in Config.
        attempt: Attack once; return the defence that was seen, or raise `Undefended`.
        websocket: Whether it needs a WebSocket, which a peer may not have over HTTP/2.
        clients: How many attack at once.
        waits: Whether the defence is a deadline; otherwise the attack is repeated as often as time allows.
        options: Flags without which it would be no attack; empty for all but a few.
        short_options: Flags that bring it into the reach of a test, which has less time.
    """

    name: str
    what: str
    carrier: Carrier
    settings: tuple[str, ...]
    attempt: Callable[[Target], Awaitable[str]]
    websocket: bool = False
    clients: int = 1
    waits: bool = False
    options: tuple[str, ...] = ()
    short_options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def unique(path: str) -> str:
    """Return a target that no other request has, so that its call can be told from theirs."""
    return f"{path}{'&' if '?' in path else '?'}name={secrets.token_hex(4)}"


def client_context(protocol: str) -> ssl.SSLContext:
    """Return a context that trusts everybody and offers one protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


async def wait_given_up(target: Target, name: str, wire: Wire) -> str:
    """Wait until the application's call of this name has ended, without reading from its connection.

    Args:
        target: The server.
        name: The path and query of the call.
        wire: Its connection.

    Returns:
        After how long.

    Raises:
        Undefended: It never ended.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (waited := loop.time() - began) < target.patience:
        if name not in await _calls_soon(target):
            return f"{'reset' if wire.failed else 'given up'}{after(waited)}"
    raise Undefended(f"still held after {target.patience:.0f} s")


_asked: dict[int, asyncio.Task[dict[str, int]]] = {}
"""The question that is under way, by the port; one for all who wait, for to ask is no part of the attack."""


async def _calls_soon(target: Target) -> dict[str, int]:
    """Return which calls are under way, in a moment."""
    if target.port not in _asked or _asked[target.port].done():
        _asked[target.port] = asyncio.create_task(_ask_soon(target))
    return await asyncio.shield(_asked[target.port])


async def _ask_soon(target: Target) -> dict[str, int]:
    await asyncio.sleep(_POLL_SECONDS)
    return await target.ask("/calls")


def after(seconds: float) -> str:
    """Return how long it took, where that is worth a word."""
    return f" after {seconds:.0f} s" if seconds >= 1.5 else ""
