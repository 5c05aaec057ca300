"""The channel between a supervisor and each of its workers: JSON objects, one per line, both ways.

    worker to supervisor, unasked   {"event": "ready", ...}, "beat", "draining", "drained", "worn", "failed"
    supervisor to worker, unasked   {"event": "replaced"}
    supervisor to worker            {"id": 7, "command": "limits", "arguments": {}}
    worker to supervisor            {"id": 7, "answer": {...}}, or "error", or "unknown", which say what

Invariants:
- The two ends trust each other: they are one program, and nobody else has the socket.
- Writing never waits. What is said without being asked for is short and seldom.
- Knows nothing of processes: who is at the other end, and what to do when it is gone, is not decided here.
"""

import asyncio
import json
import socket
from itertools import count
from typing import Any, Final, Self, TypeAlias

from .clock import Clock
from .fleet import Commands
from .log import error_log

Message: TypeAlias = dict[str, Any]

_LONGEST_LINE: Final = 16 * 1024 * 1024  # bytes; the stacks of very many tasks, say
_ANSWER_SECONDS: Final = 2.0


class Channel:
    """One end of the channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        """Make one of a connected socket, which is the channel's from now on."""
        return cls(*await asyncio.open_connection(sock=sock, limit=_LONGEST_LINE))

    def send(self, message: Message) -> None:
        """Send a message; if the other end is gone, nothing happens."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def receive(self) -> Message | None:
        """Return the next message, or None when the other end is gone."""
        try:
            line = await self._reader.readline()
        except (ConnectionError, ValueError):  # reset; a line too long
            return None
        return decode(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        """Close it, after what was sent has left."""
        self._writer.close()


def encode(message: Message) -> bytes:
    """Return a message as its line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line."""
    message: Message = json.loads(line)
    return message


def answer(question: Message, commands: Commands) -> Message:
    """Do what a question asks for and return the answer; an exception becomes an error."""
    command = commands.get(question["command"])
    if command is None:
        return {"id": question["id"], "unknown": question["command"]}
    try:
        said = command(**question["arguments"])
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked is to know
        error_log.exception("%s: the command failed", question["command"])
        return {"id": question["id"], "error": f"{type(error).__name__}: {error}"}
    return {"id": question["id"], "answer": said}


class Asking:
    """The questions that were asked over a channel, and have yet to be answered."""

    def __init__(self, channel: Channel, clock: Clock) -> None:
        self._channel = channel
        self._clock = clock
        self._ids = count(1)
        self._open: dict[int, asyncio.Future[Message]] = {}

    async def ask(self, command: str, arguments: Message) -> Any:
        """Ask for the result of a command.

        Raises:
            KeyError: There is no such command.
            TimeoutError: There was no answer in time, or the other end is gone.
            RuntimeError: The command failed; the message says how.
        """
        number = next(self._ids)
        answered = self._open[number] = asyncio.get_running_loop().create_future()
        self._channel.send({"id": number, "command": command, "arguments": arguments})
        try:
            async with self._clock.timeout(_ANSWER_SECONDS):
                message = await answered
        finally:
            del self._open[number]
        if "unknown" in message:
            raise KeyError(message["unknown"])
        if "error" in message:
            raise RuntimeError(message["error"])
        return message["answer"]

    def answered(self, message: Message) -> None:
        """Take an answer; one that comes too late is dropped."""
        waiting = self._open.get(message["id"])
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def abandon(self) -> None:
        """Expect no more answers: the other end is gone."""
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(TimeoutError())
