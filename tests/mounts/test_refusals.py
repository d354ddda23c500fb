"""What a server refuses to a writer: the right errno, no byte lost without a report, and the mount goes on."""

import contextlib
import errno
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from smbfuse.status import NtStatus
from tests.support.caller import Caller, caller_on
from tests.support.folders import public_folder
from tests.support.mounts import Mount, Options
from tests.support.quota import samba_with_quota
from tests.support.samba import SambaServer, wait_for
from tests.support.stranger import READ_DATA, SHARE_NOTHING, WRITE_DATA, stranger_on
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

DIALECTS: Final[dict[str, Options]] = {
    "1.0": {"vers": "1.0"},
    "1.0 nounix": {"vers": "1.0", "nounix": True},
    "2.0": {"vers": "2.0"},
    "3.1.1": {"vers": "3.1.1"},
}
MIB: Final = 1 << 20


@pytest.fixture(params=list(DIALECTS))
def options(request: pytest.FixtureRequest) -> Options:
    return DIALECTS[request.param]


def errno_of(caller: Caller, expression: str) -> int:
    """Do an expression over `point` there and return the errno that it ends with, 0 if it is done."""
    try:
        caller.do(expression)
    except OSError as error:
        return error.errno or -1
    return 0


# -- no room


@pytest.fixture
def small_disk(user: User) -> Iterator[Path]:
    """Provide a disk of 4 MiB."""
    with public_folder("smbfuse-disk-") as folder:
        point = folder / "small disk"
        point.mkdir()
        owner = f"uid={user.uid},gid={user.gid},mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=4m,{owner}", "tmpfs", point], check=True, timeout=60)
        yield point
        subprocess.run(["umount", "--lazy", point], check=True, timeout=60)


# Writes until it is refused, then asks for what it may have missed: what the system calls said, in order.
FILL: Final = """
import errno, os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o644)
said, written = [], 0
for number in range(32):
    try:
        written += os.write(fd, bytes([number]) * 262144)
    except OSError as error:
        said.append("write " + errno.errorcode[error.errno])
        break
for call in ("fsync", "fsync", "close"):
    try:
        getattr(os, call)(fd)
    except OSError as error:
        said.append(call + " " + errno.errorcode[error.errno])
print(" ".join(said))
"""


@pytest.fixture
def on_small_disk(
    small_disk: Path, start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], options: Options
) -> Mount:
    """Provide a mount of the small disk, whose log may say what is not on it."""
    server = start_samba(shares={"small": small_disk})
    login = {"port": server.port, "credentials": str(server.credentials())}
    return mount("//127.0.0.1/small", {**options, **login}, announced=["DISK_FULL", "are given up"])


@pytest.mark.root
def test_a_full_disk_is_reported_and_the_mount_goes_on(small_disk: Path, on_small_disk: Mount) -> None:
    mounted = on_small_disk
    said = mounted.python(FILL, mounted.point / "large").split()
    # Each call that tries again says so again: until the file is closed there may be room again.
    assert set(said[1::2]) == {"ENOSPC"}
    assert "file='large'" in mounted.log_text()
    mounted.run("rm", mounted.point / "large")
    # The room comes back when the server has closed the file, which nobody waits for.
    # A shell does not look at what close(2) says; dd looks at what fsync(2) says.
    script = 'until printf "there is room again" | dd of="$0" conv=fsync status=none; do sleep 0.1; done'
    mounted.run("sh", "-c", script, mounted.point / "small")
    assert (small_disk / "small").read_text() == "there is room again"


@pytest.mark.root
def test_a_full_disk_takes_small_files_whole_or_says_that_it_does_not(small_disk: Path, on_small_disk: Mount) -> None:
    mounted = on_small_disk
    script = 'for n in $(seq 100 199); do head -c 65536 /dev/zero | tr "\\0" x > "$0/f$n" || echo $n; done 2>/dev/null'
    failed = set(mounted.run("sh", "-c", script, mounted.point).split())
    assert failed
    # The last close tells, and is not waited for by who closes.
    assert wait_for(lambda: not mounted.status()["filesystem"]["unsaved"], 10)
    for number in range(100, 200):
        whole = (small_disk / f"f{number}").exists() and (small_disk / f"f{number}").stat().st_size == 65536
        assert whole or str(number) in failed, f"f{number} was lost without a word"


