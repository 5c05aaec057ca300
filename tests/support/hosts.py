"""Hosts of their own on a network of their own: network namespaces, and a bridge that joins them.

Nothing of it reaches the network of this machine, and names are those of this process, so that tests can
run in parallel. Unix sockets are not part of a network: a test reaches into one by the path of a socket.
"""

import os
import shutil
import subprocess
from types import TracebackType
from typing import Final, Self

ROUTER: Final = "10.77.0.1"


class Network:
    """A network with a router, and hosts on it.

    Raises:
        OSError: This system, or this user, cannot have namespaces; the message says why.
    """

    def __init__(self, *hosts: str) -> None:
        """Make it.

        Args:
            hosts: Their names; the first has the address 10.77.0.11, the next one 10.77.0.12.
        """
        if shutil.which("ip") is None:
            raise OSError("there is no `ip` (apt install iproute2)")
        self._spaces: list[str] = []
        try:
            self._add("router")
            self._ip("-n", self._space("router"), "link", "add", "br0", "type", "bridge")
            self._configure("router", "br0", ROUTER)
            for host in hosts:
                self._join(host)
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def on(self, host: str) -> list[str]:
        """Return what has to stand before a command, so that it runs there."""
        return ["ip", "netns", "exec", self._space(host)]

    def unplug(self, host: str) -> None:
        """Pull the cable of a host: nothing of it is heard any more."""
        self._ip("-n", self._space("router"), "link", "set", host, "down")

    def _join(self, host: str) -> None:
        self._add(host)
        address = f"10.77.0.{9 + len(self._spaces)}"
        ends = (
            "eth0",
            "netns",
            self._space(host),
            "type",
            "veth",
            "peer",
            host,
            "netns",
            self._space("router"),
        )
        self._ip("link", "add", *ends)
        self._ip("-n", self._space("router"), "link", "set", host, "master", "br0", "up")
        self._configure(host, "eth0", address)

    def _configure(self, host: str, device: str, address: str) -> None:
        self._ip("-n", self._space(host), "address", "add", f"{address}/24", "dev", device)
        for each in ("lo", device):
            self._ip("-n", self._space(host), "link", "set", each, "up")

    def _add(self, host: str) -> None:
        self._ip("netns", "add", self._space(host))
        self._spaces.append(self._space(host))

    def _remove(self) -> None:
        for space in self._spaces:
            self._ip("netns", "delete", space)

    def _space(self, host: str) -> str:
        return f"alphorn-{os.getpid()}-{host}"

    def _ip(self, *arguments: str) -> None:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
