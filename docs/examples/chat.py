"""A chat over WebSocket: whoever is connected reads what anybody writes.

Serve it:  serve chat:app
Try it:    open http://localhost:8000/ in two tabs
"""

import asyncio

PAGE = b"""<!doctype html>
<title>Chat</title>
<form><input autofocus aria-label="Message"></form>
<pre></pre>
<script>
  const [form, log] = document.querySelectorAll("form, pre");
  let socket;
  const connect = () => {
    socket = new WebSocket(location.href.replace(/^http/, "ws"));
    socket.onmessage = (event) => log.append(event.data, "\\n");
    socket.onclose = (event) => {
      log.append(`closed: ${event.code} ${event.reason}\\n`);
      setTimeout(connect, 500 + 1000 * Math.random());  // not everybody at once
    };
  };
  connect();
  form.onsubmit = (event) => {
    event.preventDefault();
    socket.send(form[0].value);
    form.reset();
  };
</script>
"""
BACKLOG = 100
"""How many lines may wait for a client that reads slowly, before it misses some."""

members = set()
"""For everybody in the chat, a queue of lines."""


async def app(scope, receive, send):
    """Serve the page to a browser, and the chat to the page."""
    if scope["type"] == "websocket":
        await chat(receive, send)
    elif scope["type"] == "http":
        fields = [(b"content-type", b"text/html; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": PAGE})


async def tell(line):
    """Tell a line to everybody who is connected here."""
    for member in members:
        if not member.full():
            member.put_nowait(line)


async def chat(receive, send, say=tell):
    """Be one member: listen in this task, speak in another. What the member says goes to `say`."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    lines = asyncio.Queue(BACKLOG)
    members.add(lines)
    try:
        async with asyncio.TaskGroup() as tasks:
            delivering = tasks.create_task(deliver(lines, send))
            while (message := await receive())["type"] == "websocket.receive":
                await say(message.get("text") or "")
            delivering.cancel()
    finally:
        members.remove(lines)


async def deliver(lines, send):
    """Send what is said. `send` waits while the client does not read, and raises OSError when it has gone."""
    while True:
        await send({"type": "websocket.send", "text": await lines.get()})
