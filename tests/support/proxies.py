"""Real proxies in front of a server of the test: nginx and HAProxy, on ports that the system chooses.

A proxy gets its listening sockets from here, already bound, so that no port can be taken meanwhile:
HAProxy as `fd@N`, nginx as if it replaced a running nginx (its variable NGINX).
"""

import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from alphorn import Config, Server
from alphorn.core.asgi import Receive, Scope, Send
from support.steered_app import accept_lifespan

PATIENCE_SECONDS: Final = 10.0

NGINX: Final = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
{user}
{modules}
events {{}}
{body}
"""
NGINX_HTTP: Final = """
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {body}
}}
"""
HAPROXY: Final = """
defaults
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    timeout tunnel 10s
{body}
"""
STREAM_MODULES: Final = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules")


class ProxyProcess:
    """A proxy that runs as long as its block.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        log: What it has written, once it has ended.
    """

    def __init__(self, command: list[str], listener: socket.socket, env: dict[str, str]) -> None:
        self.port: int = listener.getsockname()[1]
        self.log = ""
        with listener:
            self._process = subprocess.Popen(
                command,
                pass_fds=[listener.fileno()],
                env={**os.environ, **env},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self.log, _ = self._process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.log, _ = self._process.communicate()
        if exc is not None:
            print(self.log)  # pytest shows it with the failure


def nginx(program: str, folder: Path, body: str) -> ProxyProcess:
    """Start nginx with a configuration, in which `{listen}` is the address to listen on.

    Args:
        program: Where it is.
        folder: For its configuration and its temporary files.
        body: What stands in `http`; or a whole `stream` block.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)  # as nginx would have made it
    body = body.replace("{listen}", f"127.0.0.1:{listener.getsockname()[1]}")
    streams = body.lstrip().startswith("stream")
    file = folder / "nginx.conf"
    file.write_text(
        NGINX.format(
            folder=folder,
            user="user root;" if os.geteuid() == 0 else "",
            modules=f"load_module {stream_module()};" if streams else "",
            body=body if streams else NGINX_HTTP.format(folder=folder, body=body),
        )
    )
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(file)]
    return ProxyProcess(command, listener, {"NGINX": f"{listener.fileno()};"})


def stream_module() -> Path | None:
    """Find the module with which nginx passes on what is not HTTP."""
    found = (Path(folder) / "ngx_stream_module.so" for folder in STREAM_MODULES)
    return next((file for file in found if file.exists()), None)


def haproxy(program: str, folder: Path, body: str) -> ProxyProcess:
    """Start HAProxy with a configuration, in which `{bind}` is the address to bind."""
    listener = socket.create_server(("127.0.0.1", 0))
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(body=body.replace("{bind}", f"fd@{listener.fileno()}")))
    return ProxyProcess([program, "-db", "-f", str(file)], listener, {})


class Upstream:
    """The server behind the proxy, in the loop of the test: it keeps the scopes, and echoes.

    Attributes:
        scopes: Of all requests, in order.
    """

    def __init__(self, **settings: Any) -> None:
        self.scopes: list[Scope] = []
        self._server = Server(self._app, Config(**{"graceful_timeout": 1.0} | settings))

    @property
    def address(self) -> str:
        """Where it listens: host and port, or the path of a unix socket."""
        url = self._server.urls[0]
        return url.removeprefix("unix:") if url.startswith("unix:") else url.partition("://")[2]

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._server.stop()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await accept_lifespan(receive, send)
            return
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await _echo_messages(scope, receive, send)
        elif (b"content-type", b"application/grpc") in scope["headers"]:
            await _echo_grpc(scope, receive, send)
        else:
            await _echo(scope, receive, send)


async def _echo(_: Scope, receive: Receive, send: Send) -> None:
    """Echo the content when it is whole: nginx sends no more of a request once the answer has begun."""
    content, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        content, more = content + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": content})


async def _echo_grpc(_: Scope, receive: Receive, send: Send) -> None:
    """Echo the content as it comes, which is a method of two streams."""
    fields = [(b"content-type", b"application/grpc")]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": True})
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message["more_body"]
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})
    await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})


async def _echo_messages(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
