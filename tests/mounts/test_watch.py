"""`smbfuse watch` of what is mounted: the mount tells, by its own names, over the connection that it has."""

import contextlib
import json
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import pytest

from smbfuse.cli.exits import Exit
from tests.relay import Relay
from tests.support.mounts import Mount, target
from tests.support.samba import SambaServer, wait_for
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

SOON_S: Final = 30.0  # a limit, never a pause


class Watching:
    """The command under way as the mounting user, and what it prints."""

    def __init__(self, mount: Mount, *arguments: str | Path) -> None:
        self.process = mount.start(mount.installation.program, "watch", *arguments)
        self.lines: queue.Queue[str] = queue.Queue()
        self.complaints: queue.Queue[str] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=each, daemon=True)
            for each in ((self.process.stdout, self.lines), (self.process.stderr, self.complaints))
            if each[0] is not None
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[bytes], into: "queue.Queue[str]") -> None:
        for line in stream:
            into.put(line.decode().rstrip("\n"))

    def begins(self) -> None:
        assert self.complaints.get(timeout=SOON_S).startswith("smbfuse: watching ")

    def until(self, line: str) -> None:
        while self.lines.get(timeout=SOON_S) != line:
            pass

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(SOON_S)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watching]]:
    """Provide `watch(mount, *arguments)`."""
    started: list[Watching] = []

    def begin(mount: Mount, *arguments: str | Path) -> Watching:
        started.append(Watching(mount, *arguments))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait(SOON_S)
        for reader in one._readers:
            reader.join(SOON_S)
        for pipe in (one.process.stdin, one.process.stdout, one.process.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_a_folder_of_a_mount_tells_by_the_names_that_it_shows(
    samba: SambaServer,
    share_folder: Path,
    mount: Callable[..., Mount],
    user: User,
    watch: Callable[..., Watching],
    vers: str,
) -> None:
    user.owns(share_folder)
    mounted = mount(samba, {"vers": vers, "nounix": True}, subfolder=f"/{share_folder.name}")
    odd = mounted.point / "Größe: 1?" / "unten"
    mounted.run("mkdir", "-p", odd)
    told = watch(mounted, odd.parent)
    told.begins()
    (below,) = share_folder.glob("Gr*/unten")
    place = below.relative_to(samba.root)
    samba.smbclient(f'mkdir "{place}/neu"')  # by another
    told.until("added     unten/neu")
    mounted.run("mkdir", odd / "a:b")  # and through the mount
    told.until("added     unten/a:b")
    assert told.end() == Exit.OK
    flat = watch(mounted, "--json", "--flat", odd.parent)
    flat.begins()
    samba.smbclient(f'mkdir "{place}/tiefer"; mkdir "{place.parent}/daneben"')
    first = json.loads(flat.lines.get(timeout=SOON_S))
    while first["path"] == "unten":  # it was changed itself
        first = json.loads(flat.lines.get(timeout=SOON_S))
    assert first == {"what": "added", "path": "daneben"}
    assert flat.end() == Exit.OK


def test_the_share_in_a_whole_server_is_the_first_folder(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], user: User, watch: Callable[..., Watching]
) -> None:
    server = start_samba()
    user.owns_new(server.root / "sub")
    _, options = target(server, {})
    mounted = mount("//127.0.0.1", options)
    told = watch(mounted, mounted.point / "share" / "sub")
    told.begins()
    user.owns_new(server.root / "sub" / "neu")
    told.until("added     neu")
    top = watch(mounted, mounted.point)
    assert top.process.wait(SOON_S) != Exit.OK
    assert "which share is to be watched?" in top.complaints.get(timeout=SOON_S)


def test_an_outage_is_told_and_what_was_missed(
    samba: SambaServer,
    share_folder: Path,
    mount: Callable[..., Mount],
    relay_to: Callable[..., Relay],
    watch: Callable[..., Watching],
) -> None:
    relay = relay_to(samba.port)
    mounted = mount(samba, {"port": relay.port, "timeo": 2}, subfolder=f"/{share_folder.name}")
    told = watch(mounted, mounted.point)
    told.begins()
    relay.refuse()
    relay.cut()
    assert "; connecting again" in told.complaints.get(timeout=SOON_S)
    relay.accept()
    told.until("anything  may have changed: too much at once, or the connection was lost")
    assert told.end() == Exit.OK


def test_the_end_of_the_mount_is_the_end(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], watch: Callable[..., Watching]
) -> None:
    mounted = mount(samba, subfolder=f"/{share_folder.name}")
    told = watch(mounted, mounted.point)
    told.begins()
    assert mounted.unmount() == 0
    assert told.process.wait(SOON_S) == Exit.CONNECTION_LOST
    assert told.complaints.get(timeout=SOON_S) == "smbfuse: the mount has ended"


def test_who_has_stopped_listening_is_forgotten(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], watch: Callable[..., Watching]
) -> None:
    mounted = mount(samba, subfolder=f"/{share_folder.name}")
    mounted.run("ls", mounted.point)

    def descriptors() -> int:
        return len(list(Path(f"/proc/{mounted.process.pid}/fd").iterdir()))

    before = descriptors()
    for number in range(20):  # more than may listen at once
        told = watch(mounted, mounted.point)
        told.begins()
        if number % 2:
            told.process.kill()
            told.process.wait(SOON_S)
        else:
            assert told.end() == Exit.OK
    assert wait_for(lambda: descriptors() <= before, SOON_S)


def test_a_mistake_is_one_sentence(samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]) -> None:
    mounted = mount(samba, subfolder=f"/{share_folder.name}")
    (share_folder / "file").touch()
    program = mounted.installation.program
    for arguments, code, words in (
        ([mounted.point / "missing"], None, "has no folder 'missing'"),
        ([mounted.point / "file"], None, "has no folder 'file'"),
        ([mounted.point, "-o", "ro"], Exit.USAGE, "leave out -o"),
        ([mounted.point.parent], Exit.USAGE, "is no share"),
    ):
        ended, _, said = mounted.run_all(program, "watch", *arguments)
        assert ended not in (Exit.OK, Exit.INTERNAL)
        assert code is None or ended == code
        assert words in said
        assert len(said.splitlines()) == 1
