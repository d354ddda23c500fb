"""Every operation of a mounted filesystem that a program can call, as a small program, and how to see what it did.

Each runs in a folder of its own, which `furnish` fills on the server's disk. What has not been touched in `before` is
not known to anybody on this side: the operation must ask the server. Opening is awaited before the fault, so that an
operation on an open file is about that file's handle.

Not here, because the kernel has no such request of a FUSE filesystem by pyfuse3: locks (it keeps them itself),
fallocate (EOPNOTSUPP), lseek for holes and copy_file_range (it does both with what is below), ioctl, poll.
"""

import enum
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.users import User

SMALL: Final = "the content of a small file\n" * 40
LARGE: Final = bytes(range(256)) * 640  # 160 KiB: opening it brings only the beginning; see `content` in program.py
WRITTEN: Final = "what the program wrote, " * 400
AT: Final = 100_000
MTIME_NS: Final = 1_234_567_890_123_456_700  # SMB counts in steps of 100 ns
VALUES: Final[dict[str, Any]] = {"SMALL": SMALL, "WRITTEN": WRITTEN, "AT": AT, "MTIME_NS": MTIME_NS}


class Manner(enum.Enum):
    """What an operation needs of the server, and whether it may be asked twice."""

    LOCAL = "waits for no answer"
    KNOWN = "looks at what is known here"
    LOOK = "looks at what is not"
    REPEATED = "changes what may be changed twice"
    ONCE = "changes what may be changed once"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `before` and `act` are Python, see `program.py`; only `act` is under the fault, and measured.

    `holds` is told the operation's folder on the server's disk, and whether the operation's effect is there.
    """

    name: str
    manner: Manner
    act: str
    before: str = ""
    holds: Callable[[Path], bool] | None = None  # None: it changes nothing
    # How often the kernel asks, one time after the other, when there is no answer: a name that it knows is looked up
    # again as if it were new; a mapped page is asked for with its neighbours, then alone, then when it is touched.
    asks: int = 1

    @property
    def has_file(self) -> bool:
        """Whether it is about a file that is open when the fault comes, and needs the server for it."""
        return self.manner is not Manner.LOCAL and "fd =" in self.before and "'full'" not in self.before


def furnish(folder: Path, user: User) -> None:
    """Make the folder of one operation on the server's disk."""
    user.owns_new(folder)
    for name, content in {"file": SMALL.encode(), "other": b"another file", "large": LARGE}.items():
        (folder / name).write_bytes(content)
        user.owns(folder / name)
    (folder / "link").write_bytes(_symlink("file"))
    user.owns(folder / "link")
    user.owns_new(folder / "empty")
    full = user.owns_new(folder / "full")
    for name in ("a", "b", "c"):
        (full / name).write_text(name)
        user.owns(full / name)


def _symlink(target: str) -> bytes:
    """Return the file that stands for a symlink with `mfsymlinks`."""
    digest = hashlib.md5(target.encode(), usedforsecurity=False).hexdigest()
    return f"XSym\n{len(target):04}\n{digest}\n{target}\n".encode().ljust(1067)


def _begins(name: str, text: str) -> Callable[[Path], bool]:
    return lambda folder: (folder / name).is_file() and (folder / name).read_text().startswith(text)


def _size(name: str, size: int) -> Callable[[Path], bool]:
    return lambda folder: (folder / name).is_file() and (folder / name).stat().st_size == size


def _moved(source: str, target: str) -> Callable[[Path], bool]:
    return lambda folder: not (folder / source).exists() and _begins(target, SMALL)(folder)


def _is_symlink(folder: Path) -> bool:
    made = folder / "made"
    if made.is_symlink():  # the server's own, by the extensions that SMB1 has for Unix
        return os.readlink(made) == "file"
    return made.is_file() and made.read_bytes() == _symlink("file")


def _read_only(folder: Path) -> bool:
    if not (folder / "file").stat().st_mode & 0o222:
        return True  # by SMB1's extensions
    # Samba keeps the attributes of MS-DOS ([MS-FSCC] 2.6) in an attribute of the file; READONLY is 1.
    return "user.DOSATTRIB" in os.listxattr(folder / "file") and bool(_attributes(folder / "file") & 1)


def _attributes(file: Path) -> int:
    return int.from_bytes(os.getxattr(file, "user.DOSATTRIB")[12:16], "little")


def _has_attribute(folder: Path) -> bool:
    return "user.made" in os.listxattr(folder / "file")


def _has_time(folder: Path) -> bool:
    return (folder / "file").stat().st_mtime_ns == MTIME_NS


def _made(name: str, kind: Callable[[Path], bool]) -> Callable[[Path], bool]:
    return lambda folder: kind(folder / name)


def _gone(name: str) -> Callable[[Path], bool]:
    return lambda folder: not (folder / name).exists()


_TO_READ: Final = "fd = os.open('large', os.O_RDONLY)"
_TO_WRITE: Final = "fd = os.open('file', os.O_WRONLY)"
_WITH_ATTRIBUTE: Final = "os.setxattr('file', 'user.known', b'value')"

