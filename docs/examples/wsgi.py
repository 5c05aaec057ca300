"""A WSGI application (PEP 3333), as Flask and Django make them: told apart by its signature.

Each request runs in a thread. What the iterable yields is sent at once, and it is asked for more
only when the client has room.

Serve it:  serve wsgi:app
Try it:    curl -d 'some text' http://localhost:8000/
"""


def app(environ, start_response):
    """Count the bytes of the request."""
    size = len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    yield f"{environ['REQUEST_METHOD']} over {environ['SERVER_PROTOCOL']}, ".encode()
    yield f"{size} bytes\n".encode()
