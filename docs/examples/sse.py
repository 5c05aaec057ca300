"""Server-sent events: one a second until the client leaves.

Serve it:  serve sse:app
Try it:    curl -N --max-time 3 http://localhost:8000/
"""

import asyncio

PERIOD_SECONDS = 1.0


async def app(scope, receive, send):
    """Count until `send` raises OSError, because nobody listens; the server takes that for an end."""
    if scope["type"] != "http":
        return
    fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    number = 0
    while True:
        event = f"id: {number}\ndata: {number}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
        number += 1
        await asyncio.sleep(PERIOD_SECONDS)
