"""A Socket.IO server: events, acknowledgements, rooms."""

import sys
from typing import Any

import socketio

# A client that says goodbye leaves its last poll unanswered for as long as these two take together.
server = socketio.AsyncServer(async_mode="asgi", ping_interval=1, ping_timeout=2)


async def ended() -> None:
    print("the application has ended", file=sys.stderr, flush=True)


@server.event
async def join(sid: str, room: str) -> str:
    await server.enter_room(sid, room)
    return f"welcome to {room}"


@server.event
async def say(sid: str, message: dict[str, Any]) -> None:
    await server.emit("said", message, room=message["room"], skip_sid=sid)


app = socketio.ASGIApp(server, on_shutdown=ended)
