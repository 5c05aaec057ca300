r"""Trailers: fields after the body, for what is known only then. This is how gRPC ends a call.

A gRPC method of one request and one response, without a library: it answers with the message it
was sent. Trailers go to clients that say `te: trailers`, over HTTP/2 and HTTP/1.1 alike.

Serve it:  serve trailers:app
Try it:    printf '\0\0\0\0\2hi' | curl -sv -H 'te: trailers' --data-binary @- --http2-prior-knowledge http://localhost:8000/
"""


async def app(scope, receive, send):
    """Echo the message, then say that all is well."""
    if scope["type"] != "http":
        return
    fields = [(b"content-type", b"application/grpc"), (b"trailer", b"grpc-status, grpc-message")]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": True})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})
    fields = [(b"grpc-status", b"0"), (b"grpc-message", b"")]
    await send({"type": "http.response.trailers", "headers": fields})
