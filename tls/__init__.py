"""Certificates, TLS contexts and ALPN. Knows `core`; knows no protocol: handlers are handed in."""
