"""What the Autobahn test suite wants to talk to: an application that sends back what it receives."""

from alphorn.core.asgi import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, then echo until the end."""
    assert scope["type"] == "websocket", "it echoes messages: no lifespan, no HTTP"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
