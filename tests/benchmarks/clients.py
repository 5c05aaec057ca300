"""What the load clients written in Python have in common: options, addresses, and one line of JSON."""

import argparse
import asyncio
import json
import ssl
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

import uvloop


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every client takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    return parser


def address(url: str) -> tuple[str, int]:
    """Return host and port of a URL that names both."""
    parts = urlsplit(url)
    assert parts.hostname is not None, url
    assert parts.port is not None, url
    return parts.hostname, parts.port


def trusting_context(url: str, *alpn: str) -> ssl.SSLContext | None:
    """Return a context that believes any certificate, or None if the URL wants no TLS."""
    if urlsplit(url).scheme not in {"https", "wss"}:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a client on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def say(**figures: float | None) -> None:
    """Print what was measured."""
    print(json.dumps(figures), flush=True)
