"""The settings, each written once: type, default, unit and meaning; and what they must be together.

Command-line flags, `SERVE_*` environment variables, TOML keys and docs/reference.md are all
derived from the fields of `Config`; nothing else in the project spells a default.
A `Config` that exists is valid in itself; whether its files, ports and modules exist is found out in use.

Longer than other files are, for it is one list: whoever looks for a setting finds it here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .errors import ConfigError
from .schema import describe, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Every setting of the server. Immutable: it is shared by all connections of a worker.

    docs/reference.md describes each of them.

    Raises:
        ConfigError: A value has the wrong type or is outside its limits, or two do not go together.
    """

    # --- Application
    factory: bool = setting(
        False, "APP names a function that returns the application.", section="Application"
    )
    app_dir: str = setting(
        ".",
        "Folder from which APP is imported.",
        section="Application",
        unit="folder",
        pattern=".+",
        example=".",
    )
    interface: Literal["auto", "asgi3", "asgi2", "wsgi"] = setting(
        "auto", "Kind of application; auto looks at its signature.", section="Application"
    )
    lifespan: Literal["auto", "on", "off"] = setting(
        "auto",
        "Run the application's startup and shutdown: on refuses to serve without, auto goes on if unsupported.",
        section="Application",
    )
    root_path: str = setting(
        "",
        "Path prefix under which a proxy mounts the application, such as /api.",
        section="Application",
        pattern="(/.*[^/])?",
        example="/api",
    )

    # --- Static files
    static: tuple[str, ...] = setting(
        (),
        "Serve the files of a folder below a path, as PREFIX=FOLDER, such as /assets=public. Repeatable; the "
        "longest prefix counts, and the application sees none of these requests.",
        section="Static files",
        unit="prefix=folder",
    )
    static_dotfiles: bool = setting(
        False,
        "Serve files and folders whose names begin with a dot as well, such as .well-known, but also .git and "
        ".env.",
        section="Static files",
    )

    # --- Development
    reload: bool = setting(
        False,
        "Start the application anew when its files change; needs the package watchfiles. For development.",
        section="Development",
    )
    reload_dir: tuple[str, ...] = setting(
        (),
        "Folder whose files are watched, with those below it, repeatable; by default that of --app-dir.",
        section="Development",
        unit="folder",
    )
    reload_include: tuple[str, ...] = setting(
        (),
        "Files to watch besides *.py, repeatable: a pattern such as *.html or templates/*.",
        section="Development",
        example="*.html",
    )
    reload_exclude: tuple[str, ...] = setting(
        (),
        "Files and folders not to watch, repeatable, such as *_test.py or migrations. What git, editors and "
        "other tools write is never watched.",
        section="Development",
        example="migrations",
    )

    # --- Proxies
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Networks of the proxies in front, repeatable, such as 10.0.0.0/8, or * for everybody: what they say "
        "about the client is believed, read from the right. Whoever connects over a unix socket always is. "
        "(Uvicorn trusts 127.0.0.1, Daphne everybody; a field from elsewhere proves nothing).",
        section="Proxies",
        example="10.0.0.0/8",
    )
    forwarded_fields: Literal["x-forwarded", "forwarded"] = setting(
        "x-forwarded",
        "Where the proxies say it: in X-Forwarded-For, -Proto, -Host and -Prefix, or in Forwarded (RFC 7239). "
        "Only these are read, for a proxy passes the others on from the client, unread.",
        section="Proxies",
    )
    proxy_protocol: bool = setting(
        False,
        "Every connection begins with a PROXY header, version 1 or 2, that says who the client is (HAProxy: "
        "send-proxy, AWS: proxy protocol). It has to come from --trusted-proxies or over a unix socket; "
        "any other connection is closed.",
        section="Proxies",
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "Hosts that clients may ask for, repeatable, such as example.com or *.example.com; any other is "
        "answered 421. By default all.",
        section="Proxies",
        example="example.com",
    )

    # --- Sockets
    bind: tuple[str, ...] = setting(
        (),
        "Address to listen on, repeatable: HOST:PORT, [V6]:PORT, :PORT (every address, IPv4 and IPv6), "
        "unix:/PATH, fd://N, or systemd://NAME for sockets that systemd passes on (systemd:// for all). Port 0 takes "
        "a free port. Replaces --host and --port.",
        section="Sockets",
        short="-b",
        unit="address",
    )
    host: str = setting(
        "127.0.0.1",
        "Host to listen on when no --bind is given.",
        section="Sockets",
        unit="host",
        pattern=".+",
        example="127.0.0.1",
    )
    port: int = setting(
        8000,
        "Port to listen on when no --bind is given; 0 takes a free port.",
        section="Sockets",
        at_least=0,
        at_most=65535,
    )
    backlog: int = setting(
        2048,
        "Connections the kernel may hold that were not accepted yet.",
        section="Sockets",
        at_least=1,
        at_most=65535,
    )
    clear_bind: tuple[str, ...] = setting(
        (),
        "Address on which the same is served in the clear beside --bind with TLS, such as unix:/run/app.sock for a "
        "proxy on this machine. Repeatable; written like --bind.",
        section="Sockets",
        unit="address",
    )
    socket_mode: str = setting(
        "666",
        "Who may connect to unix sockets of --bind and --clear-bind, as the mode of their files in octal digits. "
        "A proxy in front runs as another user as a rule (nginx: 666).",
        section="Sockets",
        pattern="0?[0-7]{3}",
        example="660",
    )
    socket_owner: str | None = setting(
        None,
        "USER:GROUP, USER or :GROUP to own the files of these unix sockets; only root may name another user.",
        section="Sockets",
        pattern="[^:]+(:[^:]+)?|:[^:]+",
        example="app:www-data",
    )

    # --- Process
    user: str | None = setting(
        None,
        "User to become, by name or number, once the sockets are open and before APP is imported; for those who "
        "start it as root. Certificates and keys have to be readable for this user.",
        section="Process",
        unit="user",
    )
    group: str | None = setting(
        None,
        "Group to become likewise; by default the user's own.",
        section="Process",
        unit="group",
    )
    umask: str | None = setting(
        None,
        "Mask of the modes of new files, in octal digits.",
        section="Process",
        pattern="0?[0-7]{3}",
        example="027",
    )
    chdir: str | None = setting(
        None,
        "Folder to work in, from which relative paths of the other settings begin, but for --config.",
        section="Process",
        unit="folder",
    )
    pid_file: str | None = setting(
        None,
        "File with the number of the process to which signals are sent; written before the user is changed.",
        section="Process",
        unit="file",
    )

    # --- TLS
    certfile: tuple[str, ...] = setting(
        (),
        "PEM file with the server's certificate, then its chain. Repeatable: a client gets the first that has the "
        "name it asks for, by itself or else by a wildcard, and otherwise the first of all (as in nginx).",
        section="TLS",
        unit="file",
    )
    keyfile: tuple[str, ...] = setting(
        (),
        "PEM file with the private key. As many as --certfile, in the same order; none at all where each "
        "--certfile has its key in it.",
        section="TLS",
        unit="file",
    )
    keyfile_password: str | None = setting(
        None,
        "Password of encrypted private keys. Others can see flags in the process list, so better in the variable "
        "or in --keyfile-password-file. Without any of them, a terminal is asked.",
        section="TLS",
        secret=True,
    )
    keyfile_password_file: str | None = setting(
        None,
        "File whose first line is the password of encrypted private keys.",
        section="TLS",
        unit="file",
    )
    tls_min: Literal["1.2", "1.3"] = setting(
        "1.2",
        "Lowest version of TLS that is spoken; nothing older than 1.2 is safe (RFC 8996; nginx, Caddy, Go: 1.2).",
        section="TLS",
    )
    client_auth: Literal["none", "optional", "required"] = setting(
        "none",
        "Ask clients for a certificate; required refuses those without. One that --client-ca does not vouch "
        "for is always refused. The application sees it in the tls extension of the scope.",
        section="TLS",
    )
    client_ca: str | None = setting(
        None,
        "PEM file with the certificates that vouch for those of clients: roots or intermediates. "
        "The system's own authorities never do.",
        section="TLS",
        unit="file",
    )
    client_crl: str | None = setting(
        None,
        "PEM file with certificate revocation lists: one of every authority above a client's certificate.",
        section="TLS",
        unit="file",
    )
    dev_tls: bool = setting(
        False, "Serve TLS with a certificate made here by a local development CA.", section="TLS"
    )
    handshake_timeout: float = setting(
        10.0,
        "How long a client may take for the TLS handshake (Go's HTTP client: 10, asyncio: 60).",
        section="TLS",
        unit="seconds",
        at_least=0.1,
    )

    redirect_bind: tuple[str, ...] = setting(
        (),
        "Address, such as :80, on which clients are sent to https: 308 with the same host, path and query. "
        "Repeatable; written like --bind (Caddy does it unasked, for nginx it is a server of its own).",
        section="TLS",
        unit="address",
    )
    redirect_port: int = setting(
        0,
        "Port of https in these redirects, where clients see another one than the server does, as with a "
        "container's published ports; 0 is that of the first address with TLS.",
        section="TLS",
        at_least=0,
        at_most=65535,
    )
    hsts: int = setting(
        0,
        "Have browsers use https for this host alone, for so long after each answer (strict-transport-security, "
        "RFC 6797); an application may say it otherwise. 0 says nothing. It cannot be taken back, so begin with "
        "minutes; a year is 31536000.",
        section="TLS",
        unit="seconds",
        at_least=0,
    )

    # --- Protocols
    http1: bool = setting(True, "Serve HTTP/1.1 and HTTP/1.0.", section="Protocols")
    http2: bool = setting(True, "Serve HTTP/2 over TLS by ALPN.", section="Protocols")
    h2c: bool = setting(
        True,
        "Serve cleartext HTTP/2 to clients that open with its preface (prior knowledge).",
        section="Protocols",
    )
    engine: Literal["fast", "reference"] = setting(
        "fast",
        "Protocol engine; reference is h11, h2 and wsproto for every byte, fast reads and answers plain "
        "HTTP/1.1 requests without h11, whole WebSocket messages without wsproto, and HTTP/2 without h2.",
        section="Protocols",
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
    ws_max_frame: int = setting(
        16 * 1024 * 1024,
        "Largest frame, by what its head says and before any of it is read; refused likewise.",
        section="WebSocket",
        unit="bytes",
        at_least=125,  # RFC 6455, 5.5: control frames have up to so many
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

    # --- Deadlines
    head_timeout: float = setting(
        10.0,
        "How long a client may take to send a complete request head, from its first byte or from accept "
        "(nginx waits 60, Caddy 60, Granian 30).",
        section="Deadlines",
        unit="seconds",
        at_least=0.1,
    )
    body_timeout: float = setting(
        30.0,
        "While an application waits for request content, --body-min-rate is asked of the client over so long a "
        "time; a slower one is answered 408. Once the answer has begun, the two may talk at any pace.",
        section="Deadlines",
        unit="seconds",
        at_least=0.1,
    )
    body_min_rate: int = setting(
        240,
        "Bytes of request content per second that a client has to send, averaged over --body-timeout; 0 asks for "
        "nothing (Kestrel: 240; nginx instead wants any byte within 60 seconds).",
        section="Deadlines",
        unit="bytes",
        at_least=0,
    )
    write_timeout: float = setting(
        60.0,
        "How long a client may leave what was sent to it unread, or take less than 240 bytes per second of it, "
        "and an HTTP/2 stream without window (nginx: send_timeout 60, Kestrel: 240 bytes per second).",
        section="Deadlines",
        unit="seconds",
        at_least=0.1,
    )
    keep_alive_timeout: float = setting(
        75.0,
        "How long an idle connection is kept (nginx: 75; longer than the 60 of common load balancers).",
        section="Deadlines",
        unit="seconds",
        at_least=0.1,
    )
    linger_timeout: float = setting(
        5.0,
        "How long a client that is still sending is listened to after the last answer, so that it gets to read "
        "it (nginx: lingering_timeout 5).",
        section="Deadlines",
        unit="seconds",
        at_least=0.1,
    )

    # --- Sizes
    max_head_bytes: int = setting(
        64 * 1024,
        "Largest request head: request line and header section, or HTTP/2 header list; 431 above it "
        "(nginx: 32 KiB, Go: 1 MiB).",
        section="Sizes",
        unit="bytes",
        at_least=1024,
    )
    max_fields: int = setting(
        128, "Most fields in a request's header section; 431 above it.", section="Sizes", at_least=1
    )
    max_body: int = setting(
        0,
        "Largest request content; 413 above it, whether announced or not. 0 is any size, for content is passed "
        "on as it comes and never held beyond the windows below (nginx: 1 MiB, Caddy and Go: any).",
        section="Sizes",
        unit="bytes",
        at_least=0,
    )
    max_drain: int = setting(
        256 * 1024,
        "Request content that is read and dropped after an early answer to keep the connection, or while it "
        "is closed; beyond it closing is cheaper (Go: 256 KiB).",
        section="Sizes",
        unit="bytes",
        at_least=0,
    )
    stream_window: int = setting(
        256 * 1024,
        "Request body the server holds for an application that does not read, per stream.",
        section="Sizes",
        unit="bytes",
        at_least=1,
        at_most=2**31 - 1,  # RFC 9113, 6.9.1
    )
    connection_window: int = setting(
        4 * 1024 * 1024,
        "The same for a whole HTTP/2 connection.",
        section="Sizes",
        unit="bytes",
        at_least=65535,  # RFC 9113, 6.9.2: the window a connection begins with, which cannot shrink
        at_most=2**31 - 1,
    )
    write_high_mark: int = setting(
        64 * 1024,
        "Response bytes held per stream for a client that does not read, before send() waits "
        "(asyncio and Uvicorn: 64 KiB).",
        section="Sizes",
        unit="bytes",
        at_least=1,
    )

    # --- Counts
    max_connections: int = setting(
        10_000,
        "Connections at once; more wait in the backlog until one has ended (nginx: worker_connections 512).",
        section="Counts",
        at_least=1,
    )
    max_connections_per_address: int = setting(
        0,
        "Connections of one client at once, an IPv4 address or an IPv6 network of 64 bits; more are closed. 0 is "
        "any number, for many people may share an address (nginx: limit_conn, off). Trusted proxies and unix "
        "sockets have no such limit.",
        section="Counts",
        at_least=0,
    )
    max_requests_per_connection: int = setting(
        1_000_000,
        "Requests on one connection, after which it is closed in good order (nginx: 1000; Go, Caddy: any "
        "number, but an HTTP/2 connection runs out of streams).",
        section="Counts",
        at_least=1,
    )
    max_in_flight: int = setting(
        4096,
        "Requests being answered at once in a worker; WebSockets do not count (Gunicorn: 1000 connections, "
        "Uvicorn: any number).",
        section="Counts",
        at_least=1,
    )
    max_in_flight_share: float = setting(
        0.875,
        "The part of --max-in-flight that the requests of one client address may take; the rest is for others, whom "
        "one alone can so not keep waiting. 1 is all of it, as in every other server.",
        section="Counts",
        at_least=0,
        at_most=1,
    )
    max_queued: int = setting(
        256,
        "Requests that wait when there are --max-in-flight; more are refused: 503 with retry-after, in HTTP/2 "
        "REFUSED_STREAM, which says that it is safe to try again.",
        section="Counts",
        at_least=0,
    )
    queue_timeout: float = setting(
        5.0,
        "How long a request waits for its turn before it is refused likewise; who has waited longer seldom "
        "still wants the answer.",
        section="Counts",
        unit="seconds",
        at_least=0.1,
    )
    max_streams: int = setting(
        128,
        "Requests a client may have open at once on one HTTP/2 connection (nginx: 128). One that it has reset "
        "counts until its application has ended.",
        section="Counts",
        at_least=1,
        at_most=2**31 - 1,  # RFC 9113, 5.1.1: there are no more stream identifiers
    )
    max_resets: int = setting(
        200,
        "Streams that a client may reset, or make the server reset, within 10 seconds on one connection; "
        "more is an attack: GOAWAY with ENHANCE_YOUR_CALM (CVE-2023-44487, CVE-2025-8671; Gunicorn: 200, "
        "Granian: 50, Go: the number of streams).",
        section="Counts",
        at_least=1,
    )
    max_control_frames: int = setting(
        1000,
        "Frames without use for an application that a client may send within 10 seconds on one connection: PING, "
        "SETTINGS, PRIORITY, empty DATA, tiny WINDOW_UPDATE; in WebSocket pings, pongs and empty fragments "
        "(Gunicorn: 1000, Go: 10,000 unsent).",
        section="Counts",
        at_least=1,
    )

    # --- Workers
    workers: int | Literal["auto"] = setting(
        1,
        "Processes that serve; auto is one per processor that this one may use. With more than one, APP is given "
        "as MODULE:ATTRIBUTE, in Python too, and every limit is one of each process.",
        section="Workers",
        at_least=1,
        at_most=1024,
        word="auto",
    )
    hang_timeout: float = setting(
        30.0,
        "A worker whose event loop has not turned for so long is warned of; when that happens twice in a row its "
        "stacks are logged, and it is replaced. A startup or shutdown may take any time. 0 never does it (Gunicorn: "
        "30, Uvicorn: 5, once).",
        section="Workers",
        unit="seconds",
        at_least=0,
    )
    max_requests: int = setting(
        0,
        "Replace a worker after so many requests, against leaks of the application; another is ready before it "
        "drains, and only one is replaced at a time. So that not all come to it at once, each takes a bit less, by "
        "up to a tenth. 0 is any number.",
        section="Workers",
        at_least=0,
    )
    max_lifetime: float = setting(
        0.0, "The same after so long a time; 0 is any time.", section="Workers", unit="seconds", at_least=0
    )
    max_rss: int = setting(
        0,
        "The same when a worker has so much memory (its resident set; on macOS the most it ever had); 0 is any "
        "amount.",
        section="Workers",
        unit="bytes",
        at_least=0,
    )

    # --- Shutdown
    drain_delay: float = setting(
        0.0,
        "After SIGTERM or SIGINT, how long everything goes on while /readyz of --admin-bind says no already, so "
        "that load balancers send new clients elsewhere first (Kubernetes takes some seconds to notice).",
        section="Shutdown",
        unit="seconds",
        at_least=0,
    )
    shutdown_event: bool = setting(
        False,
        "Put the extension alphorn.shutdown into every scope: an asyncio.Event as `event`, set when the server "
        "begins to end, long before --graceful-timeout is over.",
        section="Shutdown",
    )
    graceful_timeout: float = setting(
        30.0,
        "How long requests may go on after SIGTERM or SIGINT before they are cancelled "
        "(Kubernetes and Gunicorn: 30).",
        section="Shutdown",
        unit="seconds",
        at_least=0,
    )
    shutdown_timeout: float = setting(
        30.0,
        "How long the application's own shutdown (lifespan) may take after that, before it is cancelled and the exit "
        "status says that it failed; 0 is any time (Hypercorn: 60, Uvicorn: any time).",
        section="Shutdown",
        unit="seconds",
        at_least=0,
    )

    # --- Administration
    admin_bind: tuple[str, ...] = setting(
        (),
        "Address for the operator, repeatable: unix:/PATH, whose file only this user can open (mode 0600), or a "
        "loopback address and port. Health, metrics and a status page; over unix sockets also `alphorn ctl`.",
        section="Administration",
        unit="address",
    )

    blocked_loop_after: float = setting(
        1.0,
        "Log the stack that keeps the event loop from turning for so long, and everybody waiting; once per place. "
        "0 does not watch (asyncio's debug mode: 100ms, which also tells of what nobody notices).",
        section="Administration",
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
    log_format: Literal["text", "json"] = setting(
        "text", "How lines of both logs look; json is one object per line.", section="Run time and logs"
    )
    log_config: str | None = setting(
        None,
        "File that configures Python's logging: a dictConfig in JSON, TOML or YAML (which needs PyYAML). "
        "Lines go to the handlers that it gives to alphorn.error, alphorn.access or the root logger.",
        section="Run time and logs",
        unit="file",
    )
    request_id: bool = setting(
        False,
        "Give every request an x-request-id: the client's, if there is a sensible one, else a new one. The "
        "application sees it among the fields of its request, the client in the answer, and JSON logs have it.",
        section="Run time and logs",
    )
    trace_context: bool = setting(
        False,
        "Give every request a traceparent (W3C Trace Context) that does not come with a valid one. Leave it off "
        "where something in front of the server makes traces.",
        section="Run time and logs",
    )
    access_log: bool = setting(True, "Log one line per request.", section="Run time and logs")
    access_log_format: str | None = setting(
        None,
        "What a line of the access log says, with the atoms of Gunicorn and some more: '%(h)s %(l)s %(u)s %(t)s "
        '"%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"\' is the combined format of Apache.',
        section="Run time and logs",
    )
    access_log_file: str | None = setting(
        None,
        "File to append the access log to, instead of writing to the terminal; SIGUSR1 opens it again.",
        section="Run time and logs",
        unit="file",
    )
    server_header: str = setting(
        "alphorn",
        "Value of the server field in answers; empty sends none.",
        section="Run time and logs",
        pattern="([!-~]([ -~]*[!-~])?)?",  # a field value (RFC 9110, 5.5), in ASCII
        example="alphorn",
    )

    @property
    def supervised(self) -> bool:
        """Whether a supervisor is needed, with one worker or more, or the process serves by itself."""
        worn = self.max_requests or self.max_lifetime or self.max_rss
        return self.workers != 1 or self.reload or bool(worn)

    def __post_init__(self) -> None:
        for declared in SETTINGS:
            if declared.kind is tuple and isinstance(value := getattr(self, declared.name), str):
                object.__setattr__(self, declared.name, declared.one(value))
        values = {name: getattr(self, name) for name in DEFAULTS}
        for declared in SETTINGS:
            declared.check(values[declared.name], declared.name)
        check_together({name: value for name, value in values.items() if value != DEFAULTS[name]})


SETTINGS = describe(Config)
DEFAULTS: Mapping[str, Any] = {declared.name: declared.default for declared in SETTINGS}

_APART = (
    ("bind", "host", "which names the host itself: drop {other}"),
    ("bind", "port", "which names the port itself: drop {other}"),
    ("dev_tls", "certfile", "which makes a certificate itself: drop one of them"),
    ("dev_tls", "keyfile", "which makes a key itself: drop one of them"),
    ("dev_tls", "keyfile_password", "which makes a key itself: drop one of them"),
    ("dev_tls", "keyfile_password_file", "which makes a key itself: drop one of them"),
    ("dev_tls", "hsts", "for browsers would demand https of everything on localhost: drop one of them"),
    ("log_format", "access_log_format", "which says what an access line has: drop one of them"),
    ("reload", "workers", "which starts a single worker anew: drop one of them"),
    ("reload", "admin_bind", "which is no service to be watched: drop one of them"),
    ("keyfile_password_file", "keyfile_password", "which has the password as well: drop one of them"),
)
_NEEDED = (
    ("static_dotfiles", ("static",)),
    ("reload_dir", ("reload",)),
    ("reload_include", ("reload",)),
    ("reload_exclude", ("reload",)),
    ("keyfile", ("certfile",)),
    ("keyfile_password", ("certfile",)),
    ("keyfile_password_file", ("certfile",)),
    ("client_auth", ("certfile", "dev_tls")),
    ("client_auth", ("client_ca",)),
    ("client_ca", ("client_auth",)),
    ("client_crl", ("client_auth",)),
    ("redirect_bind", ("certfile", "dev_tls")),
    ("clear_bind", ("certfile", "dev_tls")),
    ("redirect_port", ("redirect_bind",)),
)


def check_together(given: Mapping[str, Any], label: Callable[[str], str] = str) -> None:
    """Refuse settings that contradict each other. Each by itself has been checked before.

    Args:
        given: The settings that somebody gave, by field name; the others have their defaults.
        label: What the operator called a setting, or would have to call it, by its field name.

    Raises:
        ConfigError: The message names both and says which to drop or what to add.
    """
    # What is said as it is by default is as good as not said, but for what would then be ignored.
    present = {name for name, value in given.items() if value != DEFAULTS[name] or name in ("host", "port")}
    for name, other, reason in _APART:
        if {name, other} <= present:
            mend = reason.format(other=label(other))
            raise ConfigError(f"{label(other)} cannot stand beside {label(name)}, {mend}")
    for name, others in _NEEDED:
        if name in present and present.isdisjoint(others):
            either = " or ".join(map(label, others))
            raise ConfigError(f"{label(name)} is of no use without {either}: add {either}")
    keys, certificates = (len(given.get(name, ())) for name in ("keyfile", "certfile"))
    if keys not in (0, certificates):
        raise ConfigError(
            f"{label('keyfile')} and {label('certfile')} do not name as many files ({keys} and {certificates}): "
            "name a key for each certificate, in the same order, or none where each has its key with it"
        )

    tls = not present.isdisjoint(("certfile", "dev_tls"))
    wires = ("http1", "http2") if tls else ("http1", "h2c")
    if not any({**DEFAULTS, **given}[name] for name in wires):
        off = " and ".join(label(name) for name in wires)
        raise ConfigError(
            f"{off} leave no protocol to serve {'with' if tls else 'without'} TLS: drop one of them"
        )


def one_config(config: Config | None, given: Mapping[str, Any]) -> Config:
    """Return the settings that were given in one of two ways: as a Config, or by name.

    Raises:
        ConfigError: They were given in both ways, or there is no such setting.
    """
    if config is None:
        try:
            return Config(**given)
        except TypeError as error:
            raise ConfigError(f"{error}; docs/reference.md lists the settings") from None
    if given:
        raise ConfigError("settings are given twice, as a Config and by name; choose one way")
    return config
