"""Server-sent events: one a second, until the client leaves or the server shuts down.

Serve it:  serve sse:app
Try it:    curl -N --max-time 3 http://localhost:8000/
"""

import asyncio

PERIOD_SECONDS = 1.0


async def app(scope, receive, send):
    """Count in one task while the other waits for the end."""
    if scope["type"] != "http":
        return
    fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(count(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        counting.cancel()
    await send({"type": "http.response.body"})  # a client that is still there may come back elsewhere


async def count(send):
    """Send numbers. `send` waits while the client does not read, and raises OSError when it has gone."""
    number = 0
    while True:
        event = f"id: {number}\ndata: {number}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
        number += 1
        await asyncio.sleep(PERIOD_SECONDS)
