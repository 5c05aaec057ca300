"""A server with default settings as `openssl s_client` and the scanner sslyze see it.

sslyze and we disagree about the version of cryptography, so it is a program on the PATH like the
others: `pipx install sslyze`.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Authority, Pair, authority
from support.process import ServerProcess

APP = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


VERSIONS = [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")]


class Openssl:
    """`openssl s_client`, on a server."""

    def __init__(self, program: str, server: ServerProcess, cafile: str) -> None:
        self._command = [program, "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", cafile]

    def __call__(self, *options: str, types: str = "Q\n") -> str:
        """Connect; return all that it says."""
        done = subprocess.run(
            [*self._command, "-servername", "localhost", *options],
            input=types,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
        return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(APP)
    (folder / "ca.pem").write_text(authority().pem)
    return folder


def start(folder: Path, certificate: Pair, *options: str) -> ServerProcess:
    return ServerProcess("shop:app", "--lifespan", "off", *options, folder=folder, certificate=certificate)


@pytest.fixture(scope="module")
def server(folder: Path, certificate: Pair) -> Iterator[ServerProcess]:
    with start(folder, certificate, "--hsts", "31536000") as server:
        yield server


@pytest.fixture
def openssl(needs_tool: Callable[[str], str], server: ServerProcess, cafile: str) -> Openssl:
    return Openssl(needs_tool("openssl"), server, cafile)


@pytest.mark.parametrize(("option", "version"), VERSIONS)
def test_the_certificate_verifies_and_nothing_is_compressed(
    openssl: Openssl, option: str, version: str
) -> None:
    said = openssl(option, "-verify_return_error")
    assert f"New, {version}, Cipher is" in said
    assert "Verify return code: 0 (ok)" in said
    assert "Compression: NONE" in said
    assert "Secure Renegotiation IS supported" in said or version == "TLSv1.3"


def test_a_client_must_not_renegotiate(openssl: Openssl) -> None:
    said = openssl("-tls1_2", types="R\n")
    assert "RENEGOTIATING" in said
    assert re.search(r"no[ _]renegotiation", said)


@pytest.mark.parametrize(("option", "version"), VERSIONS)
def test_a_session_is_resumed(openssl: Openssl, tmp_path: Path, option: str, version: str) -> None:
    session = str(tmp_path / "session.pem")
    # Behind an answer, and so behind the ticket of TLS 1.3.
    request = "GET / HTTP/1.0\r\n\r\n"
    assert f"New, {version}" in openssl(option, "-sess_out", session, "-ign_eof", types=request)
    assert f"Reused, {version}" in openssl(option, "-sess_in", session)


def test_there_is_no_early_data(openssl: Openssl, tmp_path: Path) -> None:
    """RFC 8446, 8: it could be replayed."""
    session = str(tmp_path / "session.pem")
    request = tmp_path / "request"
    request.write_text("GET / HTTP/1.0\r\n\r\n")
    said = openssl("-tls1_3", "-sess_out", session, "-ign_eof", types=request.read_text())
    assert "Max Early Data: 0" in said
    assert "Early data was not sent" in openssl("-sess_in", session, "-early_data", str(request))


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused_with_an_alert(openssl: Openssl, version: str) -> None:
    said = openssl(version, "-cipher", "ALL:@SECLEVEL=0")
    assert "SSL alert number 70" in said  # protocol_version


@pytest.mark.parametrize(
    "cipher",
    ["AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "aNULL", "eNULL", "DHE"],
)
def test_bad_ciphers_are_refused_with_an_alert(openssl: Openssl, cipher: str) -> None:
    assert "SSL alert number 40" in openssl(
        "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0"
    )  # handshake_failure


def test_tls_1_3_may_be_demanded(
    folder: Path, certificate: Pair, cafile: str, needs_tool: Callable[[str], str]
) -> None:
    with start(folder, certificate, "--tls-min", "1.3") as server:
        openssl = Openssl(needs_tool("openssl"), server, cafile)
        assert "SSL alert number 70" in openssl("-tls1_2")
        assert "New, TLSv1.3" in openssl("-tls1_3")


def test_clients_may_be_asked_for_certificates(
    folder: Path, certificate: Pair, cafile: str, needs_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mine, foreign = authority().issue(tmp_path), Authority("Foreign").issue(tmp_path)
    options = ("--client-auth", "required", "--client-ca", cafile)
    with start(folder, certificate, *options) as server:
        openssl = Openssl(needs_tool("openssl"), server, cafile)

        def answer(*with_certificate: str) -> str:
            return openssl("-ign_eof", *with_certificate, types="GET / HTTP/1.0\r\n\r\n")

        assert "hello" in answer("-cert", mine.certfile, "-key", mine.keyfile)
        assert "SSL alert number 116" in answer()  # certificate_required
        assert "SSL alert number 48" in answer(
            "-cert", foreign.certfile, "-key", foreign.keyfile
        )  # unknown_ca


FINDINGS: dict[str, dict[str, object]] = {
    "tls_compression": {"supports_compression": False},
    "tls_1_3_early_data": {"supports_early_data": False},
    "openssl_ccs_injection": {"is_vulnerable_to_ccs_injection": False},
    "tls_fallback_scsv": {"supports_fallback_scsv": True},
    "heartbleed": {"is_vulnerable_to_heartbleed": False},
    "robot": {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"},
    "session_renegotiation": {
        "supports_secure_renegotiation": True,
        "is_vulnerable_to_client_renegotiation_dos": False,
    },
    "tls_extended_master_secret": {"supports_ems_extension": True},
}
"""What sslyze finds out about a server, and what it is to find."""


def test_a_scanner_finds_nothing(
    server: ServerProcess, folder: Path, needs_tool: Callable[[str], str]
) -> None:
    report = folder / "report.json"
    done = subprocess.run(
        [
            *(needs_tool("sslyze"), "--mozilla_config", "intermediate", "--early_data", "--http_headers"),
            *("--certinfo_ca_file", str(folder / "ca.pem"), "--json_out", str(report)),
            f"127.0.0.1:{server.port}",
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    complaints = [line.strip() for line in done.stdout.splitlines() if line.startswith("        * ")]
    # These two curves are as good as the others, but not in the list; Python's `ssl` cannot leave them out.
    curves = re.compile(r"\* tls_curves: TLS curves \{('X448'|'secp521r1'|, )+\} are supported, .*")
    assert not [complaint for complaint in complaints if not curves.fullmatch(complaint)]
    (target,) = json.loads(report.read_text())["server_scan_results"]
    scanned: dict[str, Any] = target["scan_result"]
    for scan, expected in FINDINGS.items():
        assert scanned[scan]["status"] == "COMPLETED", scanned[scan]
        found = scanned[scan]["result"]
        assert {name: found[name] for name in expected} == expected, scan
    hsts = scanned["http_headers"]["result"]["strict_transport_security_header"]
    assert hsts["max_age"] == 31536000
