"""The settings, each written once: type, default, unit and meaning.

Command-line flags, `SERVE_*` environment variables, TOML keys and docs/reference.md are all
derived from the fields of `Config`; nothing else in the project spells a default.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal


def setting(  # noqa: PLR0913 - one argument per thing a setting can say about itself
    default: Any,
    doc: str,
    *,
    section: str,
    unit: str = "",
    short: str = "",
    secret: bool = False,
    at_least: float | None = None,
) -> Any:
    """Declare one setting.

    Args:
        default: The value when nobody says otherwise. Safe on the open internet.
        doc: What it does and, for a limit, why this number; shown by `--help` and in the reference.
        section: The heading it stands under in `--help` and in the reference.
        unit: "seconds" or "bytes" for a quantity.
        short: A one-letter flag, such as "-b".
        secret: Never shown by `--print-config`.
        at_least: The smallest value that makes sense.
    """
    metadata = {
        "doc": doc,
        "section": section,
        "unit": unit,
        "short": short,
        "secret": secret,
        "at_least": at_least,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Every setting of the server. Immutable: it is shared by all connections of a worker."""

    # --- Application
    factory: bool = setting(
        False, "APP names a function that returns the application.", section="Application"
    )
    app_dir: str = setting(".", "Folder from which APP is imported.", section="Application")
    interface: Literal["auto", "asgi3", "asgi2", "wsgi"] = setting(
        "auto", "Kind of application; auto looks at its signature.", section="Application"
    )
    lifespan: Literal["auto", "on", "off"] = setting(
        "auto",
        "Run the application's startup and shutdown: on refuses to serve without, auto goes on if unsupported.",
        section="Application",
    )
    root_path: str = setting(
        "", "Path prefix under which a proxy mounts the application.", section="Application"
    )

    # --- Sockets
    bind: tuple[str, ...] = setting(
        (),
        "Address to listen on, repeatable: HOST:PORT, [V6]:PORT, :PORT (every address, IPv4 and IPv6), "
        "unix:/PATH or fd://N. Port 0 takes a free port. Replaces --host and --port.",
        section="Sockets",
        short="-b",
    )
    host: str = setting("127.0.0.1", "Host to listen on when no --bind is given.", section="Sockets")
    port: int = setting(8000, "Port to listen on when no --bind is given.", section="Sockets", at_least=0)
    backlog: int = setting(
        2048, "Connections the kernel may hold that were not accepted yet.", section="Sockets", at_least=1
    )

    # --- TLS
    certfile: str | None = setting(
        None, "PEM file with the server's certificate, then its chain.", section="TLS"
    )
    keyfile: str | None = setting(
        None, "PEM file with the private key, if it is not in --certfile.", section="TLS"
    )
    keyfile_password: str | None = setting(
        None, "Password of an encrypted private key.", section="TLS", secret=True
    )
    dev_tls: bool = setting(
        False, "Serve TLS with a certificate made here by a local development CA.", section="TLS"
    )
    handshake_timeout: float = setting(
        10.0,
        "How long a client may take for the TLS handshake (Go and Caddy users set 10).",
        section="TLS",
        unit="seconds",
        at_least=0.1,
    )

    # --- Protocols
    http1: bool = setting(True, "Serve HTTP/1.1 and HTTP/1.0.", section="Protocols")
    http2: bool = setting(True, "Serve HTTP/2 over TLS by ALPN.", section="Protocols")
    h2c: bool = setting(
        True,
        "Serve cleartext HTTP/2 to clients that open with its preface (prior knowledge).",
        section="Protocols",
    )
    engine: Literal["reference"] = setting(
        "reference", "Protocol engine; reference is h11, h2 and wsproto.", section="Protocols"
    )

    # --- WebSocket
    ws_deflate: bool = setting(
        True, "Agree to permessage-deflate when a client offers it (RFC 7692).", section="WebSocket"
    )
    ws_max_message: int = setting(
        16 * 1024 * 1024,
        "Largest message after inflation; a larger one is refused with close code 1009.",
        section="WebSocket",
        unit="bytes",
        at_least=1,
    )
    ws_ping_interval: float = setting(
        20.0,
        "A silent client is pinged this often; 0 never pings.",
        section="WebSocket",
        unit="seconds",
        at_least=0,
    )
    ws_ping_timeout: float = setting(
        20.0,
        "A pinged client that stays silent this long is gone (close code 1011); 0 waits for ever.",
        section="WebSocket",
        unit="seconds",
        at_least=0,
    )
    ws_close_timeout: float = setting(
        10.0,
        "How long a client may take to answer a close frame before the connection is cut.",
        section="WebSocket",
        unit="seconds",
        at_least=0.1,
    )

    # --- Limits
    head_timeout: float = setting(
        10.0,
        "How long a client may take to send a complete request head, from its first byte or from accept "
        "(nginx waits 60, Caddy 60, Granian 30).",
        section="Limits",
        unit="seconds",
        at_least=0.1,
    )
    keep_alive_timeout: float = setting(
        75.0,
        "How long an idle connection is kept (nginx: 75; longer than the 60 of common load balancers).",
        section="Limits",
        unit="seconds",
        at_least=0.1,
    )
    max_head_bytes: int = setting(
        64 * 1024,
        "Largest request head: request line and header section, or HTTP/2 header list; 431 above it "
        "(nginx: 32 KiB, Go: 1 MiB).",
        section="Limits",
        unit="bytes",
        at_least=1024,
    )
    max_fields: int = setting(
        128, "Most fields in a request's header section; 431 above it.", section="Limits", at_least=1
    )
    max_streams: int = setting(
        128,
        "Requests a client may have open at once on one HTTP/2 connection (nginx: 128).",
        section="Limits",
        at_least=1,
    )
    stream_window: int = setting(
        256 * 1024,
        "Request body the server holds for an application that does not read, per stream.",
        section="Limits",
        unit="bytes",
        at_least=1,
    )
    connection_window: int = setting(
        4 * 1024 * 1024,
        "The same for a whole HTTP/2 connection.",
        section="Limits",
        unit="bytes",
        at_least=65535,
    )
    write_high_mark: int = setting(
        64 * 1024,
        "Response bytes held per stream for a client that does not read, before send() waits "
        "(asyncio and Uvicorn: 64 KiB).",
        section="Limits",
        unit="bytes",
        at_least=1,
    )

    # --- Shutdown
    graceful_timeout: float = setting(
        30.0,
        "How long requests may go on after SIGTERM or SIGINT before they are cancelled "
        "(Kubernetes and Gunicorn: 30).",
        section="Shutdown",
        unit="seconds",
        at_least=0,
    )

    # --- Run time and logs
    loop: Literal["auto", "uvloop", "asyncio"] = setting(
        "auto", "Event loop; auto takes uvloop where it is installed.", section="Run time and logs"
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = setting(
        "info", "Least severe message that is logged.", section="Run time and logs"
    )
    access_log: bool = setting(True, "Log one line per request.", section="Run time and logs")
    server_header: str = setting(
        "alphorn", "Value of the server field in answers; empty sends none.", section="Run time and logs"
    )
