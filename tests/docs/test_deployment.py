"""docs/guide/deployment.md, without an engine or a cluster: its commands, as process 1 of a user without rights."""

import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from alphorn.core.config import DEFAULTS
from support.certificates import Authority, authority
from support.pages import ROOT, Page
from support.process import ServerProcess

GUIDE = Page(ROOT / "docs" / "guide" / "deployment.md")
(DOCKERFILE,) = (block.text for block in GUIDE.blocks("dockerfile"))
(MANIFESTS,) = (list(yaml.safe_load_all(block.text)) for block in GUIDE.blocks("yaml"))
POD: dict[str, Any] = MANIFESTS[0]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")

APP = """
import asyncio, os, pathlib, sys

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        print(f"process {os.getpid()} of user {os.getuid()} starts up", file=sys.stderr, flush=True)
        while not pathlib.Path("database").exists():
            await asyncio.sleep(0.05)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("the application shuts down", file=sys.stderr, flush=True)
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
"""


def in_dockerfile(instruction: str) -> str:
    """What an instruction of the Dockerfile says, the last if there are several."""
    return str(re.findall(rf"^{instruction} (.+)$", DOCKERFILE, re.MULTILINE)[-1])


class Contained(ServerProcess):
    """A command as an engine runs it: process 1 of its own namespace, no root, the image's folder and variables."""

    def __init__(self, command: list[str], folder: Path) -> None:
        assert command[0] == "serve"
        self._command = command[1:]
        self._socket = f"SERVE_ADMIN_BIND=unix:{folder}/admin.sock"
        super().__init__("", folder=folder, banner="starts up")

    def command(self, app: str, options: Sequence[str]) -> list[str]:
        """Return what is run."""
        user = in_dockerfile("USER")
        confined = [
            "unshare",
            "--user",
            f"--map-user={user}",
            f"--map-group={user}",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        return [*confined, "env", self._socket, sys.executable, "-m", "alphorn", *self._command]

    def probe(self, command: list[str]) -> int:
        """Run a health check in it and return its exit status."""
        assert command[0] == "alphorn"
        inside = ["env", self._socket, sys.executable, "-m", *command]
        return subprocess.run(inside, capture_output=True, check=False, timeout=20).returncode

    def wait_ready(self) -> None:
        """Let the application start up."""
        self.url = re.findall(r"https?://\S+", self.wait_for("listening on http"))[0]

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal as an engine does: to process 1."""
        (child,) = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        subprocess.run(["kill", f"-{number.name.removeprefix('SIG')}", child], check=True)


Run = Callable[[list[str]], Contained]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run commands in namespaces; without those the test is skipped."""
    tried = ["unshare", "--user", "--map-user=10001", "--pid", "--fork", "--mount-proc", "true"]
    if shutil.which("unshare") is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("no namespaces for this user on this system (unshare)")
    (tmp_path / "app.py").write_text(APP)
    started: list[Contained] = []

    def start(command: list[str]) -> Contained:
        started.append(Contained(command, tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.kill()


# --- The Dockerfile


def test_the_image_is_of_a_user_without_rights_and_its_commands_are_lists() -> None:
    assert int(in_dockerfile("USER")) > 0
    for instruction in ("CMD", r"HEALTHCHECK .*CMD"):
        assert all(isinstance(word, str) for word in json.loads(in_dockerfile(instruction)))


def test_the_linter_finds_no_fault_with_the_dockerfile(
    tmp_path: Path, needs_tool: Callable[[str], str]
) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(DOCKERFILE)
    done = subprocess.run([needs_tool("hadolint"), file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_container_is_healthy_when_its_application_has_started_and_drains_as_process_1(
    run: Run, tmp_path: Path
) -> None:
    check = json.loads(in_dockerfile(r"HEALTHCHECK .*CMD"))
    server = run([":0" if word == ":8000" else word for word in json.loads(in_dockerfile("CMD"))])
    assert f"process 1 of user {in_dockerfile('USER')} starts up" in server.log
    assert server.probe(check) == 1
    (tmp_path / "database").touch()
    server.wait_ready()
    assert server.probe(check) == 0
    assert httpx.get(f"http://127.0.0.1:{server.port}").text == "hello"
    assert server.stop(signal.SIGTERM) == 0
    assert "the application shuts down" in server.log
    assert server.probe(check) == 1


# --- The manifests


def test_kubernetes_knows_every_field_of_the_manifests(
    tmp_path: Path, needs_tool: Callable[[str], str]
) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text("".join(block.text for block in GUIDE.blocks("yaml")))
    command = [needs_tool("kubernetes-validate"), "--strict", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert done.stdout.count(" passed for resource ") == len(MANIFESTS)


def test_the_manifests_agree_with_each_other() -> None:
    deployment, service = MANIFESTS
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert deployment["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
    assert service["spec"]["ports"][0]["targetPort"] == CONTAINER["ports"][0]["name"]
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {each["name"] for each in POD["volumes"]}
    assert {"name": "SERVE_ADMIN_BIND", "value": "unix:/tmp/admin.sock"} in CONTAINER["env"]
    assert "ENV SERVE_ADMIN_BIND=unix:/tmp/admin.sock" in DOCKERFILE
    assert POD["securityContext"]["runAsUser"] == int(in_dockerfile("USER"))


def test_a_pod_is_killed_only_when_it_has_had_time_for_everything() -> None:
    seconds = [int(found) for found in re.findall(r"=(\d+)s\b", " ".join(CONTAINER["args"]))]
    assert len(seconds) == 2
    assert POD["terminationGracePeriodSeconds"] > sum(seconds) + DEFAULTS["shutdown_timeout"]


def test_a_pod_takes_up_a_new_certificate_and_is_out_of_its_service_before_it_ends(
    run: Run, tmp_path: Path
) -> None:
    secret = Secret(tmp_path / "tls")
    secret.renew(authority())
    (tmp_path / "database").touch()
    mended = {"--bind=:8443": "--bind=:0", "--drain-delay=5s": "--drain-delay=2s"}
    arguments = [mended.get(word, word.replace("=/tls/", f"={tmp_path}/tls/")) for word in CONTAINER["args"]]
    server = run(arguments)
    server.wait_ready()
    probes = [CONTAINER[name]["exec"]["command"] for name in PROBES]
    assert [server.probe(command) for command in probes] == [0, 0, 0]
    assert ask(server, authority()) == "hello"

    another = Authority("Another CA")
    secret.renew(another)
    server.wait_for("new certificates are in use")
    assert ask(server, another) == "hello"

    server.send_signal(signal.SIGTERM)
    while server.probe(CONTAINER["readinessProbe"]["exec"]["command"]) == 0:
        pass
    assert ask(server, another) == "hello", "it goes on until everybody has heard that it is not ready"
    assert server.wait() == 0


class Secret:
    """A mounted secret: files that are links through `..data`, which is turned to another folder at once."""

    def __init__(self, mount: Path) -> None:
        self._mount = mount
        self._number = 0
        mount.mkdir()
        for name in ("tls.crt", "tls.key"):
            (mount / name).symlink_to(f"..data/{name}")

    def renew(self, issuer: Authority) -> None:
        """Put another certificate into it."""
        self._number += 1
        folder = self._mount / f"..{self._number}"
        folder.mkdir()
        pair = issuer.issue(folder)
        Path(pair.certfile).rename(folder / "tls.crt")
        Path(pair.keyfile).rename(folder / "tls.key")
        (self._mount / "..data_tmp").symlink_to(folder.name)
        (self._mount / "..data_tmp").replace(self._mount / "..data")


def ask(server: Contained, trusted: Authority) -> str:
    verify: ssl.SSLContext = trusted.client_context()
    return httpx.get(f"https://127.0.0.1:{server.port}", verify=verify, timeout=20).text
