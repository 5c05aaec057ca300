"""An upload of any size in little memory: the body is taken part by part.

While the application does not call `receive`, the client is slowed down: by TCP on HTTP/1.1, by the
window of its stream on HTTP/2.

Serve it:  serve upload:app
Try it:    curl -T upload.py http://localhost:8000/
"""

import hashlib


async def app(scope, receive, send):
    """Answer with the size and the SHA-256 digest of what was sent."""
    if scope["type"] != "http":
        return
    digest = hashlib.sha256()
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return  # the client left in the middle
        digest.update(message["body"])
        size += len(message["body"])
        more = message["more_body"]
    fields = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": f"{size} bytes, {digest.hexdigest()}\n".encode()})
