"""Client certificates: who is let in, and what the others are told."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from alphorn.core.config import Config
from alphorn.tls.context import ServerContext
from support.certificates import Authority, Pair, authority
from support.door import open_door
from support.handshake import context_of
from support.waiting import within

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def tls(pair: Pair) -> ServerContext:
    context = context_of(pair)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority().pem)
    return context


def client_with(pair: Pair | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    client = authority().client_context()
    client.maximum_version = version
    if pair is not None:
        client.load_cert_chain(*pair)
    return client


async def read_from(port: int, client: ssl.SSLContext) -> bytes:
    """Connect and read to the end: in TLS 1.3 a client has finished before the server judges it."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=client)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("make", "alert", "reason"),
    [
        (
            lambda _: None,
            "certificate required|handshake failure",
            "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        ),
        (
            lambda folder: Authority("Foreign").issue(folder),
            "unknown ca",
            "client certificate refused, unable to get local issuer certificate",
        ),
        (
            lambda folder: authority().issue_expired(folder),
            "certificate expired",
            "client certificate refused, certificate has expired",
        ),
    ],
    ids=["none", "foreign", "expired"],
)
async def test_a_client_whose_certificate_will_not_do_is_told_by_an_alert(
    tls: ServerContext,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    version: ssl.TLSVersion,
    make: Callable[[Path], Pair | None],
    alert: str,
    reason: str,
) -> None:
    caplog.set_level(logging.DEBUG, "alphorn.error")
    client = client_with(make(tmp_path), version)
    async with open_door(Config(), tls) as door:
        with pytest.raises(ssl.SSLError, match=f"alert ({alert})"):
            await read_from(door.port, client)
        await door.wait_for_undecided(0)
        assert door.handlers == []
    (line,) = [record.getMessage() for record in caplog.records if record.name == "alphorn.error"]
    assert line.startswith("127.0.0.1:")
    assert line.endswith(f": connection failed: {reason}")


async def test_a_client_that_does_not_leave_after_its_alert_is_dropped(tls: ServerContext) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_with(None).wrap_bio(incoming, outgoing, server_hostname="localhost")

    async def talk(port: int) -> tuple[asyncio.StreamWriter, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                client.do_handshake()
                client.read(1)
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                async with within("an answer"):
                    incoming.write(await reader.read(65536))
            except ssl.SSLError as error:
                return writer, str(error)

    async with open_door(Config(handshake_timeout=30), tls) as door:
        writer, told = await talk(door.port)
        assert "certificate required" in told
        assert door.undecided == 1
        door.clock.advance(30.1)
        assert door.undecided == 0
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()
