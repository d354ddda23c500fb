"""A file that a program holds open while the connection is cut again and again, on a server that keeps such opens."""

import hashlib
from collections.abc import Callable

import pytest

from smbfuse.status import NtStatus
from smbfuse.wire.smb2.header import Command
from tests.relay import Relay
from tests.support.asked import asked, claimed
from tests.support.mounts import Mount
from tests.support.samba import SambaServer, wait_for

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

ROUNDS = 5
# Writes a piece for each line of its input; says so once the piece waits in memory, or ("s") is on the server's disk.
WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for number, line in enumerate(sys.stdin):
    os.write(fd, bytes([65 + number]) * 300_000)
    if line == "s\\n":
        os.fsync(fd)
    print(number, flush=True)
os.lseek(fd, 0, os.SEEK_SET)
assert len(os.read(fd, 1000)) == 1000
os.close(fd)
"""


@pytest.mark.parametrize("vers", ["2.0", "2.1", "3.1.1"])
def test_what_waits_when_the_connection_is_cut_is_written_by_the_same_open(
    start_samba: Callable[..., SambaServer],
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    vers: str,
) -> None:
    keeping = {"posix locking": "no", "kernel oplocks": "no", "kernel share modes": "no"}
    server = start_samba(share_options=keeping)
    server.user.owns(server.root)
    relay = relay_to(server.port)
    mounted = mount(server, {"vers": vers, "port": relay.port})
    with mounted.start("python3", "-c", WRITER, mounted.point / "held open") as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for number in range(2 * ROUNDS):
            writer.stdin.write(b"s\n" if number % 2 else b"w\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == b"%d\n" % number
            if not number % 2:
                relay.cut()  # with 300,000 bytes that may not have left yet
        writer.stdin.close()
        assert writer.wait(timeout=30) == 0
    expected = b"".join(bytes([65 + number]) * 300_000 for number in range(2 * ROUNDS))
    written = (server.root / "held open").read_bytes()
    assert hashlib.sha256(written).digest() == hashlib.sha256(expected).digest()
    reclaims = [one for one in asked(relay, Command.CREATE) if claimed(one)]
    assert reclaims
    assert {one.status for one in reclaims} == {NtStatus.SUCCESS}
    assert wait_for(lambda: server.grants(server.root / "held open") == [], 10)  # kept for a moment, as any closed file
