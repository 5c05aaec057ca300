"""`--hsts`: browsers are told to come by https alone, over TLS and unless the application says it otherwise."""

import pytest

from support.carrier import HTTP2_TLS, Carrier
from support.conversation import Begin

NAME = "strict-transport-security"


async def test_answers_over_tls_say_it_and_others_do_not(begin: Begin, carrier: Carrier) -> None:
    _, exchange, call = await begin(hsts=300)
    await call.respond()
    response = await exchange.response()
    assert response.fields_named(NAME) == ([b"max-age=300"] if carrier.secure else [])


async def test_an_answer_of_the_server_says_it_as_well(begin: Begin, carrier: Carrier) -> None:
    _, exchange, call = await begin(hsts=300)
    call.crash(RuntimeError("its fault"))
    response = await exchange.response()
    assert response.status == 500
    assert response.fields_named(NAME) == ([b"max-age=300"] if carrier.secure else [])


@pytest.mark.parametrize("carrier", [HTTP2_TLS], ids=str)
async def test_the_application_has_the_last_word(begin: Begin) -> None:
    _, exchange, call = await begin(hsts=300)
    await call.respond(fields=[(b"Strict-Transport-Security", b"max-age=0")])
    assert (await exchange.response()).fields_named(NAME) == [b"max-age=0"]


@pytest.mark.parametrize("carrier", [HTTP2_TLS], ids=str)
async def test_it_is_not_said_unasked(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.respond()
    assert (await exchange.response()).fields_named(NAME) == []
