"""Grants that end with a connection and come back with the next one: what may wait waits again, until somebody asks."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.relay import Relay
from tests.support.caller import Caller, caller_on
from tests.support.mounts import Mount
from tests.support.pair import EXCLUSIVE, content, open_to_write, soon, write
from tests.support.samba import SambaServer

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

KEEPING: Final = {"posix locking": "no", "kernel oplocks": "no", "kernel share modes": "no"}  # durable handles


@pytest.mark.parametrize(
    "vers, share_options",
    [("1.0", {}), ("2.0", {}), ("3.1.1", {}), ("2.0", KEEPING), ("2.1", KEEPING), ("3.1.1", KEEPING)],
)
def test_after_a_loss_writes_wait_again_and_others_see_them(
    start_samba: Callable[..., SambaServer],
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    vers: str,
    share_options: dict[str, str],
) -> None:
    server = start_samba(share_options=share_options)
    path = server.user.owns(server.root) / "f"
    relay = relay_to(server.port)
    with caller_on(mount(server, {"vers": vers, "port": relay.port})) as first, caller_on(mount(server)) as second:
        open_to_write(first)
        for _ in range(3):
            assert soon(lambda: waits(first, path))
            assert set(server.grants(path)) & EXCLUSIVE
            relay.cut()
            first.do("os.fsync(kept['w'])")
        assert soon(lambda: waits(first, path))
        assert content(second) == first.read("w")


def waits(caller: Caller, path: Path) -> bool:
    """Write something new, and tell whether it has stayed here."""
    data = secrets.token_hex(50).encode()
    write(caller, data)
    return path.read_bytes() != data
