"""The `tls` extension: what the application may know about the security of its connection."""

import ssl

import pytest

from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.certificates import authority
from support.conversation import Begin
from support.http_client import ALPN
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

in_the_clear = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
over_tls = pytest.mark.parametrize("carrier", [HTTP1_TLS, HTTP2_TLS], ids=str)


@in_the_clear
async def test_a_clear_connection_has_no_tls_extension(begin: Begin) -> None:
    _, _, call = await begin()

    assert "tls" not in call.scope["extensions"]


@over_tls
async def test_the_extension_describes_the_session(begin: Begin) -> None:
    client, _, call = await begin()
    session = client.wire.tls
    assert session is not None
    cipher = session.cipher()
    assert cipher is not None

    tls = call.scope["extensions"]["tls"]
    assert ssl.PEM_cert_to_DER_cert(tls["server_cert"]) == session.getpeercert(binary_form=True)
    assert tls["tls_version"] == 0x0304
    assert tls["cipher_suite"] == {
        "TLS_AES_128_GCM_SHA256": 0x1301,
        "TLS_AES_256_GCM_SHA384": 0x1302,
        "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    }.get(cipher[0])
    assert (tls["client_cert_chain"], tls["client_cert_name"], tls["client_cert_error"]) == ([], None, None)
    assert len(tls) == 6


@over_tls
async def test_the_version_is_that_of_the_session(
    serve: Serve, connect: Connect, app: SteeredApp, carrier: Carrier
) -> None:
    context = authority().client_context(ALPN[carrier.http_version])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    client = await connect(await serve(app), tls=context)
    await client.request("GET", "/")

    tls = (await app.next_call()).scope["extensions"]["tls"]
    assert (tls["tls_version"], tls["cipher_suite"]) == (0x0303, 0xC02B)


@over_tls
async def test_every_request_of_a_connection_has_the_same_extension_and_one_of_its_own(begin: Begin) -> None:
    client, exchange, first = await begin()
    pristine = dict(first.scope["extensions"]["tls"])
    first.scope["extensions"]["tls"]["client_cert_chain"].append("forged")
    first.scope["extensions"]["tls"]["client_cert_name"] = "CN=forged"
    await first.respond()
    await exchange.wait_closed()
    _, _, second = await begin.on(client)

    assert second.scope["extensions"]["tls"] == {**pristine, "client_cert_chain": []}
