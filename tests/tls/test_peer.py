"""The ASGI `tls` extension of real connections, on both event loops."""

import asyncio
import ssl
from pathlib import Path

import pytest

from alphorn.core.asgi import TlsExtension
from alphorn.core.config import Config
from alphorn.tls.certificates import describe
from alphorn.tls.context import ServerContext
from support.certificates import Authority, Pair, authority
from support.door import open_door
from support.handshake import context_of


@pytest.fixture
def tls(pair: Pair) -> ServerContext:
    return context_of(pair)


async def extension_of(server: ssl.SSLContext, client: ssl.SSLContext) -> TlsExtension:
    """Connect, and return what the handler is told of it."""
    async with open_door(Config(), server) as door:
        reader, writer = await asyncio.open_connection("localhost", door.port, ssl=client)
        await reader.readexactly(6)
        told = door.handlers[0].facts.tls
        assert told is not None
        assert door.handlers[0].facts.tls is told  # built once
        writer.close()
        await writer.wait_closed()
        return told


@pytest.mark.parametrize(
    ("version", "ciphers", "number"),
    [
        (ssl.TLSVersion.TLSv1_3, "DEFAULT", 0x1302),  # TLS_AES_256_GCM_SHA384
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", 0xC02B),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", 0xCCA9),
    ],
)
async def test_the_extension_has_the_version_the_cipher_and_the_certificate(
    tls: ServerContext, pair: Pair, version: ssl.TLSVersion, ciphers: str, number: int
) -> None:
    client = authority().client_context()
    client.maximum_version = version
    client.set_ciphers(ciphers)
    told = await extension_of(tls, client)
    assert told == {
        "server_cert": describe(pair.certfile).pem,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": int(version),
        "cipher_suite": number,
    }


async def test_a_context_of_somebody_else_serves_without_its_certificate_being_known(pair: Pair) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    told = await extension_of(context, authority().client_context())
    assert told["server_cert"] is None


async def test_a_client_certificate_is_named_and_shown_with_its_chain(
    tls: ServerContext, tmp_path: Path
) -> None:
    root = Authority("Client root")
    issuer = Authority("Client issuer", above=root)
    mine = issuer.issue(tmp_path, subject="Jos\u00e9, admin")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(cadata=root.pem)
    client = authority().client_context()
    client.load_cert_chain(*mine)
    told = await extension_of(tls, client)
    assert told["client_cert_name"] == "CN=Jos\u00e9\\, admin"
    assert told["client_cert_error"] is None
    chain = [describe(mine.certfile).pem, issuer.own_pem, root.own_pem]
    assert told["client_cert_chain"] == chain
