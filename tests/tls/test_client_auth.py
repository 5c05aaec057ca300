"""Client certificates: who is let in, what the application sees, and what the others are told."""

import asyncio
import contextlib
import datetime as dt
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphorn.core.config import Config
from alphorn.core.errors import ConfigError
from alphorn.tls.certificates import describe
from alphorn.tls.context import ServerContext
from alphorn.tls.peer import tls_extension
from support.certificates import Authority, Pair, authority
from support.door import open_door
from support.handshake import Handshake, context_of
from support.waiting import within

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    """Write a file; return its path."""

    def write(content: str) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pem"
        path.write_text(content)
        return str(path)

    return write


@pytest.fixture
def cafile(write: Callable[[str], str]) -> str:
    return write(authority().pem)


@pytest.fixture
def tls(pair: Pair, cafile: str) -> ServerContext:
    return context_of(pair, client_auth="required", client_ca=cafile)


def client_with(pair: Pair | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    client = authority().client_context()
    client.maximum_version = version
    if pair is not None:
        client.load_cert_chain(*pair)
    return client


def let_in(server: ssl.SSLContext, pair: Pair | None) -> str | None:
    """Shake hands; return the name that the application would see, or raise the alert that the client gets."""
    return tls_extension(Handshake(server, client_with(pair)).server)["client_cert_name"]


# --- Who is let in


@pytest.mark.parametrize("mode", ["none", "optional", "required"])
def test_a_client_with_the_right_certificate_is_let_in(
    pair: Pair, cafile: str, tmp_path: Path, mode: str
) -> None:
    files: dict[str, Any] = {"client_ca": cafile} if mode != "none" else {}
    mine = authority().issue(tmp_path, subject="me")
    name = let_in(context_of(pair, client_auth=mode, **files), mine)
    assert name == (None if mode == "none" else "CN=me")


def test_a_certificate_that_is_optional_may_be_missing_but_not_be_wrong(
    pair: Pair, cafile: str, tmp_path: Path
) -> None:
    server = context_of(pair, client_auth="optional", client_ca=cafile)
    assert let_in(server, None) is None
    with pytest.raises(ssl.SSLError, match="alert unknown ca"):
        let_in(server, Authority("Foreign").issue(tmp_path))


def test_what_the_system_trusts_is_not_trusted(
    pair: Pair, cafile: str, tmp_path: Path, write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    public = Authority("Public")
    monkeypatch.setenv("SSL_CERT_FILE", write(public.pem))
    server = context_of(pair, client_auth="required", client_ca=cafile)
    with pytest.raises(ssl.SSLError, match="alert unknown ca"):
        let_in(server, public.issue(tmp_path))


def test_a_file_may_have_several_authorities_and_intermediates_as_well(
    pair: Pair, tmp_path: Path, write: Callable[[str], str]
) -> None:
    root, other = Authority("Root"), Authority("Other")
    intermediate = Authority("Intermediate", above=root)
    server = context_of(pair, client_auth="required", client_ca=write(other.pem + intermediate.own_pem))
    assert let_in(server, intermediate.issue(tmp_path)) == "CN=Test leaf"
    assert let_in(server, other.issue(tmp_path)) == "CN=Test leaf"
    with pytest.raises(
        ssl.SSLError, match="alert unknown ca"
    ):  # the intermediate does not vouch for its root
        let_in(server, root.issue(tmp_path))


def test_a_revoked_certificate_is_refused(pair: Pair, cafile: str, write: Callable[[str], str]) -> None:
    folder = Path(cafile).parent
    good, bad = authority().issue(folder), authority().issue(folder)
    crl = write(authority().revoke(bad))
    server = context_of(pair, client_auth="required", client_ca=cafile, client_crl=crl)
    assert let_in(server, good)
    with pytest.raises(ssl.SSLError, match="alert certificate revoked"):
        let_in(server, bad)


def test_a_certificate_under_a_revoked_intermediate_is_refused(
    pair: Pair, tmp_path: Path, write: Callable[[str], str]
) -> None:
    root = Authority("Root")
    intermediate = Authority("Intermediate", above=root)
    mine = intermediate.issue(tmp_path)
    whole = Pair(write(intermediate.own_pem), "")
    for revoked, expected in (((), "CN=Test leaf"), ((whole,), None)):
        crl = write(intermediate.revoke() + root.revoke(*revoked))
        server = context_of(pair, client_auth="required", client_ca=write(root.pem), client_crl=crl)
        if expected:
            assert let_in(server, mine) == expected
        else:
            with pytest.raises(ssl.SSLError, match="alert certificate revoked"):
                let_in(server, mine)


def test_with_revocation_lists_an_intermediate_needs_its_root_beside_it(
    pair: Pair, tmp_path: Path, write: Callable[[str], str]
) -> None:
    root = Authority("Root")
    intermediate = Authority("Intermediate", above=root)
    settings = {"client_auth": "required", "client_crl": write(intermediate.revoke() + root.revoke())}
    cafile = write(intermediate.own_pem)
    with pytest.raises(ConfigError) as caught:
        context_of(pair, client_ca=cafile, **settings)
    assert str(caught.value).startswith(
        f"--client-ca {cafile}: CN=Intermediate is no root; add the authority above"
    )
    server = context_of(pair, client_ca=write(intermediate.own_pem + root.pem), **settings)
    assert let_in(server, intermediate.issue(tmp_path)) == "CN=Test leaf"


def test_without_the_list_of_an_authority_its_certificates_are_refused(
    pair: Pair, tmp_path: Path, write: Callable[[str], str]
) -> None:
    root = Authority("Root")
    mine = Authority("Intermediate", above=root).issue(tmp_path)
    server = context_of(
        pair, client_auth="required", client_ca=write(root.pem), client_crl=write(root.revoke())
    )
    with pytest.raises(ssl.SSLError, match="alert unknown ca"):
        let_in(server, mine)


def test_a_list_that_has_expired_is_a_warning_and_lets_nobody_in(
    pair: Pair, cafile: str, write: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    crl = write(authority().revoke(lasts=-dt.timedelta(days=1)))
    server = context_of(pair, client_auth="optional", client_ca=cafile, client_crl=crl)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"--client-crl {crl}: expired on" in record.getMessage()
    with pytest.raises(ssl.SSLError, match="alert certificate expired"):
        let_in(server, authority().issue(Path(crl).parent))


# --- What is wrong with the files


@pytest.mark.parametrize(
    ("setting", "content", "cause"),
    [
        ("client_ca", None, "cannot be read (No such file or directory); check the path"),
        ("client_ca", "", "no PEM certificate in it; convert it"),
        ("client_ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate in it is damaged"),
        ("client_crl", None, "cannot be read (No such file or directory); check the path"),
        ("client_crl", "certificate", "no PEM revocation list in it; convert it"),
        ("client_crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "a revocation list in it is damaged"),
        ("client_crl", "both", "has certificates in it, which would be trusted; remove them"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_in_one_line_with_the_cause(
    pair: Pair, cafile: str, write: Callable[[str], str], *, setting: str, content: str | None, cause: str
) -> None:
    known = {"certificate": authority().pem, "both": authority().revoke() + authority().pem}
    path = "missing.pem" if content is None else write(known.get(content, content))
    settings = {"client_auth": "required", "client_ca": cafile} | {setting: path}
    with pytest.raises(ConfigError) as caught:
        context_of(pair, **settings)
    message = str(caught.value)
    assert message.startswith(f"--{setting.replace('_', '-')} {path}: {cause}")
    assert "\n" not in message


# --- Resumption


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_session_still_shows_the_certificate(
    tls: ServerContext, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    mine = authority().issue(tmp_path, subject="me")
    client = client_with(mine, version)
    session = Handshake(tls, client).client.session
    again = Handshake(tls, client, session)
    assert again.server.session_reused
    told = tls_extension(again.server)
    assert told["client_cert_name"] == "CN=me"
    assert told["client_cert_chain"] == [describe(mine.certfile).pem]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_other_settings_is_a_full_handshake(
    pair: Pair, cafile: str, tls: ServerContext, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    client = client_with(authority().issue(tmp_path), version)
    session = Handshake(tls, client).client.session
    other = context_of(pair, client_auth="optional", client_ca=cafile)  # as after a new start
    again = Handshake(other, client, session)
    assert not again.server.session_reused
    assert tls_extension(again.server)["client_cert_name"] == "CN=Test leaf"


# --- What the others are told


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


async def test_a_client_that_goes_on_after_its_alert_is_dropped_at_once(
    tls: ServerContext, caplog: pytest.LogCaptureFixture
) -> None:
    """One that speaks TLS 1.3 may have sent its request before it hears that it is refused."""
    caplog.set_level(logging.DEBUG, "alphorn.error")
    async with open_door(Config(handshake_timeout=30), tls) as door:
        _, writer = await asyncio.open_connection("localhost", door.port, ssl=client_with(None))
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await door.wait_for_undecided(0)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "alphorn.error"]
    assert line.endswith("connection failed: PEER_DID_NOT_RETURN_A_CERTIFICATE")


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
