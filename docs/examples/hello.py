"""The smallest application: bare ASGI, no framework.

Serve it:  serve hello:app
Try it:    curl http://localhost:8000/
"""


async def app(scope, receive, send):
    """Answer every request with one line."""
    if scope["type"] != "http":
        return  # no WebSocket here, nothing to start up
    fields = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": f"Hello over HTTP/{scope['http_version']}\n".encode()})
