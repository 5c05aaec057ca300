"""Files by `http.response.pathsend`: the application names a file, the server sends it.

Serve it:  serve files:app
Try it:    curl http://localhost:8000/hello.py
"""

import mimetypes
from pathlib import Path

# Requests are looked up here; what a client wrote never becomes part of a path.
FILES = {f"/{file.name}": file for file in Path(__file__).resolve().parent.iterdir() if file.is_file()}


async def app(scope, receive, send):
    """Send a file of this folder, by the server where it can, else by hand."""
    if scope["type"] != "http":
        return
    file = FILES.get(scope["path"])
    if file is None:
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body", "body": b"no such file\n"})
        return
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    fields = [(b"content-type", kind.encode()), (b"content-length", b"%d" % file.stat().st_size)]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    if "http.response.pathsend" in scope["extensions"]:
        await send({"type": "http.response.pathsend", "path": str(file)})
    else:
        await send({"type": "http.response.body", "body": file.read_bytes()})
