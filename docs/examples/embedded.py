"""A server inside a program of your own, in its event loop.

Run it:  python embedded.py
"""

import asyncio
import urllib.request

from alphorn import Server


async def app(scope, receive, send):
    """Answer every request with one line."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"Hello from inside\n"})


async def main():
    """Serve on a free port, be a client of it, and drain at the end of the block."""
    async with Server(app, port=0) as server:
        url = server.urls[0]
        print("listening on", url)
        print((await asyncio.to_thread(fetch, url)).decode(), end="")


def fetch(url):
    """Be any client."""
    with urllib.request.urlopen(url) as response:
        return response.read()


if __name__ == "__main__":
    asyncio.run(main())
