"""A client of HTTP/1.1 that closes its sending side: it may have gone, or still be reading."""

import pytest

from support.carrier import HTTP1_CLEAR, Carrier
from support.serving import Connect, Serve
from support.steered_app import SteeredApp


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_an_application_that_stops_because_the_client_hung_up_earns_no_complaint(
    serve: Serve,
    connect: Connect,
    app: SteeredApp,
    carrier: Carrier,  # noqa: ARG001 - chooses for the others
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request("GET", "/events")
    call = await app.next_call()
    await call.receive()
    await call.start()
    await call.body(b"data: 1\n\n", more=True)
    await client.half_close()
    assert (await call.receive())["type"] == "http.disconnect"
    call.finish()
    response = await exchange.response()
    assert (response.body, response.complete) == (b"data: 1\n\n", False)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
