"""Full duplex: the response is under way while the request still arrives.

One task receives, another sends. Over HTTP/2 this is how gRPC streams in both directions; clients
of HTTP/1.1 have to read before they have finished writing, as curl does.

Serve it:  serve fullduplex:app
Try it:    head -c 30m /dev/zero | curl -NsT - --limit-rate 10m http://localhost:8000/
"""

import asyncio

PERIOD_SECONDS = 1.0


async def app(scope, receive, send):
    """Report once a second how much of the upload has arrived."""
    if scope["type"] != "http":
        return
    fields = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    upload = Upload()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(upload.read(receive))
        tasks.create_task(upload.report(send))


class Upload:
    """What two tasks share."""

    def __init__(self):
        self.size = 0
        self.ended = asyncio.Event()

    async def read(self, receive):
        """Count the bytes of the request."""
        while not self.ended.is_set():
            message = await receive()
            self.size += len(message.get("body", b""))
            if not message.get("more_body", False):  # the end, or http.disconnect
                self.ended.set()

    async def report(self, send):
        """Send the count, now and then."""
        while not self.ended.is_set():
            line = f"{self.size} bytes so far\n".encode()
            await send({"type": "http.response.body", "body": line, "more_body": True})
            try:
                async with asyncio.timeout(PERIOD_SECONDS):
                    await self.ended.wait()
            except TimeoutError:
                pass
        await send({"type": "http.response.body", "body": f"{self.size} bytes in all\n".encode()})