OPERATIONS: Final = (
    # -- what asks nobody, or is answered from memory when there is no answer soon
    Operation("release", Manner.LOCAL, "os.close(fd)", before=_TO_READ),
    Operation("releasedir", Manner.LOCAL, "os.close(fd)", before="fd = os.open('full', os.O_RDONLY)"),
    Operation("fsyncdir", Manner.LOCAL, "os.fsync(fd)", before="fd = os.open('full', os.O_RDONLY)"),
    Operation(
        "lookup (known)", Manner.KNOWN, "assert os.stat('file').st_size == len(SMALL)", before="os.stat('file')", asks=2
    ),
    Operation("getattr", Manner.KNOWN, "assert os.fstat(fd).st_nlink >= 1", before="fd = os.open('full', os.O_RDONLY)"),
    Operation(
        "readdir (known)", Manner.KNOWN, "assert names('full') == ['a', 'b', 'c']", before="names('full')", asks=2
    ),
    Operation("statfs", Manner.LOCAL, "assert os.statvfs('.').f_blocks > 0", before="os.statvfs('.')"),
    # -- looking at what is not known here
    Operation("lookup", Manner.LOOK, "assert os.stat('file').st_size == len(SMALL)"),
    Operation("lookup of nothing", Manner.LOOK, "assert absent('nothing')"),
    Operation("access", Manner.LOOK, "access('file', os.R_OK)"),
    Operation("readlink", Manner.LOOK, "assert os.readlink('link') == 'file'"),
    Operation("opendir", Manner.LOOK, "os.close(os.open('full', os.O_RDONLY | os.O_DIRECTORY))"),
    Operation("readdir", Manner.LOOK, "assert names('full') == ['a', 'b', 'c']"),
    Operation("open to read", Manner.LOOK, "os.close(os.open('file', os.O_RDONLY))"),
    Operation("read", Manner.LOOK, "assert os.pread(fd, 4096, AT) == content(AT, 4096)", before=_TO_READ),
    Operation(
        "mmap read",
        Manner.LOOK,
        "assert pages[AT : AT + 99] == content(AT, 99)",
        before=f"{_TO_READ}; pages = mapped(fd)",
        asks=3,
    ),
    Operation(
        "getxattr", Manner.LOOK, "assert os.getxattr('file', 'user.known') == b'value'", before=_WITH_ATTRIBUTE, asks=2
    ),
    Operation("listxattr", Manner.LOOK, "assert 'user.known' in os.listxattr('file')", before=_WITH_ATTRIBUTE, asks=2),
    # -- changing what may be changed twice
    Operation(
        "create",
        Manner.REPEATED,
        "os.close(os.open('made', os.O_CREAT | os.O_WRONLY))",
        holds=_made("made", Path.is_file),
    ),
    Operation(
        "open (truncating)",
        Manner.REPEATED,
        "os.close(os.open('file', os.O_WRONLY | os.O_TRUNC))",
        holds=_size("file", 0),
    ),
    Operation(
        "write", Manner.REPEATED, "put(fd, WRITTEN); os.close(fd)", before=_TO_WRITE, holds=_begins("file", WRITTEN)
    ),
    Operation(
        "flush", Manner.REPEATED, "put(fd, 'short'); os.close(fd)", before=_TO_WRITE, holds=_begins("file", "short")
    ),
    Operation(
        "fsync", Manner.REPEATED, "put(fd, 'short'); os.fsync(fd)", before=_TO_WRITE, holds=_begins("file", "short")
    ),
    Operation(
        "mmap write",
        Manner.REPEATED,
        "pages[:5] = b'short'; pages.flush()",
        before="fd = os.open('file', os.O_RDWR); pages = mapped(fd, mmap.PROT_READ | mmap.PROT_WRITE); pages[0]",
        holds=_begins("file", "short"),
    ),
    Operation("truncate", Manner.REPEATED, "os.truncate('file', 5)", holds=_size("file", 5)),
    Operation("ftruncate", Manner.REPEATED, "os.ftruncate(fd, 7)", before=_TO_WRITE, holds=_size("file", 7)),
    Operation("setattr (times)", Manner.REPEATED, "os.utime('file', ns=(MTIME_NS, MTIME_NS))", holds=_has_time),
    Operation("setattr (mode)", Manner.REPEATED, "os.chmod('file', 0o444)", holds=_read_only),
    Operation("setxattr", Manner.REPEATED, "os.setxattr('file', 'user.made', b'value')", holds=_has_attribute),
    Operation(
        "removexattr",
        Manner.REPEATED,
        "os.removexattr('file', 'user.made')",
        before="os.setxattr('file', 'user.made', b'value')",
        holds=lambda folder: not _has_attribute(folder),
        asks=2,
    ),
    # -- changing what may be changed once
    Operation(
        "create (exclusive)",
        Manner.ONCE,
        "os.close(os.open('made', os.O_CREAT | os.O_EXCL | os.O_WRONLY))",
        holds=_made("made", Path.is_file),
    ),
    Operation("mknod", Manner.ONCE, "os.mknod('made', 0o100644)", holds=_made("made", Path.is_file)),
    Operation("mkdir", Manner.ONCE, "os.mkdir('made')", holds=_made("made", Path.is_dir)),
    Operation("rmdir", Manner.ONCE, "os.rmdir('empty')", holds=_gone("empty")),
    Operation("unlink", Manner.ONCE, "os.unlink('file')", holds=_gone("file")),
    Operation("rename", Manner.ONCE, "os.rename('file', 'moved')", holds=_moved("file", "moved")),
    Operation("rename (replacing)", Manner.ONCE, "os.rename('file', 'other')", holds=_moved("file", "other")),
    Operation("link", Manner.ONCE, "os.link('file', 'made')", holds=_made("made", Path.is_file)),
    Operation("symlink", Manner.ONCE, "os.symlink('file', 'made')", holds=_is_symlink),
)
