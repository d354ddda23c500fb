"""However a mount is ended, it closes what is open, gives the tree back, logs off, and ends with 0."""

import contextlib
import errno
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from tests.relay import Relay
from tests.support.caller import caller_on
from tests.support.mounts import Mount
from tests.support.record import commands
from tests.support.samba import SambaServer, wait_for

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

PATIENCE_S: Final = 15.0

# Command codes: opening a file, closing one, giving the tree back, logging off.
SMB1: Final = ({0x2D, 0xA2}, {0x04}, 0x71, 0x74)  # [MS-CIFS] 2.2.2.1
SMB2: Final = ({5}, {6}, 4, 2)  # [MS-SMB2] 2.2.1


def by_signal(number: signal.Signals) -> Callable[[Mount], None]:
    return lambda mount: mount.process.send_signal(number)


def by_fusermount(*flags: str) -> Callable[[Mount], None]:
    def unmount(mount: Mount) -> None:
        mount.run("fusermount3", *flags, mount.point)

    return unmount


def by_umount(*flags: str) -> Callable[[Mount], None]:
    # By root; the user's own umount(8) depends on how the machine's is installed.
    def umount(mount: Mount) -> None:
        subprocess.run(["umount", *flags, mount.point], check=True, timeout=20)

    return umount


IDLE: Final = [
    pytest.param(by_signal(signal.SIGTERM), id="SIGTERM"),
    pytest.param(by_signal(signal.SIGINT), id="SIGINT"),
    pytest.param(by_fusermount("-u"), id="fusermount3"),
    pytest.param(by_umount(), id="umount", marks=pytest.mark.root),
]
IN_USE: Final = [
    pytest.param(by_signal(signal.SIGTERM), id="SIGTERM"),
    pytest.param(by_signal(signal.SIGINT), id="SIGINT"),
]
DIALECTS: Final = [
    pytest.param(({"vers": "1.0"}, SMB1), id="1.0"),
    pytest.param(({"vers": "2.1"}, SMB2), id="2.1"),
    pytest.param(({"vers": "3.1.1"}, SMB2), id="3.1.1"),
]
BRIEFLY: Final = [
    pytest.param(({"vers": vers, "flush_timeout": 1}, codes), id=vers)
    for vers, codes in (("1.0", SMB1), ("2.1", SMB2), ("3.1.1", SMB2))
]
SAID: Final = "unmounted while in use"  # to be announced


class Watched(NamedTuple):
    """A mount whose messages pass a relay."""

    mount: Mount
    relay: Relay
    codes: tuple[set[int], set[int], int, int]

    def ends(self, end: Callable[[Mount], None]) -> None:
        """End it, and check that it goes away in time, with 0."""
        end(self.mount)
        assert self.mount.process.wait(PATIENCE_S) == 0, self.mount.log_text()
        assert not self.mount.mounted()

    def took_leave(self) -> None:
        """Check that every file was closed, then the tree given back, then the login ended, and the server agreed."""
        opening, closing, disconnect, logoff = self.codes
        said = commands(self.relay.pdus())
        opened = sum(command in opening and good for command, good in said)
        closed = sum(command in closing and good for command, good in said)
        assert opened > 0
        assert opened == closed
        assert said[-2:] == [(disconnect, True), (logoff, True)]


@pytest.fixture
def watched(
    request: pytest.FixtureRequest, samba: SambaServer, relay_to: Callable[..., Relay], mount: Callable[..., Mount]
) -> Watched:
    """Provide such a mount, of the best dialect unless a test asks for others."""
    options, codes = getattr(request, "param", ({}, SMB2))
    relay = relay_to(samba.port)
    return Watched(mount(samba, {**options, "port": relay.port}, announced=[SAID]), relay, codes)


@pytest.mark.parametrize("end", IDLE)
@pytest.mark.parametrize("watched", DIALECTS, indirect=True)
def test_an_idle_mount_takes_its_leave(samba: SambaServer, watched: Watched, end: Callable[[Mount], None]) -> None:
    (samba.root / "read before leaving").write_text("x" * 100_000)
    watched.mount.run("cat", watched.mount.point / "read before leaving")
    watched.ends(end)
    watched.took_leave()


