"""`http.response.early_hint`: 103 with links, before the response, as often as the application likes."""

from typing import Any

import pytest

from alphorn.core.errors import UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP1_TLS
from support.conversation import Begin
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

STYLE = b"</style.css>; rel=preload; as=style"
SCRIPT = b"</script.js>; rel=preload; as=script"


def hint(*links: Any) -> dict[str, Any]:
    return {"type": "http.response.early_hint", "links": list(links)}


async def test_a_hint_arrives_before_the_application_has_started_its_response(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.send(hint(STYLE, SCRIPT))

    head = await exchange.next_informational()
    assert (head.status, head.fields) == (103, [(b"link", STYLE), (b"link", SCRIPT)])
    await call.respond(body=b"page")
    response = await exchange.response()
    assert (response.status, response.body, response.field("link")) == (200, b"page", None)


async def test_hints_may_be_many_and_may_come_while_the_head_is_held(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.send(hint(STYLE))
    await call.start()
    await call.send(hint(SCRIPT))
    await call.send(hint(STYLE, SCRIPT))
    await call.body(b"page")

    response = await exchange.response()
    assert [head.fields_named("link") for head in response.informational] == [
        [STYLE],
        [SCRIPT],
        [STYLE, SCRIPT],
    ]
    assert (response.status, response.body) == (200, b"page")


async def test_links_may_be_any_iterable(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.send({"type": "http.response.early_hint", "links": (link for link in (STYLE, SCRIPT))})

    assert (await exchange.next_informational()).fields_named("link") == [STYLE, SCRIPT]


async def test_a_hint_without_links_says_nothing(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.send(hint())
    await call.respond()

    assert (await exchange.response()).informational == []


async def test_a_hint_comes_too_late_once_the_head_has_left(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.start()
    await call.body(b"half", more=True)
    with pytest.raises(UnexpectedMessage, match="early_hint' while the response is in its body"):
        await call.send(hint(STYLE))
    await call.body(b"whole")

    response = await exchange.response()
    assert (response.body, response.informational) == (b"halfwhole", [])


async def test_after_a_hint_a_failure_can_still_be_a_500(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.send(hint(STYLE))
    call.crash(RuntimeError())

    response = await exchange.response()
    assert (response.status, len(response.informational)) == (500, 1)


async def test_a_hint_goes_before_the_answer_to_head_as_well(begin: Begin) -> None:
    _, exchange, call = await begin("HEAD")
    await call.send(hint(STYLE))
    await call.respond()

    response = await exchange.response()
    assert (response.status, len(response.informational)) == (200, 1)


@pytest.mark.parametrize(
    "links", [["</a>"], [b"</a>\r\nx: y"], [b"</a>\0"], [None], None, 3, b"</a>"], ids=repr
)
async def test_links_that_cannot_be_sent_raise_and_nothing_is_sent(begin: Begin, links: Any) -> None:
    _, exchange, call = await begin()
    with pytest.raises(UnexpectedMessage):
        await call.send({"type": "http.response.early_hint", "links": links})
    await call.respond(body=b"page")

    response = await exchange.response()
    assert (response.status, response.body, response.informational) == (200, b"page", [])


async def test_links_are_not_optional(begin: Begin) -> None:
    _, _, call = await begin()
    with pytest.raises(UnexpectedMessage, match="links"):
        await call.send({"type": "http.response.early_hint"})


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_http_1_0_never_sees_a_hint(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    """RFC 9110, 15.2: an HTTP/1.0 client would take it for the response."""
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(b"GET / HTTP/1.0\r\n\r\n")
    call = await app.next_call()
    with pytest.raises(UnexpectedMessage, match="not among the extensions"):
        await call.send(hint(STYLE))
    await call.respond(body=b"page")

    response = await exchange.response()
    assert (response.status, response.informational) == (200, [])
