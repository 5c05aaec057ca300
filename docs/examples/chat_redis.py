"""The chat on several hosts: what is said on one is heard on all of them, through Redis.

Install:   pip install redis, and a Redis server
Serve it:  REDIS_URL=redis://localhost:6379 serve chat_redis:app
Try it:    serve it a second time with --port 8001, and open both
"""

import asyncio
import os

import chat
import redis.asyncio as redis

URL = os.environ.get("REDIS_URL", "redis://localhost:6379")
CHANNEL = "chat"
RETRY_SECONDS = 0.5


async def app(scope, receive, send):
    """Serve the page, and the chat; be connected to Redis from startup to shutdown."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await chat.chat(receive, send, scope["state"]["say"])
    else:
        await chat.app(scope, receive, send)


async def lifespan(scope, receive, send):
    """Listen to Redis, and let every connection speak to it."""
    await receive()  # lifespan.startup
    async with redis.from_url(URL, decode_responses=True) as server:
        async with asyncio.timeout(10):  # without Redis it is better not to start
            await server.ping()

        async def say(line):
            await server.publish(CHANNEL, line)

        scope["state"]["say"] = say
        listening = asyncio.create_task(listen(server))
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        listening.cancel()
    await send({"type": "lifespan.shutdown.complete"})


async def listen(server):
    """Tell the members here what is said anywhere; should Redis go away, again when it is back."""
    while True:
        try:
            async with server.pubsub() as channel:
                await channel.subscribe(CHANNEL)
                async for message in channel.listen():
                    if message["type"] == "message":
                        await chat.tell(message["data"])
        except redis.ConnectionError:
            await asyncio.sleep(RETRY_SECONDS)
