"""All attacks, in the order of the report: from the connection up to the application."""

from typing import Final

from . import crowds, http1_large, http1_slow, http2_floods, http2_stalls, tls_handshakes, websockets

ATTACKS: Final = (
    *tls_handshakes.ATTACKS,
    *crowds.ATTACKS,
    *http1_slow.ATTACKS,
    *http1_large.ATTACKS,
    *http2_floods.ATTACKS,
    *http2_stalls.ATTACKS,
    *websockets.ATTACKS,
)
BY_NAME: Final = {attack.name: attack for attack in ATTACKS}
