"""Flask, through WSGI."""

import asyncio

import httpx

APP = "on_flask:app"


async def test_requests(visitor: httpx.AsyncClient) -> None:
    response = await visitor.get("/")
    assert response.json() == {"protocol": response.http_version, "scheme": "https", "client": "127.0.0.1"}
    assert (await visitor.get("/nowhere")).status_code == 404


async def test_bodies_are_streamed_both_ways(visitor: httpx.AsyncClient) -> None:
    content = b"alphorn" * 100_000
    answers = await asyncio.gather(*(visitor.post("/echo", content=content) for _ in range(5)))
    assert all(answer.content == content for answer in answers)


async def test_a_form(visitor: httpx.AsyncClient) -> None:
    response = await visitor.post("/form", data={"name": "Grüezi"}, files={"file": bytes(1_000_000)})
    assert response.json() == {"fields": {"name": "Grüezi"}, "size": 1_000_000}
