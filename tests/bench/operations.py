"""The operations whose round trips are counted, with what each is to need: the table of `./dev bench --trips`.

Each is one command on a fresh mount of a share whose folder holds what `prepare` put there and nothing else. `warm`
runs before it, uncounted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
EARLIER_NS: Final = 1_500_000_000_000_000_000  # files were not made just now: what is believed of them depends on it

FILE: Final = "folder/file"


@dataclass(frozen=True, slots=True)
class Targets:
    """Dependent round trips that smbfuse may need, by dialect."""

    smb2: int
    smb1: int

    def of(self, smb1: bool) -> int:
        """Return the one that counts."""
        return self.smb1 if smb1 else self.smb2


@dataclass(frozen=True, slots=True)
class Operation:
    """One command and its targets. `command` and `warm` are shell lines; the mount point is `"$0"`."""

    name: str
    command: str
    targets: Targets
    kernel: str  # what cifs.ko needs, SMB 3.1.1 and SMB1, as measured with Linux 6.12
    prepare: Callable[[Path], None] = lambda root: None
    warm: str = ""
    pause_s: float = 0.0  # between `warm` and `command`
    round_trip_s: float = 0.04  # long beside what programs and machines need: what crosses is no answer then
    timeout_s: float = 120.0


def _file(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def one_file(root: Path) -> None:
    """Put a file of 4 KiB into a folder."""
    _file(root / FILE, 4096)


def file_in_root(root: Path) -> None:
    """Put a file of 4 KiB at the top."""
    _file(root / "file", 4096)


def listed(count: int) -> Callable[[Path], None]:
    """Return what puts a folder of `count` files there."""

    def prepare(root: Path) -> None:
        for number in range(count):
            _file(root / "folder" / f"file {number:05}", 0)

    return prepare


def small_files(root: Path) -> None:
    """Put a folder of 50 files of 4 KiB there."""
    for number in range(50):
        _file(root / "folder" / f"{number:03}", 4096)


def tree(root: Path) -> None:
    """Put 100 folders of 50 files there."""
    for outer in range(100):
        for inner in range(50):
            _file(root / f"{outer:03}" / f"file {inner:02}", 0)


def large_file(root: Path) -> None:
    """Put a file of 64 MiB at the top."""
    _file(root / "large", 64 * MIB)


def empty_folder(root: Path) -> None:
    """Put an empty folder at the top."""
    (root / "folder").mkdir()


def _again(name: str, command: str, targets: Targets, kernel: str, prepare: Callable[[Path], None]) -> Operation:
    return Operation(f"{name}, again", command, targets, kernel, prepare, warm=command)


# What streams is asked for all the time, so that its chain is as long as it takes: 64 MiB must take less than one trip.
STREAMED_S: Final = 0.4

STAT: Final = f'stat "$0/{FILE}"'
CAT: Final = f'cat "$0/{FILE}" >/dev/null'
LS: Final = 'ls -l "$0/folder"'

OPERATIONS: Final = (
    Operation("mount", "", Targets(6, 6), "18 · 12"),
    Operation("stat folder/file", STAT, Targets(2, 2), "2 · 4", one_file),
    Operation("stat folder/file, 4 s later", STAT, Targets(0, 1), "2 · 2", one_file, warm=STAT, pause_s=4.0),
    Operation("cat of 4 KiB", CAT, Targets(3, 3), "4 · 7", one_file),
    _again("cat of 4 KiB", CAT, Targets(0, 1), "0 · 3", one_file),
    Operation("ls -l of 50", LS, Targets(2, 3), "4 · 3", listed(50)),
    _again("ls -l of 50", LS, Targets(0, 1), "3 · 1", listed(50)),
    Operation("ls -l of 2,000", LS, Targets(3, 17), "16 · 17", listed(2000)),
    Operation("find, 100 folders x 50", 'find "$0"', Targets(30, 205), "418 · 199", tree),
    Operation("create, write 1,000 B, close", 'head -c 1000 /dev/zero >"$0/new"', Targets(2, 4), "6 · 9"),
    Operation("append 10 B", 'printf 0123456789 >>"$0/file"', Targets(2, 4), "4 · 7", file_in_root),
    Operation("rename", 'mv -T "$0/file" "$0/new"', Targets(2, 3), "4 · 5", file_in_root),
    Operation("unlink", 'rm -f "$0/file"', Targets(2, 3), "3 · 4", file_in_root),
    Operation("mkdir", 'mkdir "$0/new"', Targets(2, 3), "4 · 5"),
    Operation("rmdir", 'rmdir "$0/folder"', Targets(2, 3), "3 · 4", empty_folder),
    Operation("utimes", 'touch -c -d @1000000000 "$0/file"', Targets(2, 3), "3 · 4", file_in_root),
    Operation(
        "truncate",
        '/usr/bin/python3 -c "import os, sys; os.truncate(sys.argv[1] + \'/file\', 100)" "$0"',
        Targets(2, 4),
        "4 · 5",
        file_in_root,
    ),
    Operation("cat of 50 files", 'cat "$0"/folder/* >/dev/null', Targets(15, 110), "156 · –", small_files),
    Operation("cp -r of 50 files onto it", 'cp -r "$1" "$0/copy"', Targets(110, 220), "331 · –"),
    Operation("rm -r of 50 files", 'rm -r "$0/folder"', Targets(55, 110), "151 · 150", small_files),
    Operation(
        "read 64 MiB",
        'dd if="$0/large" of=/dev/null bs=1M',
        Targets(8, 40),
        "10 · 283",
        large_file,
        round_trip_s=STREAMED_S,
    ),
    Operation(
        "write 64 MiB",
        'dd if=/dev/zero of="$0/large" bs=1M count=64',
        Targets(8, 40),
        "13 · 146",
        round_trip_s=STREAMED_S,
    ),
)