# -- a quota

QUOTA: Final = MIB
BALLAST: Final = QUOTA * 3 // 4  # bytes of another file that there is no room beside for what is written here
CONTENT: Final = bytes(range(256)) * 2048  # 512 KiB
_CONTENT: Final = "(bytes(range(256)) * 2048)"  # in the words of the process on the mount
QUOTA_WORDS: Final[dict[str, tuple[NtStatus | None, int]]] = {
    "the words of others": (NtStatus.DISK_QUOTA_EXCEEDED, errno.EDQUOT),
    # What Samba says cannot be told from a full disk: "Windows apps need this", say its sources.
    "Samba's own words": (None, errno.ENOSPC),
}


@dataclass
class Quota:
    """A folder with a quota, a mount of it, a process there, and what it is to be told beyond the quota."""

    folder: Path
    mounted: Mount
    caller: Caller
    refusal: int

    def errno_of(self, expression: str) -> int:
        return errno_of(self.caller, expression)

    def open(self) -> None:
        self.caller.do("kept.__setitem__('w', os.open(point + '/f', os.O_CREAT | os.O_WRONLY, 0o644))")

    def close(self) -> int:
        return self.errno_of("os.close(kept.pop('w'))")

    def log_says(self, of_them: str) -> list[tuple[int, int]]:
        """Return of which bytes of the file the log says this: offset and length."""
        said = re.findall(rf"file='f' (\d+) bytes at offset (\d+) {of_them}", self.mounted.log_text())
        return [(int(offset), int(length)) for length, offset in said]

    def log_names_the_rest(self, of_them: str) -> bool:
        """Tell whether the log says this of each byte of CONTENT that is not on the server, and of none twice."""
        held = bytearray((self.folder / "f").read_bytes().ljust(len(CONTENT), b"\0"))
        named = set[int]()
        for offset, length in self.log_says(of_them):
            assert named.isdisjoint(range(offset, offset + length))
            named.update(range(offset, offset + length))
            held[offset : offset + length] = CONTENT[offset : offset + length]
        return held == CONTENT


