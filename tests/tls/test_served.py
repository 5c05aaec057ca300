"""Certificates that are replaced while the server runs: noticed, used, or refused with one line."""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import load_der_x509_certificate

from alphorn.core.errors import ConfigError
from alphorn.tls.certificates import certificate_names, describe
from alphorn.tls.served import POLL_SECONDS, ServedTls
from support.certificates import Pair, authority
from support.clock import ManualClock
from support.door import open_door
from support.handshake import Handshake, config_of


@pytest.fixture
def issue(tmp_path: Path) -> Callable[[str], Pair]:
    folder = tmp_path / "issued"
    folder.mkdir()
    return lambda name: authority().issue(folder, (name, "localhost"))


@pytest.fixture
def files(tmp_path: Path) -> Pair:
    """Where the server reads its pair."""
    return Pair(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged since the last time."""
    caplog.set_level(logging.INFO, "alphorn.error")

    def lines() -> list[str]:
        messages = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return messages

    return lines


def copy(source: Pair, target: Pair) -> None:
    for old, new in zip(source, target, strict=True):
        Path(new).write_bytes(Path(old).read_bytes())


def rename(source: Pair, target: Pair) -> None:
    for old, new in zip(source, target, strict=True):
        Path(old).rename(new)


def serve(files: Pair, clock: ManualClock, **settings: Any) -> ServedTls:
    for path in (*files, *settings.values()):
        if Path(path).is_file():  # written long ago, for file systems tell some milliseconds apart at best
            os.utime(path, (0, 0))
    served = ServedTls(config_of(files, **settings), clock)
    served.start()
    return served


def name_served(served: ServedTls) -> str:
    shown = Handshake(served.choose(None), authority().client_context()).client.getpeercert(binary_form=True)
    assert shown is not None
    return certificate_names(load_der_x509_certificate(shown))[0]


@pytest.mark.parametrize("replace", [copy, rename])
def test_a_new_pair_is_noticed_when_it_is_at_rest(
    files: Pair,
    clock: ManualClock,
    issue: Callable[[str], Pair],
    log: Callable[[], list[str]],
    replace: Callable[[Pair, Pair], None],
) -> None:
    copy(issue("old.test"), files)
    served = serve(files, clock)
    replace(issue("new.test"), files)
    clock.advance(POLL_SECONDS)
    assert name_served(served) == "old.test"  # the files may still be changing
    clock.advance(POLL_SECONDS)
    assert name_served(served) == "new.test"
    (line,) = log()
    assert line.startswith("INFO new certificates are in use: new.test, localhost (until ")
    clock.advance(10 * POLL_SECONDS)
    assert log() == []


def test_a_swap_of_symlinks_as_in_kubernetes_is_noticed(
    tmp_path: Path, clock: ManualClock, issue: Callable[[str], Pair]
) -> None:
    for name in ("old.test", "new.test"):
        (tmp_path / name).mkdir()
        copy(issue(name), Pair(str(tmp_path / name / "tls.crt"), str(tmp_path / name / "tls.key")))
    (tmp_path / "..data").symlink_to("old.test")
    files = Pair(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))
    for file in files:
        Path(file).symlink_to(Path("..data") / Path(file).name)
    served = serve(files, clock)
    assert name_served(served) == "old.test"
    (tmp_path / "..data_tmp").symlink_to("new.test")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    clock.advance(2 * POLL_SECONDS)
    assert name_served(served) == "new.test"


def test_a_certificate_whose_key_follows_later_is_no_mistake(
    files: Pair, clock: ManualClock, issue: Callable[[str], Pair], log: Callable[[], list[str]]
) -> None:
    copy(issue("old.test"), files)
    served = serve(files, clock)
    new = issue("new.test")
    Path(new.certfile).rename(files.certfile)
    clock.advance(POLL_SECONDS)
    Path(new.keyfile).rename(files.keyfile)
    clock.advance(2 * POLL_SECONDS)
    assert name_served(served) == "new.test"
    assert len(log()) == 1


@pytest.mark.parametrize("bad", ["missing", "half", "mismatch", "no file"])
def test_a_bad_pair_keeps_the_old_one_and_says_so_once(
    files: Pair,
    clock: ManualClock,
    issue: Callable[[str], Pair],
    log: Callable[[], list[str]],
    bad: str,
) -> None:
    copy(issue("old.test"), files)
    served = serve(files, clock)
    certificate = Path(files.certfile)
    if bad == "missing":
        certificate.unlink()
    elif bad == "half":
        certificate.write_bytes(Path(issue("new.test").certfile).read_bytes()[:300])
    elif bad == "mismatch":
        Path(issue("new.test").certfile).rename(certificate)
    else:
        certificate.unlink()
        certificate.mkdir()
    clock.advance(20 * POLL_SECONDS)
    assert name_served(served) == "old.test"
    (line,) = log()
    assert line.startswith("ERROR the certificates in use stay: --")
    assert "\n" not in line
    if bad == "no file":
        certificate.rmdir()
    copy(issue("newer.test"), files)
    clock.advance(2 * POLL_SECONDS)
    assert name_served(served) == "newer.test"
    assert len(log()) == 1


def test_other_files_are_looked_at_as_well(
    files: Pair, tmp_path: Path, clock: ManualClock, issue: Callable[[str], Pair]
) -> None:
    copy(issue("old.test"), files)
    crl, cafile = tmp_path / "crl.pem", tmp_path / "ca.pem"
    crl.write_text(authority().revoke())
    cafile.write_text(authority().pem)
    served = serve(files, clock, client_auth="required", client_ca=str(cafile), client_crl=str(crl))
    mine = issue("me")
    client = authority().client_context()
    client.load_cert_chain(*mine)
    session = Handshake(served.choose(None), client).client.session
    assert Handshake(served.choose(None), client, session).client.session_reused
    crl.write_text(authority().revoke(mine))
    clock.advance(2 * POLL_SECONDS)
    with pytest.raises(ssl.SSLError, match="alert certificate revoked"):
        Handshake(served.choose(None), client, session)  # nor can the old session be resumed


def test_a_new_password_is_read_with_the_new_key(tmp_path: Path, files: Pair, clock: ManualClock) -> None:
    passwords = tmp_path / "password"
    for password in ("first", "second"):
        copy(authority().issue(tmp_path, (f"{password}.test", "localhost"), password=password), files)
        passwords.write_text(f"{password}\n")
        if password == "first":
            served = serve(files, clock, keyfile_password_file=str(passwords))
    clock.advance(2 * POLL_SECONDS)
    assert name_served(served) == "second.test"


def test_reloading_by_hand_does_not_wait_and_says_what_came_of_it(
    files: Pair, clock: ManualClock, issue: Callable[[str], Pair], log: Callable[[], list[str]]
) -> None:
    copy(issue("old.test"), files)
    served = serve(files, clock)
    assert served.reload()
    copy(issue("new.test"), files)
    assert served.reload()
    assert name_served(served) == "new.test"
    assert len(log()) == 2
    clock.advance(5 * POLL_SECONDS)
    assert log() == []
    Path(files.keyfile).unlink()
    for _ in range(2):
        assert not served.reload()
        assert len(log()) == 1  # who asks gets an answer every time


def test_nobody_looks_after_the_stop(files: Pair, clock: ManualClock, issue: Callable[[str], Pair]) -> None:
    copy(issue("old.test"), files)
    served = serve(files, clock)
    served.stop()
    copy(issue("new.test"), files)
    clock.advance(5 * POLL_SECONDS)
    assert name_served(served) == "old.test"


def test_a_bad_pair_at_the_start_is_an_error(files: Pair, clock: ManualClock) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        serve(files, clock)


async def test_connections_go_on_while_new_ones_get_the_new_certificate(
    files: Pair, clock: ManualClock, issue: Callable[[str], Pair]
) -> None:
    copy(issue("old.test"), files)
    served = serve(files, clock)
    async with open_door(config_of(files), served.choose) as door:

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            client = authority().client_context()
            reader, writer = await asyncio.open_connection("localhost", door.port, ssl=client)
            assert await reader.readexactly(6) == b"http1:"
            return reader, writer

        reader, writer = await connect()
        copy(issue("new.test"), files)
        clock.advance(2 * POLL_SECONDS)
        _, newer = await connect()
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        old, new = (handler.facts.tls for handler in door.handlers)
        assert old is not None
        assert new is not None
        assert old["server_cert"] != new["server_cert"] == describe(files.certfile).pem
        for each in (writer, newer):
            each.close()
            await each.wait_closed()
