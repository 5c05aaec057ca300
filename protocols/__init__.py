"""One wire each: bytes to exchanges and back. Knows `core`; knows nothing of TLS or of its siblings."""
