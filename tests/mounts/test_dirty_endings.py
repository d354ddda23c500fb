"""However a mount ends while the server lacks what programs wrote: it is there when smbfuse has ended, or it is said.

The server is held up at a relay while the programs write, so that nothing can have been saved before the mount ends.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from smbfuse.cli.exits import Exit
from tests.relay import Relay
from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer, wait_for
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

PATIENCE_S: Final = 30.0
AT_ONCE_S: Final = 15.0  # for what takes 2 s and the farewell's 6 by its own clock
SILENCE_S: Final = 0.7  # more than it takes to end for who waits for nothing
LAST_CALLS_S: Final = 5.0  # the same, behind the time that programs inside are given
FLUSH_S: Final = 20  # flush_timeout=: the writers here never close what they have open
IN_USE: Final = "unmounted while in use"
NAME: Final = "geschrieben [ß] 🦑"
BEFORE: Final = bytes(range(256)) * 800
AFTER: Final = BEFORE[::-1]  # several requests of SMB1, part of one of SMB 3
DIALECTS: Final = [pytest.param({"vers": "1.0"}, id="1.0"), pytest.param({"vers": "3.1.1"}, id="3.1.1")]

# Told a word on a line, it does what the word says and answers with it. What it writes, through the descriptor or
# through a mapping that is in memory already, is what was there from its end to its beginning.
WRITER: Final = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(fd).st_size
pages = mmap.mmap(fd, size)
data = pages[::-1]
def write():
    assert os.pwrite(fd, data, 0) == size
def touch():
    os.closerange(3, fd + 10)  # the mapping's own descriptor too: it lives without
    pages[:] = data
def close():
    pages.close()
    os.close(fd)
print("ready", flush=True)
for line in sys.stdin:
    globals()[line.strip()]()
    print(line, end="", flush=True)
"""


class Writer:
    """A program that has a file of a mount open."""

    def __init__(self, mount: Mount, process: subprocess.Popen[bytes], saved: Path) -> None:
        self.mount = mount
        self.process = process
        self.saved = saved  # the file, on the server's disk
        self.answers("ready")

    def tell(self, word: str) -> None:
        """Tell it to do something; waits for nothing."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def answers(self, word: str) -> None:
        """Wait until it has done what it was told."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == word.encode() + b"\n"

    def writes(self) -> None:
        """Have it write everything anew, and check that the server has nothing of that."""
        self.tell("write")
        self.answers("write")
        assert self.saved.read_bytes() == BEFORE

    def unsaved(self) -> int:
        """Return how many bytes smbfuse says it has and the server has not."""
        return int(self.mount.status()["filesystem"]["unsaved"])

    def everything_is_unsaved(self) -> bool:
        """Wait until smbfuse says so."""
        return wait_for(lambda: self.unsaved() == len(AFTER), PATIENCE_S)

    def sees_the_end(self) -> bool:
        """Wait until smbfuse says that it is ending."""
        return wait_for(lambda: bool(self.mount.status()["ending"]), PATIENCE_S)

    def everything_was_saved(self) -> None:
        """Check that smbfuse ends with 0, and that the server has everything then."""
        assert self.mount.process.wait(PATIENCE_S) == 0, self.mount.log_text()
        assert not self.mount.mounted()
        assert self.saved.read_bytes() == AFTER


def new_file(path: Path, user: User) -> Path:
    """Make a file on the server's disk that the writer may write."""
    path.write_bytes(BEFORE)
    return user.owns(path)


@contextlib.contextmanager
def writer_on(mount: Mount, saved: Path) -> Iterator[Writer]:
    """Run a writer of the file `saved` at the top of a mount for a while."""
    with mount.start("/usr/bin/python3", "-c", WRITER, mount.point / saved.name) as process:
        try:
            yield Writer(mount, process, saved)
        finally:
            process.kill()


class Held(NamedTuple):
    """A writer on a mount whose server hears nothing."""

    writer: Writer
    relay: Relay

    @property
    def mount(self) -> Mount:
        """The mount."""
        return self.writer.mount

    def ends_saved(self) -> None:
        """Check that smbfuse lives while the server hears nothing, and saves everything when it does."""
        assert not wait_for(lambda: self.mount.process.poll() is not None, SILENCE_S)
        assert self.writer.saved.read_bytes() == BEFORE
        self.relay.heal()
        self.writer.everything_was_saved()