@pytest.mark.parametrize("end", IN_USE)
@pytest.mark.parametrize("watched", BRIEFLY, indirect=True)
def test_a_mount_in_use_takes_its_leave_too(samba: SambaServer, watched: Watched, end: Callable[[Mount], None]) -> None:
    (samba.root / "held").write_text("x" * 5_000_000)
    with caller_on(watched.mount) as caller:
        for key in "abc":
            caller.open(key, "held")
            assert caller.read(key, 10) == b"x" * 10
        caller.do("os.chdir(point)")
        watched.ends(end)
        with pytest.raises(OSError, match="a"):  # ENOTCONN, at once
            caller.read("a", 10, 4_000_000)
        watched.took_leave()


def test_a_lazily_unmounted_mount_lives_until_its_last_file_is_closed(samba: SambaServer, watched: Watched) -> None:
    content = bytes(range(256)) * 40_000
    (samba.root / "long read").write_bytes(content)
    mounted = watched.mount
    with caller_on(mounted) as caller:
        caller.open("it", "long read")
        code, _, complaint = mounted.run_all("fusermount3", "-u", mounted.point)
        assert code != 0
        assert "busy" in complaint.lower()
        assert caller.read("it", 256, 256) == content[:256]
        mounted.run("fusermount3", "-u", "-z", mounted.point)
        assert not mounted.mounted()
        assert caller.read("it", 256, 9_000_192) == content[:256]
        assert mounted.process.poll() is None
        caller.close("it")
        assert wait_for(lambda: mounted.process.poll() == 0, PATIENCE_S), mounted.log_text()
    watched.took_leave()


@pytest.mark.parametrize("watched", DIALECTS, indirect=True)
def test_who_has_files_open_is_served_until_he_closes_them(samba: SambaServer, watched: Watched) -> None:
    content = bytes(range(256)) * 20_000
    (samba.root / "open").write_bytes(content)
    (samba.root / "closed").write_bytes(content)
    assert wait_for(lambda: watched.mount.run_all("stat", watched.mount.point / "open")[0] == 0, PATIENCE_S)
    with caller_on(watched.mount) as caller:
        caller.open("a", "open")
        caller.do("os.chdir(point)")
        watched.mount.process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: not watched.mount.mounted(), PATIENCE_S), watched.mount.log_text()
        assert caller.read("a", 256, 4_000_000) == content[:256]
        with pytest.raises(OSError, match="closed") as refused:
            caller.do("os.open('closed', os.O_RDONLY)")
        assert refused.value.errno == errno.ESHUTDOWN
        assert watched.mount.process.poll() is None
        caller.close("a")
        assert watched.mount.process.wait(PATIENCE_S) == 0, watched.mount.log_text()
    watched.took_leave()


@pytest.mark.parametrize("gone", ["paused", "killed"])
@pytest.mark.parametrize("end", IDLE)
def test_a_mount_that_nobody_uses_ends_at_once_though_its_server_is_gone(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], end: Callable[[Mount], None], gone: str
) -> None:
    server = start_samba()
    mounted = mount(server)
    mounted.run("ls", mounted.point)
    with contextlib.ExitStack() as stack:
        if gone == "paused":
            stack.enter_context(server.paused())
        else:
            server.kill()
        began = time.monotonic()
        end(mounted)
        assert wait_for(lambda: not mounted.mounted(), PATIENCE_S)
        assert time.monotonic() - began < PATIENCE_S
        assert mounted.process.wait(PATIENCE_S) == 0, mounted.log_text()


def test_a_mount_ends_in_time_though_its_server_is_silent(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount]
) -> None:
    server = start_samba()
    (server.root / "never read").write_bytes(bytes(5_000_000))
    mounted = mount(server, announced=[SAID])
    mounted.run("ls", mounted.point)
    with server.paused(), mounted.start("cat", mounted.point / "never read") as reader:
        assert not wait_for(lambda: reader.poll() is not None, 0.5)
        mounted.process.send_signal(signal.SIGTERM)
        assert mounted.process.wait(2 * PATIENCE_S) == 0, mounted.log_text()  # long before flush_timeout= is over
        assert not mounted.mounted()
        reader.communicate(timeout=10)
        assert reader.returncode != 0
