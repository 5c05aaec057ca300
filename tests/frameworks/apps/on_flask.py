"""A Flask application, which is WSGI."""

from collections.abc import Iterator

from flask import Flask, Response, request, stream_with_context

app = Flask(__name__)


@app.get("/")
def home() -> dict[str, str | None]:
    return {
        "protocol": request.environ["SERVER_PROTOCOL"],
        "scheme": request.scheme,
        "client": request.remote_addr,
    }


@app.post("/echo")
def echo() -> Response:
    """Send the request back while it arrives."""

    def parts() -> Iterator[bytes]:
        while part := request.stream.read(10_000):
            yield part

    return Response(stream_with_context(parts()), content_type=request.content_type)


@app.post("/form")
def form() -> dict[str, object]:
    return {"fields": request.form, "size": len(request.files["file"].read())}
