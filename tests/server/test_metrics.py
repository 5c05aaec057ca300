"""`/metrics`: each number is what has happened, read by Prometheus' own parser."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from alphorn.core.asgi import Receive, Scope, Send
from alphorn.core.metrics import Totals, add
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.clock import ManualClock
from support.operator import Operator
from support.pages import ROOT
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

BOTH = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
HTTP1 = pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
HTTP2 = pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)
TLS = pytest.mark.parametrize("carrier", [HTTP1_TLS, HTTP2_TLS], ids=str)
SOCKET = "admin.sock"
ADMIN: dict[str, Any] = {"admin_bind": (f"unix:{SOCKET}",)}


@pytest.fixture
async def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operator]:
    """Asks the server that the test starts with `ADMIN`."""
    monkeypatch.chdir(tmp_path)
    async with Operator(SOCKET) as operator:
        yield operator


def named(carrier: Carrier) -> str:
    return f"http/{carrier.http_version}"


@BOTH
async def test_requests_are_counted_by_protocol_and_status(
    serve: Serve, connect: Connect, operator: Operator, app: SteeredApp, carrier: Carrier
) -> None:
    clock = ManualClock()
    client = await connect(await serve(app, clock=clock, **ADMIN))
    for status, seconds in ((200, 0.3), (204, 0.0), (404, 7.0)):
        exchange = await client.request("GET", "/")
        call = await app.next_call()
        clock.advance(seconds)
        await call.respond(status)
        call.finish()
        await exchange.response()
    metrics = await operator.metrics()
    protocol = named(carrier)
    assert metrics("requests_total", protocol=protocol, status="2xx") == 2
    assert metrics("requests_total", protocol=protocol, status="4xx") == 1

    def bucket(bound: str) -> float:
        return metrics("request_duration_seconds_bucket", protocol=protocol, le=bound)

    assert [bucket(bound) for bound in ("0.001", "0.25", "0.5", "5.0", "10.0", "+Inf")] == [1, 1, 2, 2, 3, 3]
    assert metrics("request_duration_seconds_sum", protocol=protocol) == pytest.approx(7.3)
    assert metrics("request_duration_seconds_count", protocol=protocol) == 3


@BOTH
async def test_what_is_under_way_is_there_until_it_ends(
    serve: Serve, connect: Connect, operator: Operator, app: SteeredApp, carrier: Carrier
) -> None:
    client = await connect(await serve(app, **ADMIN))
    exchange = await client.request("GET", "/")
    call = await app.next_call()
    metrics = await operator.metrics()
    assert metrics("requests_in_flight", worker="1") == 1
    assert metrics("connections", worker="1", protocol=named(carrier)) == 1
    await call.respond(200)
    call.finish()
    await exchange.response()
    metrics = await operator.metrics()
    assert metrics("requests_in_flight", worker="1") == 0
    assert metrics("connections_opened_total", protocol=named(carrier)) == 1
    assert metrics("workers", state="ready") == 1


@HTTP1
async def test_bytes_are_those_on_the_wire_also_of_connections_that_are_gone(
    serve: Serve, operator: Operator, app: SteeredApp
) -> None:
    url = await serve(app, **ADMIN)
    request = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"
    address = urlsplit(url)

    async def asked() -> bytes:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(request)
        call = await app.next_call()
        await call.respond(200, body=b"x" * 1000)
        call.finish()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    answers = [await asked() for _ in range(2)]
    metrics = await operator.metrics()
    assert metrics("received_bytes_total") == 2 * len(request)
    assert metrics("sent_bytes_total") == sum(map(len, answers))


@BOTH
async def test_messages_of_websockets_are_counted_and_the_websocket_is_no_request(
    serve: Serve, connect: Connect, operator: Operator, app: SteeredApp, carrier: Carrier
) -> None:
    url = await serve(app, **ADMIN)
    opening = connect.websocket(url)
    task = asyncio.ensure_future(opening)
    call = await app.next_call()
    await call.receive()
    await call.send({"type": "websocket.accept"})
    client = await task
    for text in ("one", "two", "three"):
        await client.send(text)
        assert (await call.receive())["text"] == text
    await call.send({"type": "websocket.send", "bytes": b"\0"})
    assert await client.receive() == b"\0"
    metrics = await operator.metrics()
    assert metrics("websockets", worker="1") == 1
    assert metrics("websocket_messages_total", direction="received") == 3
    assert metrics("websocket_messages_total", direction="sent") == 1
    await client.close()
    call.finish()
    metrics = await operator.metrics()
    assert metrics("websockets_opened_total") == 1
    assert metrics("requests_total", protocol=named(carrier), status="1xx") == 0
    assert metrics("requests_total", protocol=named(carrier), status="2xx") == 0


@HTTP2
async def test_resets_are_counted_by_who_did_it(
    serve: Serve, connect: Connect, operator: Operator, app: SteeredApp
) -> None:
    client = await connect(await serve(app, **ADMIN))
    exchange = await client.request("GET", "/")
    left = await app.next_call()
    await exchange.abandon()
    assert (await left.receive())["type"] == "http.request"
    assert (await left.receive())["type"] == "http.disconnect"
    left.finish()
    metrics = await operator.metrics()
    assert metrics("http2_resets_total", by="client") == 1
    assert metrics("requests_total", protocol="http/2", status="none") == 1


@HTTP1
async def test_limits_are_counted_by_their_name(
    serve: Serve, connect: Connect, operator: Operator, app: SteeredApp
) -> None:
    client = await connect(await serve(app, max_head_bytes=1024, **ADMIN))
    exchange = await client.request("GET", "/", [(b"a", b"b" * 2000)])
    assert (await exchange.response()).status == 431
    metrics = await operator.metrics()
    assert metrics("limits_hit_total", limit="max_head_bytes") == 1
    assert metrics("requests_total", protocol="other", status="4xx") == 1


@TLS
async def test_handshakes_are_counted_by_what_came_of_them(
    serve: Serve, connect: Connect, operator: Operator, app: SteeredApp
) -> None:
    url = await serve(app, **ADMIN)
    await connect(url)
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as nobody:
        nobody.setblocking(False)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read()
    writer.close()
    await writer.wait_closed()
    metrics = await operator.metrics()
    assert metrics("tls_handshakes_total", result="completed") == 1
    assert metrics("tls_handshakes_total", result="failed") == 1


@HTTP1
async def test_what_the_operator_asks_is_not_counted(
    serve: Serve, operator: Operator, app: SteeredApp
) -> None:
    await serve(app, **ADMIN)
    for _ in range(3):
        metrics = await operator.metrics()
    assert metrics("connections_opened_total", protocol="http/1.1") == 0
    assert metrics("received_bytes_total") == 0


@HTTP1
async def test_an_application_that_spoils_its_scope_is_counted_all_the_same(
    serve: Serve, connect: Connect, operator: Operator
) -> None:
    async def spoiler(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError
        scope.clear()
        scope["http_version"] = []
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    response = await connect.fetch(await serve(spoiler, **ADMIN))
    assert response.status == 200
    assert (await operator.metrics())("requests_total", protocol="other", status="2xx") == 1


@HTTP1
async def test_every_metric_is_described_and_no_other(
    serve: Serve, connect: Connect, operator: Operator, app: SteeredApp
) -> None:
    client = await connect(await serve(app, max_head_bytes=1024, blocked_loop_after=0.1, **ADMIN))
    await (await client.request("GET", "/", [(b"a", b"b" * 2000)])).response()
    text = (await operator.get("/metrics")).text
    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    described = set(re.findall(r"`(alphorn_\w+)`", (ROOT / "docs" / "observability.md").read_text("utf-8")))
    assert set(kinds) == described
    for sample in (line for line in text.splitlines() if not line.startswith("#")):
        assert any(sample.startswith(name) for name in kinds), sample


# --- The sums of several workers


def test_sums_add_what_has_the_same_name_wherever_it_is() -> None:
    one = {"a": 1, "b": {"x": 1, "y": 2}, "c": [1, 2]}
    other = {"a": 2, "b": {"y": 3, "z": 4}, "c": [10, 20], "d": 5}
    assert add(one, other) == {"a": 3, "b": {"x": 1, "y": 5, "z": 4}, "c": [11, 22], "d": 5}


def test_sums_never_fall_when_a_worker_is_replaced_or_silent() -> None:
    totals = Totals()

    def answer(pid: int, count: int) -> dict[str, object]:
        return {"pid": pid, "counters": {"requests": count}}

    assert totals.add([answer(1, 100), answer(2, 10)], alive=[1, 2]) == {"requests": 110}
    assert totals.add([answer(2, 20)], alive=[1, 2]) == {"requests": 120}, "worker 1 is silent"
    assert totals.add([answer(2, 30), answer(3, 1)], alive=[2, 3]) == {"requests": 131}, "1 was replaced by 3"
    assert totals.add([answer(3, 5)], alive=[3]) == {"requests": 135}
    assert totals.add([], alive=[]) == {"requests": 135}
