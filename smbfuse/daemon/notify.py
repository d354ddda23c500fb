"""sd_notify: telling systemd how we are.

Spec: sd_notify(3); the protocol is one datagram of NAME=VALUE lines.
"""

import logging
import socket

log = logging.getLogger(__name__)


class Notifier:
    """Sends notifications to the socket that systemd named in $NOTIFY_SOCKET; silent without one."""

    def __init__(self, address: str) -> None:
        # '@' stands for the zero byte of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """The mount is there."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Show one line in `systemctl status`."""
        self._send(f"STATUS={status}")

    def stopping(self, most_s: float) -> None:
        """The mount is being undone, which takes so long at most: TimeoutStopSec= is to be no shorter."""
        self._send(f"STOPPING=1\nSTATUS=unmounting\nEXTEND_TIMEOUT_USEC={most_s * 1e6:.0f}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)  # a manager that does not listen must not hold up a filesystem
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            log.debug("systemd was not told %s: %s", message.splitlines()[0], error)
