"""Alphorn, an ASGI server: one port, every protocol."""

__version__ = "0.1.0"
