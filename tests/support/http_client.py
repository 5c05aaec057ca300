"""Connecting: from the URL of a server and a carrier to a client."""

import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from h2.settings import SettingCodes

from .carrier import Carrier
from .exchange import Client, Response
from .http1_client import Http1Client
from .http2_client import Http2Client
from .wire import Wire

ALPN = {"1.1": "http/1.1", "2": "h2"}


async def connect(
    url: str,
    carrier: Carrier,
    *,
    cafile: str | None = None,
    tls: ssl.SSLContext | None = None,
    receive_window: int | None = None,
) -> Client:
    """Connect with the carrier's version of HTTP.

    Args:
        url: Of the server; https means TLS.
        carrier: Which version; with TLS by ALPN, in the clear by prior knowledge.
        cafile: Whom to trust, unless `tls` says it.
        tls: A context instead of the usual one; its ALPN list is ours to set.
        receive_window: How many bytes of a body the server may send before the test reads, roughly:
            the window of each stream on HTTP/2, the socket's buffer on HTTP/1.1 (in bytes).
    """
    if carrier.http_version == "2":
        return await connect_http2(url, cafile=cafile, tls=tls, receive_window=receive_window)
    return await connect_http1(url, cafile=cafile, tls=tls, receive_buffer=receive_window)


async def connect_http1(
    url: str,
    *,
    cafile: str | None = None,
    tls: ssl.SSLContext | None = None,
    receive_buffer: int | None = None,
) -> Http1Client:
    """Connect with HTTP/1.1; see `connect`."""
    wire = await open_wire(url, ALPN["1.1"], cafile=cafile, tls=tls, receive_buffer=receive_buffer)
    return Http1Client(wire, authority_of(url))


async def connect_http2(
    url: str,
    *,
    cafile: str | None = None,
    tls: ssl.SSLContext | None = None,
    receive_window: int | None = None,
    settings: dict[SettingCodes, int] | None = None,
) -> Http2Client:
    """Connect with HTTP/2 and send our preface; see `connect`.

    Args:
        url: See `connect`.
        cafile: See `connect`.
        tls: See `connect`.
        receive_window: See `connect`.
        settings: Our SETTINGS, where they differ from the defaults.
    """
    wire = await open_wire(url, ALPN["2"], cafile=cafile, tls=tls)
    client = Http2Client(wire, authority_of(url))
    ours = dict(settings or {})
    if receive_window is not None:
        ours[SettingCodes.INITIAL_WINDOW_SIZE] = receive_window
    await client.start(ours)
    return client


async def fetch(
    url: str,
    carrier: Carrier,
    method: str = "GET",
    target: str = "/",
    fields: Sequence[tuple[bytes, bytes]] = (),
    *,
    content: bytes | None = None,
    cafile: str | None = None,
) -> Response:
    """Make one request on a connection of its own and return the whole response."""
    client = await connect(url, carrier, cafile=cafile)
    try:
        exchange = await client.request(method, target, fields, content)
        return await exchange.response()
    finally:
        client.close()


async def open_wire(
    url: str,
    protocol: str,
    *,
    cafile: str | None = None,
    tls: ssl.SSLContext | None = None,
    receive_buffer: int | None = None,
) -> Wire:
    """Connect to `url`; over TLS, make sure that ALPN ends with `protocol`."""
    if not url.startswith("https:"):
        return await Wire.open(url, receive_buffer=receive_buffer)
    context = tls or ssl.create_default_context(cafile=cafile)
    context.set_alpn_protocols([protocol])
    wire = await Wire.open(url, tls=context, receive_buffer=receive_buffer)
    assert wire.alpn == protocol, f"asked for {protocol} by ALPN, got {wire.alpn}"
    return wire


def authority_of(url: str) -> bytes:
    """Return the host and port of `url`, as a Host field has it."""
    return urlsplit(url).netloc.encode()
