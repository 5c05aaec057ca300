"""A load client: one full TLS 1.3 handshake after the other, each with one request behind it.

    python -m benchmarks.handshake_client --connections 8 --seconds 3 https://127.0.0.1:8443

A new context for each thread and no session: nothing is resumed.
"""

import socket
import threading
import time

from benchmarks.clients import address, parser, say, trusting_context

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def shake_hands(url: str, until: float, counts: list[int], failures: list[int]) -> None:
    """Connect again and again until a moment of the monotonic clock."""
    context = trusting_context(url, "http/1.1")
    assert context, "a handshake needs https://"
    count = failed = 0
    while time.monotonic() < until:
        try:
            with (
                socket.create_connection(address(url), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                secure.sendall(REQUEST)
                failed += not secure.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            failed += 1
        count += 1
    counts.append(count)
    failures.append(failed)


def main() -> None:
    """Run as the command line says; `--connections` is how many threads do it at once."""
    arguments = parser(__doc__).parse_args()
    counts: list[int] = []
    failures: list[int] = []
    started = time.monotonic()
    threads = [
        threading.Thread(
            target=shake_hands, args=(arguments.url, started + arguments.seconds, counts, failures)
        )
        for _ in range(arguments.connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(requests=sum(counts), seconds=time.monotonic() - started, failed=sum(failures))


if __name__ == "__main__":
    main()
