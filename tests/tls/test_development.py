"""The certificates of `--dev-tls`: accepted by strict clients, kept, renewed, safe to share."""

import asyncio
import datetime as dt
import os
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from alphorn.core.errors import ConfigError
from alphorn.tls.authority import new_key, new_leaf
from alphorn.tls.certificates import describe
from alphorn.tls.context import server_contexts
from alphorn.tls.development import DevelopmentCertificate, development_certificate, development_folder
from support.certificates import Authority, Pair
from support.door import open_door
from support.handshake import config_of, context_of
from support.waiting import within

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def trusting(made: DevelopmentCertificate) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=made.cafile)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    return context


def served(made: DevelopmentCertificate) -> ssl.SSLContext:
    return context_of(Pair(made.certfile, made.keyfile))


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> str | None:
    """Do a handshake in memory; the TLS version says that it succeeded."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(2):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0].version()


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


# --- Accepted


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "::1", "dev.example.com", "app.test", "192.168.1.7"]
)
def test_a_strict_python_client_accepts_every_name(tmp_path: Path, host: str) -> None:
    made = development_certificate([host], tmp_path)
    assert shake_hands(served(made), trusting(made), host) == "TLSv1.3"


def test_openssl_finds_nothing_wrong_with_it(tmp_path: Path, needs_tool: Callable[[str], str]) -> None:
    made = development_certificate(["dev.example.com", "0.0.0.0"], tmp_path)
    openssl = needs_tool("openssl")
    command = [openssl, "verify", "-x509_strict", "-check_ss_sig", "-CAfile", made.cafile, made.certfile]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == f"{made.certfile}: OK\n", result.stderr


CONNECT_WITH_NODE = """
require("tls").connect({host: process.argv[1], port: Number(process.argv[2])}).pipe(process.stdout)
"""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("client", ["curl", "node"])
async def test_other_clients_accept_it(
    tmp_path: Path, client: str, host: str, needs_tool: Callable[[str], str]
) -> None:
    program = needs_tool(client)
    made = development_certificate([], tmp_path)
    config = config_of(Pair(made.certfile, made.keyfile), http2=False)
    async with open_door(config, server_contexts(config).choose) as door:
        if client == "curl":
            url = f"https://{host}:{door.port}"
            command = [program, "--silent", "--no-buffer", "--http0.9", "--cacert", made.cafile, url]
        else:
            command = [program, "-e", CONNECT_WITH_NODE, host, str(door.port)]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": made.cafile},
        )
        assert process.stdout is not None
        async with within(client, 20):
            assert await process.stdout.read(6) == b"http1:"
            process.kill()
            await process.communicate()


def test_nobody_who_does_not_trust_the_authority_accepts_it(tmp_path: Path) -> None:
    made = development_certificate([], tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(served(made), ssl.create_default_context(), "localhost")


def test_a_stolen_authority_cannot_impersonate_the_internet(tmp_path: Path) -> None:
    made = development_certificate([], tmp_path)
    authority = x509.load_pem_x509_certificate(Path(made.cafile).read_bytes())
    stolen = load_pem_private_key((tmp_path / "alphorn-ca.key.pem").read_bytes(), None)
    key = load_pem_private_key(Path(made.keyfile).read_bytes(), None)
    assert isinstance(stolen, type(new_key()))
    assert isinstance(key, type(new_key()))
    for host in ("bank.example", "93.184.216.34"):
        leaf = new_leaf(key, authority, stolen, [host], NOW)
        Path(made.certfile).write_bytes(leaf.public_bytes(Encoding.PEM))
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            shake_hands(served(made), trusting(made), host)


# --- Names


def test_the_local_names_are_always_covered(tmp_path: Path) -> None:
    made = development_certificate([], tmp_path)
    assert set(describe(made.certfile).names) == {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize("wildcard", ["", "0.0.0.0", "::", "[::]"])
def test_a_wildcard_stands_for_the_name_of_the_machine(tmp_path: Path, wildcard: str) -> None:
    made = development_certificate([wildcard], tmp_path)
    assert socket.gethostname().lower() in describe(made.certfile).names
    assert wildcard not in describe(made.certfile).names


def test_names_are_spelled_as_certificates_spell_them(tmp_path: Path) -> None:
    made = development_certificate(
        ["Dev.Test.", "[2001:DB8::1]", "fe80::1%eth0", "not a.host" + "x" * 64], tmp_path
    )
    names = describe(made.certfile).names
    assert {"dev.test", "2001:db8::1", "fe80::1"} <= set(names)
    assert len(names) == 6


# --- Kept and renewed


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_is_reused_while_it_is_fresh(tmp_path: Path) -> None:
    development_certificate(["a.test"], tmp_path, now=NOW)
    before = contents(tmp_path)
    development_certificate(["a.test"], tmp_path, now=NOW + 59 * DAY)
    development_certificate([], tmp_path, now=NOW + 59 * DAY)
    assert contents(tmp_path) == before


def changed(folder: Path, before: dict[str, bytes]) -> set[str]:
    return {name for name, content in contents(folder).items() if before.get(name) != content}


def test_the_leaf_alone_is_renewed_in_the_last_third_of_its_life(tmp_path: Path) -> None:
    development_certificate(["a.test"], tmp_path, now=NOW)
    before = contents(tmp_path)
    made = development_certificate([], tmp_path, now=NOW + 61 * DAY)
    assert changed(tmp_path, before) == {"alphorn-localhost.pem"}
    assert describe(made.certfile).not_after > NOW + 150 * DAY
    assert "a.test" not in describe(made.certfile).names


def test_a_new_name_is_added_to_those_that_another_server_needs(tmp_path: Path) -> None:
    development_certificate(["a.test"], tmp_path)
    before = contents(tmp_path)
    made = development_certificate(["b.test"], tmp_path)
    assert {"a.test", "b.test"} <= set(describe(made.certfile).names)
    assert changed(tmp_path, before) == {"alphorn-localhost.pem"}


def test_a_name_beyond_the_authority_makes_a_new_one_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    development_certificate([], tmp_path)
    assert caplog.records == []
    before = contents(tmp_path)
    made = development_certificate(["www.example.com"], tmp_path)
    assert "alphorn-ca.pem" in changed(tmp_path, before)
    assert "to be trusted again" in caplog.records[0].getMessage()
    assert shake_hands(served(made), trusting(made), "www.example.com") == "TLSv1.3"
    before = contents(tmp_path)
    development_certificate(["www.example.com"], tmp_path)
    assert contents(tmp_path) == before


def test_an_authority_that_would_end_before_its_leaf_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    development_certificate([], tmp_path, now=NOW - 3600 * DAY)
    made = development_certificate([], tmp_path, now=NOW)
    assert len(caplog.records) == 1
    assert shake_hands(served(made), trusting(made), "localhost") == "TLSv1.3"


@pytest.mark.parametrize(
    "damaged", ["alphorn-ca.pem", "alphorn-ca.key.pem", "alphorn-localhost.pem", "alphorn-localhost.key.pem"]
)
@pytest.mark.parametrize("damage", [b"", b"-----BEGIN NONSENSE-----", None])
def test_a_damaged_or_missing_file_is_made_again(tmp_path: Path, damaged: str, damage: bytes | None) -> None:
    development_certificate([], tmp_path, now=NOW - 61 * DAY)
    if damage is None:
        (tmp_path / damaged).unlink()
    else:
        (tmp_path / damaged).write_bytes(damage)
    # A missing key of the authority is missed only when it has to sign.
    made = development_certificate([], tmp_path, now=NOW)
    assert shake_hands(served(made), trusting(made), "localhost") == "TLSv1.3"


def test_what_another_authority_has_signed_is_replaced(tmp_path: Path) -> None:
    other = development_certificate([], tmp_path / "other")
    made = development_certificate([], tmp_path)
    for name in ("alphorn-localhost.pem", "alphorn-localhost.key.pem"):
        (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(served(other), trusting(made), "localhost")
    made = development_certificate([], tmp_path)
    assert shake_hands(served(made), trusting(made), "localhost") == "TLSv1.3"


def test_an_authority_that_may_sign_anything_is_replaced(tmp_path: Path) -> None:
    boundless = Authority("Not ours")
    (tmp_path / "alphorn-ca.pem").write_text(boundless.pem)
    (tmp_path / "alphorn-ca.key.pem").write_bytes(
        boundless.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    made = development_certificate([], tmp_path)
    assert Path(made.cafile).read_text() != boundless.pem
    assert shake_hands(served(made), trusting(made), "localhost") == "TLSv1.3"


def test_servers_that_start_together_agree(tmp_path: Path) -> None:
    names = [f"server-{number}.test" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda name: development_certificate([name], tmp_path), names))
    assert len(set(made)) == 1
    assert set(names) <= set(describe(made[0].certfile).names)
    assert shake_hands(served(made[0]), trusting(made[0]), "server-3.test") == "TLSv1.3"
    assert len(list(tmp_path.iterdir())) == 6


# --- Files


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    made = development_certificate([], folder)
    assert mode_of(folder) == 0o700
    assert mode_of(made.keyfile) == 0o600
    assert mode_of(folder / "alphorn-ca.key.pem") == 0o600
    assert mode_of(made.cafile) == 0o644


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    development_certificate([], tmp_path)
    assert mode_of(tmp_path) == 0o755


def test_git_does_not_see_the_files(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "certs").mkdir()
    development_certificate([], tmp_path / "certs")
    command = ["git", "-C", str(tmp_path), "status", "--porcelain", "-uall"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b""


def test_a_gitignore_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine")
    development_certificate([], tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine"


def test_the_folder_is_certs_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "certs").mkdir()
    assert development_folder() == tmp_path / "certs"
    made = development_certificate([])
    assert Path(made.certfile).parent == tmp_path / "certs"


@pytest.mark.skipif("sys.platform != 'linux'", reason="other systems have other folders")
def test_the_folder_is_else_in_the_data_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert development_folder() == Path("/home/someone/.local/share/alphorn")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert development_folder() == Path("/data/alphorn")
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    assert development_folder() == Path("/home/someone/.local/share/alphorn")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^--dev-tls: .*file.*; let this user read and write there$"):
        development_certificate([], tmp_path / "file" / "folder")


def test_a_file_that_cannot_be_replaced_is_one_line_and_leaves_no_half(tmp_path: Path) -> None:
    (tmp_path / "alphorn-localhost.pem").mkdir()
    with pytest.raises(ConfigError, match=r"^--dev-tls: .*alphorn-localhost.pem: Is a directory; "):
        development_certificate([], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["alphorn-localhost.pem"]