@pytest.fixture
def held(
    request: pytest.FixtureRequest,
    samba: SambaServer,
    share_folder: Path,
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
) -> Iterator[Held]:
    """Provide such a mount with the options that a test asks for; the server hears nothing from now on."""
    relay = relay_to(samba.port)
    saved = new_file(share_folder / NAME, user)
    options: Options = {**request.param, "port": relay.port}
    with writer_on(mount(samba, options, subfolder=f"/{share_folder.name}"), saved) as writer:
        relay.hold()
        try:
            yield Held(writer, relay)
        finally:
            relay.heal()  # or the kernel keeps the writer that is to be killed


@pytest.mark.parametrize("held", DIALECTS, indirect=True)
def test_a_close_has_saved_before_the_mount_can_be_undone(held: Held) -> None:
    held.writer.writes()
    held.writer.tell("close")
    assert held.writer.everything_is_unsaved()
    code, _, complaint = held.mount.run_all("fusermount3", "-u", held.mount.point)
    assert code != 0
    assert "busy" in complaint.lower()
    held.relay.heal()
    held.writer.answers("close")
    held.mount.run("fusermount3", "-u", held.mount.point)
    held.writer.everything_was_saved()


# Not with `loose`: there the kernel tells a file's times before it lets a killed program go, which waits like a close.
@pytest.mark.parametrize("held", DIALECTS, indirect=True)
def test_what_a_killed_program_had_mapped_is_saved_though_nobody_waits_for_it(held: Held) -> None:
    held.writer.tell("touch")
    held.writer.answers("touch")
    held.writer.process.kill()
    held.writer.process.wait(PATIENCE_S)
    assert held.writer.everything_is_unsaved()
    held.mount.run("fusermount3", "-u", held.mount.point)
    assert not held.mount.mounted()
    held.ends_saved()


@pytest.mark.parametrize("held", DIALECTS, indirect=True)
def test_a_lazily_undone_mount_saves_what_is_written_until_the_last_close(held: Held) -> None:
    held.mount.run("fusermount3", "-u", "-z", held.mount.point)
    assert not held.mount.mounted()
    held.writer.writes()
    held.writer.tell("close")
    assert held.writer.everything_is_unsaved()
    held.ends_saved()


def test_sigterm_saves_what_is_open(
    samba: SambaServer, share_folder: Path, relay_to: Callable[..., Relay], mount: Callable[..., Mount], user: User
) -> None:
    relay = relay_to(samba.port)
    with contextlib.ExitStack() as stack:
        writers = []
        for name, options in {"1": {"vers": "1.0"}, "3": {"vers": "3.1.1"}, "loose": {"cache": "loose"}}.items():
            saved = new_file(share_folder / f"{name} {NAME}", user)
            settings: Options = {**options, "port": relay.port, "timeo": 100, "flush_timeout": 100}
            mounted = mount(samba, settings, subfolder=f"/{share_folder.name}", announced=[IN_USE])
            writers.append(stack.enter_context(writer_on(mounted, saved)))
        relay.hold()
        stack.callback(relay.heal)
        for writer in writers:
            writer.writes()
            writer.mount.process.send_signal(signal.SIGTERM)
        for writer in writers:
            assert writer.sees_the_end()
            assert writer.everything_is_unsaved()  # with `loose` the kernel has handed it over now
        assert not wait_for(lambda: any(writer.mount.process.poll() is not None for writer in writers), LAST_CALLS_S)
        relay.heal()
        for writer in writers:
            assert wait_for(lambda saved=writer.saved: saved.read_bytes() == AFTER, PATIENCE_S)  # type: ignore[misc]
            writer.tell("close")
            writer.answers("close")
            writer.everything_was_saved()


