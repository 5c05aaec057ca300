"""The chat of the demonstration: tabs in a room, lines between them.

A tab sends plain lines and gets JSON objects with a `kind`. Invariants:
- Putting a line in never waits: a tab that does not read loses its oldest lines and is told how
  many, instead of making the others wait.
- Memory is bounded: so many lines wait for a tab, so many are kept for those who come later.
- A tab that floods slows only itself: between its lines nothing of it is read.
- A room is as wide as one process; several workers have several rooms.
"""

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from typing import Any

from .core.asgi import Message, Receive, Send

MAX_LINE_CHARACTERS = 500
MAX_NAME_CHARACTERS = 24
HISTORY_LINES = 50
WAITING_LINES = 64

PEAKS = (
    "Allalinhorn", "Balmhorn", "Breithorn", "Dom", "Eiger", "Finsteraarhorn", "Jungfrau", "Lenzspitze",
    "Lyskamm", "Matterhorn", "Mönch", "Nadelhorn", "Piz Bernina", "Schreckhorn", "Titlis", "Weisshorn",
)  # fmt: skip


class Tab:
    """One participant of the chat and the lines that wait to be sent to it.

    Attributes:
        name: Unique in the room.
        missed: How many lines were dropped since the last one that was sent.
    """

    __slots__ = ("_filled", "_waiting", "missed", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.missed = 0
        self._waiting: deque[str] = deque(maxlen=WAITING_LINES)
        self._filled = asyncio.Event()

    def put(self, line: str) -> None:
        """Leave a line for this tab; the oldest one gives way if it does not read."""
        if len(self._waiting) == WAITING_LINES:
            self.missed += 1
        self._waiting.append(line)
        self._filled.set()

    async def take(self) -> str:
        """Return the next line, or first the notice of how many were lost."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        if self.missed:
            missed, self.missed = self.missed, 0
            return _json(kind="missed", count=missed)
        return self._waiting.popleft()


class Room:
    """Who is in the chat and what was said lately.

    Attributes:
        pace_seconds: How long a tab is not read after each of its lines. Its window fills meanwhile, so
            that a flood waits at its source.
    """

    def __init__(self, pace_seconds: float) -> None:
        self.pace_seconds = pace_seconds
        self._tabs: dict[str, Tab] = {}
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_LINES)

    def __len__(self) -> int:
        return len(self._tabs)

    def join(self, wanted: str, carrier: str) -> Tab:
        """Admit a tab under the name it wants, or one like it, and greet it."""
        tab = Tab(self._free_name(wanted))
        self._announce("join", name=tab.name, people=[*self._people(), tab.name])
        self._tabs[tab.name.casefold()] = tab
        tab.put(
            _json(
                kind="welcome",
                name=tab.name,
                carrier=carrier,
                people=self._people(),
                history=list(self._history),
            )
        )
        return tab

    def leave(self, tab: Tab) -> None:
        """Forget a tab and tell the others."""
        del self._tabs[tab.name.casefold()]
        self._announce("leave", name=tab.name, people=self._people())

    def rename(self, tab: Tab, wanted: str) -> None:
        """Give a tab the name it wants, or one like it, and tell everybody."""
        before = tab.name
        del self._tabs[before.casefold()]
        tab.name = self._free_name(wanted)
        self._tabs[tab.name.casefold()] = tab
        if tab.name != before:
            self._announce("rename", before=before, name=tab.name, people=self._people())

    def say(self, tab: Tab, text: str) -> None:
        """Tell everybody, the speaker included, what a tab says."""
        line = {"name": tab.name, "text": text, "time": time.time()}
        self._history.append(line)
        self._announce("say", **line)

    def _announce(self, kind: str, **facts: Any) -> None:
        line = _json(kind=kind, **facts)
        for tab in self._tabs.values():
            tab.put(line)

    def _people(self) -> list[str]:
        return [tab.name for tab in self._tabs.values()]

    def _free_name(self, wanted: str) -> str:
        wanted = _one_line("".join(filter(str.isprintable, wanted)))[:MAX_NAME_CHARACTERS]
        name = base = wanted or random.choice(PEAKS)  # noqa: S311 - a nickname, not a secret
        number = 1
        while name.casefold() in self._tabs:
            number += 1
            name = f"{base} {number}"
        return name


async def talk(room: Room, wanted: str, carrier: str, receive: Receive, send: Send) -> None:
    """Take a tab through the chat, from joining to leaving; its WebSocket has been accepted.

    Args:
        room: Where it talks.
        wanted: The name it would like; the line `/name NEW` changes it later.
        carrier: What its WebSocket runs over, such as "HTTP/2"; it is told so.
        receive: Of its scope.
        send: Of its scope.
    """
    tab = room.join(wanted, carrier)
    try:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(_write(tab, send))
            refusal = await _listen(room, tab, receive)
            writing.cancel()
    finally:
        room.leave(tab)
    if refusal is not None:
        await send(refusal)


async def _write(tab: Tab, send: Send) -> None:
    """Send a tab its lines; where it does not read, only this task waits."""
    with contextlib.suppress(OSError):
        while True:
            await send({"type": "websocket.send", "text": await tab.take()})


async def _listen(room: Room, tab: Tab, receive: Receive) -> Message | None:
    """Take a tab's lines until it leaves (None) or must (the message that closes it, RFC 6455, 7.4.1)."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return None
        text = message.get("text")
        if text is None:
            return {"type": "websocket.close", "code": 1003, "reason": "The chat takes text."}
        if len(text) > MAX_LINE_CHARACTERS:
            reason = f"A line has at most {MAX_LINE_CHARACTERS} characters."
            return {"type": "websocket.close", "code": 1009, "reason": reason}
        line = _one_line(text)
        command, _, name = line.partition(" ")
        if command == "/name":
            room.rename(tab, name)
        elif line:
            room.say(tab, line)
        await asyncio.sleep(room.pace_seconds)


def _one_line(text: str) -> str:
    """Make every run of white space, line ends included, one space."""
    return " ".join(text.split())


def _json(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)
