"""What ASGI and time are to a server: exchanges, dispatch, lifespan, configuration.

Knows no protocol and no TLS; the wires in `protocols` and `tls` know this room, never the reverse.
"""