def test_sigterm_says_what_a_stopped_server_has_not_taken(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], user: User
) -> None:
    server = start_samba()
    with contextlib.ExitStack() as stack:
        writers = []
        for vers in ("1.0", "3.1.1"):  # both at once: it takes its time
            saved = new_file(server.root / f"{vers} {NAME}", user)
            options = {"vers": vers, "timeo": 2, "flush_timeout": FLUSH_S}
            mounted = mount(server, options, announced=["not on the server", IN_USE])
            writers.append(stack.enter_context(writer_on(mounted, saved)))
        stack.enter_context(server.paused())
        for writer in writers:
            writer.writes()
        for writer in writers:
            assert writer.unsaved() == len(AFTER)
            writer.mount.process.send_signal(signal.SIGTERM)
        for writer in writers:
            said = writer.mount
            assert said.process.wait(3 * PATIENCE_S) == Exit.UNSAVED, said.log_text()
            assert not said.mounted()
            assert f"not on the server: file={writer.saved.name!r} offset=0 length={len(AFTER)}: " in said.log_text()
            last = said.log_text().splitlines()[-1]
            assert last == f"smbfuse: unmounted with {len(AFTER)} bytes of 1 file not on the server; the log names them"


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
def test_a_second_sigterm_waits_for_no_server_and_says_what_is_lost(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], user: User, hard: bool
) -> None:
    server = start_samba()
    saved = new_file(server.root / NAME, user)
    mounted = mount(server, {"hard": hard}, announced=["not on the server", "ended at once"])
    with writer_on(mounted, saved) as writer, server.paused():
        writer.writes()
        mounted.process.send_signal(signal.SIGTERM)
        assert writer.sees_the_end()
        began = time.monotonic()
        mounted.process.send_signal(signal.SIGTERM)
        assert mounted.process.wait(PATIENCE_S) == Exit.ABORTED, mounted.log_text()
        assert time.monotonic() - began < AT_ONCE_S
    assert not mounted.mounted()
    lines = mounted.log_text().splitlines()
    assert any(f"not on the server: file={NAME!r} offset=0 length={len(AFTER)}: " in line for line in lines)
    words = f"{len(AFTER)} bytes of 1 file not on the server; the log names them"
    assert lines[-1] == f"smbfuse: ended at once, by a second signal, with {words}"


def test_a_hard_mount_whose_server_was_killed_ends_when_flush_timeout_is_over(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], user: User
) -> None:
    server = start_samba()
    saved = new_file(server.root / NAME, user)
    mounted = mount(server, {"hard": True, "flush_timeout": 4}, announced=["not on the server", IN_USE])
    with writer_on(mounted, saved) as writer:
        server.pause()  # with the connection the grant would go by which writes may wait
        writer.writes()
        server.kill()
        mounted.process.send_signal(signal.SIGTERM)
        assert mounted.process.wait(4 + PATIENCE_S) == Exit.UNSAVED, mounted.log_text()
        assert f"offset=0 length={len(AFTER)}: " in mounted.log_text()
        writer.tell("close")  # an error, at once
        assert writer.process.wait(PATIENCE_S) != 0


def test_a_server_that_comes_back_before_flush_timeout_is_over_has_everything(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], user: User
) -> None:
    server = start_samba()
    saved = new_file(server.root / NAME, user)
    options = {"timeo": 2, "flush_timeout": 40}
    mounted = mount(server, options, announced=["not on the server", IN_USE])
    with writer_on(mounted, saved) as writer:
        server.pause()
        writer.writes()
        server.kill()
        mounted.process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: IN_USE in mounted.log_text(), PATIENCE_S), mounted.log_text()
        server.start()
        assert wait_for(lambda: saved.read_bytes() == AFTER, PATIENCE_S), mounted.log_text()
        writer.tell("close")
        writer.answers("close")
        writer.everything_was_saved()


def test_umount_says_what_a_stopped_server_has_not_taken(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], user: User
) -> None:
    server = start_samba()
    saved = new_file(server.root / NAME, user)
    # Long enough that they are not given up before.
    mounted = mount(server, {"timeo": 12}, announced=["not on the server", "given up"])
    with writer_on(mounted, saved) as writer, server.paused():
        writer.tell("touch")
        writer.answers("touch")
        writer.process.kill()
        writer.process.wait(PATIENCE_S)
        assert writer.everything_is_unsaved()
        began = time.monotonic()
        mounted.run("fusermount3", "-u", mounted.point)
        assert time.monotonic() - began < AT_ONCE_S
        assert mounted.process.wait(2 * PATIENCE_S) == Exit.UNSAVED, mounted.log_text()
    assert f"not on the server: file={NAME!r} offset=0 length={len(AFTER)}: " in mounted.log_text()