@pytest.fixture(params=["1.0 nounix", "3.1.1"])
def on_quota(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    start_samba: Callable[..., SambaServer],
    mount: Callable[..., Mount],
    user: User,
) -> Iterator[Callable[..., Quota]]:
    """Provide `on_quota(words, option=…)`: a share whose server allows its user 1 MiB, most of it used, and a mount."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(public_folder("smbfuse-quota-"))

        def start(words: str, **options: str | int | bool) -> Quota:
            status, refusal = QUOTA_WORDS[words]
            place = folder / "quota"
            server = start_samba(
                shares={"quota": place}, programs=samba_with_quota(folder / "quota.so", place, QUOTA, status)
            )
            (place / "ballast").write_bytes(bytes(BALLAST))
            for path in (place, place / "ballast"):
                user.owns(path)
            login = {"port": server.port, "credentials": str(server.credentials())}
            mounted = mount(
                "//127.0.0.1/quota",
                {**DIALECTS[request.param], **login, **options},
                announced=["are not on the server", "are given up"],
            )
            return Quota(place, mounted, stack.enter_context(caller_on(mounted)), refusal)

        yield start


@pytest.mark.parametrize("words", list(QUOTA_WORDS))
def test_what_waits_beyond_a_quota_is_told_by_fsync_and_saved_once_there_is_room(
    on_quota: Callable[..., Quota], words: str
) -> None:
    quota = on_quota(words)
    quota.open()
    assert quota.caller.do(f"os.pwrite(kept['w'], {_CONTENT}, 0)") == len(CONTENT)  # nobody else has it open: it waits
    for _ in range(2):
        assert quota.errno_of("os.fsync(kept['w'])") == quota.refusal
    assert quota.errno_of("os.pwrite(kept['w'], bytes(10), 2_000_000)") == quota.refusal
    assert quota.caller.do("len(open(point + '/ballast', 'rb').read())") == BALLAST  # the mount goes on
    assert quota.log_names_the_rest("are not on the server")  # once, however often it was tried
    quota.caller.do("os.unlink(point + '/ballast')")
    assert quota.errno_of("os.fsync(kept['w'])") == 0
    assert (quota.folder / "f").read_bytes() == CONTENT
    assert quota.close() == 0
    assert quota.log_says("are given up") == []


@pytest.mark.parametrize("words", list(QUOTA_WORDS))
def test_what_waits_beyond_a_quota_is_told_by_close_and_named(on_quota: Callable[..., Quota], words: str) -> None:
    quota = on_quota(words)
    quota.open()
    assert quota.caller.do(f"os.pwrite(kept['w'], {_CONTENT}, 0)") == len(CONTENT)
    assert quota.close() == quota.refusal
    # The kernel does not let a close wait until the file is given up.
    assert wait_for(lambda: quota.log_names_the_rest("are given up"), 10)
    quota.caller.do("os.unlink(point + '/ballast')")
    quota.open()
    assert quota.caller.do(f"os.pwrite(kept['w'], {_CONTENT}, 0)") == len(CONTENT)
    assert quota.close() == 0
    assert (quota.folder / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("words", list(QUOTA_WORDS))
def test_what_is_written_through_beyond_a_quota_is_told_by_write(on_quota: Callable[..., Quota], words: str) -> None:
    quota = on_quota(words, nolease=True)
    quota.open()
    taken = 0
    while not quota.errno_of(f"kept.__setitem__('n', os.pwrite(kept['w'], {_CONTENT}[{taken}:][:65000], {taken}))"):
        taken += int(quota.caller.do("kept['n']"))
    assert quota.errno_of(f"os.pwrite(kept['w'], b'x', {taken})") == quota.refusal
    assert taken == QUOTA - BALLAST
    assert (quota.folder / "f").read_bytes() == CONTENT[:taken]
    assert quota.caller.do("sorted(os.listdir(point))") == ["ballast", "f"]  # the mount goes on
    quota.caller.do("os.unlink(point + '/ballast')")
    assert quota.caller.do(f"os.pwrite(kept['w'], {_CONTENT}[{taken}:], {taken})") == len(CONTENT) - taken
    # What was refused was told, and nobody was told that it had been taken: it is no loss.
    assert quota.errno_of("os.fsync(kept['w'])") == quota.close() == 0
    assert (quota.folder / "f").read_bytes() == CONTENT
    assert "not on the server" not in quota.mounted.log_text()


# -- no leave


@pytest.mark.parametrize(
    "expression",
    [
        "os.open(point + '/new', os.O_CREAT | os.O_WRONLY)",
        "os.open(point + '/f', os.O_WRONLY)",
        "os.open(point + '/f', os.O_RDWR | os.O_TRUNC)",
        "os.truncate(point + '/f', 0)",
        "os.mkdir(point + '/new')",
        "os.unlink(point + '/f')",
        "os.rmdir(point + '/d')",
        "os.rename(point + '/f', point + '/g')",
        "os.link(point + '/f', point + '/g')",
        "os.utime(point + '/f', (1, 1))",
    ],
)
def test_a_read_only_share_refuses_every_change(read_only: tuple[Caller, Path], expression: str) -> None:
    caller, folder = read_only
    assert errno_of(caller, expression) in (errno.EROFS, errno.EACCES)
    assert sorted(path.name for path in folder.iterdir()) == ["d", "f"]
    assert caller.do("open(point + '/f').read()") == "content"


@pytest.fixture(scope="module")
def read_only_server(user: User) -> Iterator[SambaServer]:
    from tests.support.samba import samba_server

    with samba_server(share_options={"read only": "yes"}) as server:
        (server.root / "f").write_text("content")
        (server.root / "d").mkdir()
        for path in (server.root, *server.root.iterdir()):
            user.owns(path)
        yield server


@pytest.fixture(params=["1.0 nounix", "3.1.1"])
def read_only(
    request: pytest.FixtureRequest, read_only_server: SambaServer, mount: Callable[..., Mount]
) -> Iterator[tuple[Caller, Path]]:
    """Provide a process on a mount of a share that the server lets nobody change."""
    with caller_on(mount(read_only_server, DIALECTS[request.param])) as caller:
        yield caller, read_only_server.root


@pytest.fixture
def place(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], user: User, options: Options
) -> Iterator[Caller]:
    """Provide a process on a mount where a file `f` is."""
    user.owns(share_folder)
    (share_folder / "f").write_text("0123456789")
    user.owns(share_folder / "f")
    with caller_on(mount(samba, {**options, "actimeo": 1}, subfolder=f"/{share_folder.name}")) as caller:
        yield caller


def test_a_file_that_another_client_shares_with_nobody_is_busy(
    samba: SambaServer, share_folder: Path, place: Caller
) -> None:
    path = f"{share_folder.name}/f"
    with stranger_on(samba) as stranger:
        handle = stranger.open(path, access=READ_DATA | WRITE_DATA, share=SHARE_NOTHING)
        for expression in (
            "os.open(point + '/f', os.O_RDONLY)",
            "os.open(point + '/f', os.O_WRONLY | os.O_TRUNC)",
            "os.unlink(point + '/f')",
        ):
            assert errno_of(place, expression) == errno.EBUSY, expression
        assert place.stat("f")["st_size"] == 10
        assert place.do("os.listdir(point)") == ["f"]
        stranger.close(handle)
        assert place.do("open(point + '/f').read()") == "0123456789"
    assert (share_folder / "f").read_text() == "0123456789"


def test_a_range_that_another_client_has_locked_is_refused(
    samba: SambaServer, share_folder: Path, place: Caller
) -> None:
    (share_folder / "f").write_bytes(b"x" * MIB)
    with stranger_on(samba) as stranger:
        handle = stranger.open(f"{share_folder.name}/f", access=READ_DATA | WRITE_DATA)
        stranger.lock(handle, 0, 100_000)
        place.do("kept.__setitem__('w', os.open(point + '/f', os.O_RDWR))")
        assert errno_of(place, "os.pread(kept['w'], 10, 50)") == errno.EACCES
        assert errno_of(place, "(os.pwrite(kept['w'], b'abc', 50), os.fsync(kept['w']))") == errno.EACCES
        assert place.do(f"os.pwrite(kept['w'], b'abc', {MIB // 2})") == 3
        assert place.do(f"os.pread(kept['w'], 3, {MIB // 2}).decode()") == "abc"
        stranger.close(handle)
        assert place.do("os.pwrite(kept['w'], b'abc', 50)") == 3
        place.do("os.fsync(kept['w'])")
    assert (share_folder / "f").read_bytes()[50:53] == b"abc"


# -- leave withdrawn


def test_a_file_that_becomes_forbidden_stays_open_for_who_has_it(share_folder: Path, place: Caller) -> None:
    place.do("kept.__setitem__('w', os.open(point + '/f', os.O_RDWR))")
    (share_folder / "f").chmod(0)
    place.do("os.pwrite(kept['w'], b'abc', 0)")
    place.do("os.fsync(kept['w'])")
    assert (share_folder / "f").read_text() == "abc3456789"
    place.do("os.close(kept.pop('w'))")


@pytest.mark.timeout(180)
def test_data_that_may_no_longer_be_written_is_reported(
    start_samba: Callable[..., SambaServer],
    mount: Callable[..., Mount],
    options: Options,
    user: User,
) -> None:
    """The server comes back with the share read-only: what waits here cannot be saved, and somebody must hear it."""
    server = start_samba()
    user.owns(server.root)
    mounted = mount(server, options, announced=["'f'"])
    with caller_on(mounted) as caller:
        caller.do("kept.__setitem__('w', os.open(point + '/f', os.O_CREAT | os.O_RDWR))")
        caller.do("os.pwrite(kept['w'], b'saved', 0)")
        caller.do("os.fsync(kept['w'])")
        server.pause()
        caller.do("os.pwrite(kept['w'], b'not to be saved', 0)")  # waits here: nobody else has the file open
        server.kill()
        server.share_options["read only"] = "yes"
        server.start()
        assert errno_of(caller, "os.fsync(kept['w'])") in (errno.EACCES, errno.EROFS)
        errno_of(caller, "os.close(kept.pop('w'))")
        # What is given up with the last close is not shown any longer.
        assert wait_for(lambda: caller.do("open(point + '/f').read()") == "saved", 5, pause_s=0.2)
    assert "'f'" in mounted.log_text()
    assert (server.root / "f").read_text() == "saved"
