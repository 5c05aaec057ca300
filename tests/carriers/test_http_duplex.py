"""Full duplex: an application receives in one task while it sends in another."""

import asyncio

import pytest

from support.carrier import HTTP1_CLEAR, HTTP1_TLS
from support.conversation import Begin, settled
from support.exchange import ClientExchange
from support.steered_app import Call

DISCONNECT = {"type": "http.disconnect"}


async def test_pieces_go_to_and_fro(begin: Begin) -> None:
    """The answer begins long before the question has ended, as in gRPC."""
    _, exchange, call = await begin("POST", "/", end=False)
    await call.start()
    for number in range(20):
        question, answer = b"question %d" % number, b"answer %d" % number
        receiving = asyncio.ensure_future(call.receive())
        await exchange.send(question)
        assert await receiving == {"type": "http.request", "body": question, "more_body": True}
        await call.body(answer, more=True)
        assert await exchange.read_exactly(len(answer)) == answer
    await exchange.send_end()
    assert await call.receive_body() == b""
    await call.body(b"end")

    response = await exchange.response()
    assert (response.body, response.complete) == (b"end", True)


async def test_the_application_may_send_while_it_waits_in_receive(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", end=False)
    receiving = asyncio.ensure_future(call.receive())
    await call.start()
    await call.body(b"unasked", more=True)
    assert await exchange.read_exactly(7) == b"unasked"
    assert not receiving.done()
    await exchange.send(b"late")

    assert (await receiving)["body"] == b"late"


async def test_the_application_may_receive_while_it_waits_in_send(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", end=False, receive_window=30_000)
    await call.start()
    sending = asyncio.ensure_future(send_much(call))
    await settled(lambda: None)
    await exchange.send(b"news")
    assert (await call.receive())["body"] == b"news"
    assert not sending.done()
    sending.cancel()


async def send_much(call: Call) -> None:
    """Send ten megabytes: more than the buffers of two sockets hold."""
    for _ in range(500):
        await call.body(b"x" * 20_000, more=True)
    await call.body()


async def test_both_directions_at_once_move_much_more_than_any_buffer_holds(begin: Begin) -> None:
    _, exchange, call = await begin(
        "POST", "/", end=False, receive_window=50_000, stream_window=65535, write_high_mark=20_000
    )
    await call.start()
    content = b"".join(number.to_bytes(4, "big") for number in range(250_000))
    uploading = asyncio.ensure_future(exchange.send(content, end=True))
    echoing = asyncio.ensure_future(echo(call))

    assert await exchange.read() == content
    assert exchange.complete
    await asyncio.gather(uploading, echoing)


async def echo(call: Call) -> None:
    more = True
    while more:
        message = await call.receive()
        more = message["more_body"]
        await call.body(message["body"], more=more)


async def test_a_receive_that_is_cancelled_leaves_a_waiting_send_alone(begin: Begin) -> None:
    _, exchange, call = await begin(receive_window=30_000)
    await call.receive_body()
    await call.start()
    receiving = asyncio.ensure_future(call.receive())
    sending = asyncio.ensure_future(send_much(call))
    await settled(lambda: None)
    receiving.cancel()
    await settled(receiving.done)
    assert not sending.done()

    assert len(await exchange.read()) == 10_000_000
    await sending


async def test_a_send_that_is_cancelled_leaves_a_waiting_receive_alone_and_can_be_followed_by_another(
    begin: Begin,
) -> None:
    _, exchange, call = await begin("POST", "/", end=False, receive_window=30_000)
    await call.start()
    receiving = asyncio.ensure_future(call.receive())
    sending = asyncio.ensure_future(send_much(call))
    await settled(lambda: None)
    sending.cancel()
    await settled(sending.done)
    assert not receiving.done()
    await exchange.send(b"question", end=True)
    assert (await receiving)["body"].startswith(b"question")
    last = asyncio.ensure_future(call.body(b"the end"))

    body = await exchange.read()
    await last
    # A cancelled send had handed its bytes over; only its waiting was cancelled.
    assert (len(body) % 20_000, body[-7:], exchange.complete) == (7, b"the end", True)


async def test_of_two_receives_that_wait_one_gets_the_content_and_the_other_what_follows(
    begin: Begin,
) -> None:
    _, exchange, call = await begin("POST", "/", end=False)
    first = asyncio.ensure_future(call.receive())
    second = asyncio.ensure_future(call.receive())
    await settled(lambda: None)
    await exchange.send(b"one")
    done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()["body"] for task in done] == [b"one"]
    await exchange.send(b"two", end=True)

    messages = await asyncio.gather(first, second)
    assert b"".join(message["body"] for message in messages) in (b"onetwo", b"twoone")


async def test_a_receive_that_is_cancelled_loses_no_content(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", end=False)
    receiving = asyncio.ensure_future(call.receive())
    await settled(receiving.done)
    receiving.cancel()
    await exchange.send(b"not lost", end=True)

    assert await call.receive_body() == b"not lost"


async def test_an_answer_that_is_complete_ends_a_waiting_receive(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", end=False)
    receiving = asyncio.ensure_future(call.receive())
    await settled(receiving.done)
    await call.respond(body=b"I have heard enough")

    assert await receiving == DISCONNECT
    assert (await exchange.response()).body == b"I have heard enough"


async def test_an_early_answer_may_leave_the_rest_of_the_content_unread(begin: Begin) -> None:
    client, exchange, call = await begin("POST", "/", content=b"half", end=False)
    await call.respond(401, body=b"who are you?")
    assert (await exchange.response()).body == b"who are you?"
    await goes_on_or_ends(exchange)
    if client.ended:
        return
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")

    assert (await exchange.response()).body == b"next"


async def goes_on_or_ends(exchange: ClientExchange) -> None:
    """Send the rest; the server may have told the client to stop."""
    try:
        await exchange.send(b"the other half", end=True)
    except ConnectionError:
        assert exchange.reset_code is not None


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_content_that_follows_an_early_answer_is_not_the_next_request(begin: Begin) -> None:
    client, exchange, call = await begin(
        "POST", "/", [(b"content-length", b"20")], content=b"half", end=False
    )
    await call.respond(401, body=b"who are you?")
    assert (await exchange.response()).body == b"who are you?"
    await client.send_raw(b"GET / HTTP/1.1\r\n")
    _, exchange, call = await begin.on(client, "GET", "/second")
    await call.respond(body=b"next")

    assert call.scope["path"] == "/second"
    assert (await exchange.response()).body == b"next"
