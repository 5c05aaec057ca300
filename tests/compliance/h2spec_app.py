"""What h2spec talks to: an application that takes every request and has enough to say."""

from alphorn.core.asgi import Receive, Scope, Send

TEXT = b"An alphorn is made of one young spruce. " * 256


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the content, then answer."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": TEXT})
