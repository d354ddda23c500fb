"""All that changes a share, as a script, and what the share may hold after it.

An operation is a list that JSON can carry: its name, then its arguments. `PROGRAM`, given such lists, does them and
says what each returned; an error is [errno], an operation on a file that could not be opened [].

`Told` follows what the program was told. What succeeded is so. What failed because there was no connection is so or
not: from then on there are two shares that the server may have, and each later answer may rule out one of them.
"""

import copy
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Operation = Sequence[Any]

MFSYMLINK: Final = b"XSym\n"  # how a symlink begins that is kept as a file

NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL
TIME_NS: Final = 1_234_567_890_123_456_700  # SMB has steps of 100 ns
LATER_NS: Final = 1_334_567_890_000_000_000

# What a caller is told when the connection was away for too long: done, or not done.
UNKNOWN: Final = frozenset({errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EIO, errno.ESTALE})

OF_BYTES: Final = frozenset({"write", "append", "truncate", "truncate_path", "sync", "close"})

SCRIPT: Final[Sequence[Operation]] = (
    ("mkdir", "a [ü]"),
    ("open", 0, "f", NEW),
    ("write", 0, 0, 9000, 1),
    ("write", 0, 4000, 9000, 2),
    ("sync", 0),
    ("append", 0, 700, 3),
    ("close", 0),
    ("open", 0, "f", NEW),  # EEXIST: it is no lock for two
    ("mkdir", "a [ü]/b"),
    ("mkdir", "a [ü]/b"),  # EEXIST
    ("rename", "f", "a [ü]/f"),
    ("open", 0, "f", os.O_WRONLY | os.O_CREAT),
    ("write", 0, 100, 300_000, 4),
    ("truncate", 0, 250_001),
    ("write", 0, 249_000, 3000, 5),
    ("rename", "f", "g"),  # while it is open and dirty
    ("append", 0, 70_000, 6),
    ("close", 0),
    ("open", 1, "lock", NEW),
    ("write", 1, 0, 5, 7),
    ("close", 1),
    ("unlink", "lock"),
    ("open", 1, "lock", NEW),
    ("close", 1),
    ("open", 0, "a [ü]/f", os.O_WRONLY | os.O_TRUNC),
    ("write", 0, 0, 5000, 8),
    ("close", 0),
    ("open", 0, "a [ü]/f", os.O_WRONLY | os.O_APPEND),
    ("append", 0, 5000, 9),
    ("append", 0, 5000, 10),
    ("close", 0),
    ("truncate_path", "a [ü]/f", 7000),
    ("truncate_path", "a [ü]/f", 12_000),
    ("link", "a [ü]/f", "linked"),
    ("unlink", "a [ü]/f"),
    ("symlink", "wherever it leads", "points"),
    ("rename", "points", "a [ü]/points"),
    ("mkfifo", "fifo"),
    ("chmod", "g", 0o444),
    ("chmod", "g", 0o644),
    ("chmod", "linked", 0o444),
    ("utime", "g", TIME_NS),
    ("setxattr", "g", "user.note", 11),
    ("open", 4, "replaced", NEW),
    ("write", 4, 0, 40_000, 12),
    ("sync", 4),
    ("open", 3, "new", NEW),
    ("write", 3, 0, 20_000, 13),
    ("utime_fd", 3, LATER_NS),
    ("sync", 3),
    ("rename", "new", "replaced"),  # over a file that is open
    ("close", 4),
    ("close", 3),
    ("open", 2, "held", NEW),
    ("write", 2, 0, 1000, 14),
    ("unlink", "held"),
    ("write", 2, 500, 1000, 15),
    ("close", 2),
    ("rename", "a [ü]", "moved"),
    ("open", 0, "moved/b/deep", NEW | os.O_SYNC),
    ("write", 0, 0, 3000, 16),
    ("write", 0, 3000, 3000, 17),
    ("close", 0),
    ("rmdir", "moved/b"),  # ENOTEMPTY
    ("unlink", "moved/b/deep"),
    ("rmdir", "moved/b"),
    ("mkdir", "last"),
    ("unlink", "missing"),  # ENOENT
    ("rename", "lock", "last/lock"),
)

# Reads a line of JSON for each run: a new folder's name, and the operations. Answers with a line of results.
PROGRAM: Final = """
import hashlib, json, os, sys, time
def content(seed, length):
    return (hashlib.sha256(b"%d" % seed).digest() * (length // 32 + 1))[:length]
def do(slots, name, *a):
    if name == "open":
        slots[a[0]] = os.open(a[1], a[2], 0o644)
    elif name == "close":
        os.close(slots.pop(a[0]))
    elif name == "write":
        return os.pwrite(slots[a[0]], content(a[3], a[2]), a[1])
    elif name == "append":
        os.lseek(slots[a[0]], 0, os.SEEK_END)
        return os.write(slots[a[0]], content(a[2], a[1]))
    elif name == "truncate":
        os.ftruncate(slots[a[0]], a[1])
    elif name == "truncate_path":
        os.truncate(a[0], a[1])
    elif name == "sync":
        os.fsync(slots[a[0]])
    elif name == "utime":
        os.utime(a[0], ns=(a[1], a[1]))
    elif name == "utime_fd":
        os.utime(slots[a[0]], ns=(a[1], a[1]))
    elif name == "setxattr":
        os.setxattr(a[0], a[1], content(a[2], 40))
    elif name == "mkfifo":
        os.mkfifo(a[0], 0o644)
    else:
        getattr(os, name)(*a)
def wait():
    # Until there is a connection again: what is told meanwhile is no news.
    for _ in range(300):
        try:
            os.close(os.open("../probe", os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            return
        except OSError:
            time.sleep(0.1)
os.chdir(sys.argv[1])
for line in sys.stdin:
    folder, operations = json.loads(line)
    while not os.path.isdir(folder):
        try:
            os.mkdir(folder)
        except FileExistsError:
            break
        except OSError:
            wait()
    os.chdir(folder)
    results, slots = [], {}
    for operation in operations:
        try:
            results.append(do(slots, *operation))
        except KeyError:
            results.append([])
        except OSError as error:
            results.append([error.errno])
            if error.errno in (5, 110, 112, 116):
                wait()
    os.chdir("..")
    print(json.dumps(results), flush=True)
"""


def content(seed: int, length: int) -> bytes:
    """Return the bytes that an operation writes."""
    return (hashlib.sha256(b"%d" % seed).digest() * (length // 32 + 1))[:length]


@dataclass(eq=False)
class Node:
    """A file, folder, symlink or FIFO."""

    kind: int  # S_IFMT
    data: bytearray = field(default_factory=bytearray)
    target: str = ""
    writable: bool = True
    time_ns: int | None = None  # if one was set
    attributes: dict[str, bytes] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=lambda: [b""])  # what `data` was since they were surely saved
    doubtful: bool = False  # an image, or something between two of them, may be all that is on the server

    def changed(self) -> None:
        """Hear that `data` has changed."""
        self.time_ns = None
        self.images.append(bytes(self.data))

    def saved(self) -> None:
        """Hear that `data` is on the server, by the server's word."""
        if not self.doubtful:
            del self.images[:-1]

    def holds(self, found: bytes) -> bool:
        """Tell whether the server may hold these bytes."""
        if not self.doubtful:
            return found == self.data
        if found in self.images:
            return True
        ways = [image.ljust(len(found), b"\0") for image in self.images]
        longest = max(map(len, self.images))
        return len(found) <= longest and all(one in options for one, *options in zip(found, *ways, strict=False))


class Share:
    """One share that the server may hold."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {"": Node(stat.S_IFDIR)}
        self.slots: dict[int, Node] = {}

    def do(self, name: str, *arguments: Any) -> Any:
        """Do an operation and return what it returns."""
        return getattr(self, f"_{name}")(*arguments)

    def ends(self, slot: int) -> Iterator["Share"]:
        """Yield this share, and one for each other place where what is open in a slot may end on the server."""
        yield self
        node = self.slots.get(slot)
        if node is not None and node.doubtful:
            for image in {len(image): image for image in node.images if len(image) != len(node.data)}.values():
                other = copy.deepcopy(self)
                other.slots[slot].data = bytearray(image)
                yield other

    def is_nameless(self, operation: Operation) -> bool:
        """Tell whether an operation is by the handle of a file without a name: it may end with the connection."""
        name, slot = operation[:2]
        return name in OF_BYTES and slot in self.slots and self.slots[slot] not in self.names.values()

    def node(self, name: str | int) -> Node | None:
        """Return what has a name, or is open in a slot."""
        return self.names.get(name) if isinstance(name, str) else self.slots.get(name)

    def _open(self, slot: int, name: str, flags: int) -> list[int] | None:
        if name in self.names:
            if flags & os.O_EXCL:
                return [errno.EEXIST]
        elif not flags & os.O_CREAT:
            return [errno.ENOENT]
        elif (why := self._parent(name)) is not None:
            return why
        node = self.names.setdefault(name, Node(stat.S_IFREG))
        if flags & os.O_TRUNC:
            self._resize(node, 0)
        self.slots[slot] = node
        return None

    def _close(self, slot: int) -> list[int] | None:
        if slot not in self.slots:
            return []
        self.slots.pop(slot).saved()
        return None

    def _write(self, slot: int, offset: int, length: int, seed: int) -> int | list[int]:
        if slot not in self.slots:
            return []
        node = self.slots[slot]
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + length] = content(seed, length)
        node.changed()
        return length

    def _append(self, slot: int, length: int, seed: int) -> int | list[int]:
        return self._write(slot, len(self.slots[slot].data), length, seed) if slot in self.slots else []

    def _truncate(self, slot: int, size: int) -> list[int] | None:
        if slot not in self.slots:
            return []
        self._resize(self.slots[slot], size)
        return None

    def _truncate_path(self, name: str, size: int) -> list[int] | None:
        if name not in self.names:
            return [errno.ENOENT]
        self._resize(self.names[name], size)
        return None

    def _sync(self, slot: int) -> list[int] | None:
        if slot not in self.slots:
            return []
        self.slots[slot].saved()
        return None

    def _mkdir(self, name: str) -> list[int] | None:
        return self._make(name, Node(stat.S_IFDIR))

    def _symlink(self, target: str, name: str) -> list[int] | None:
        return self._make(name, Node(stat.S_IFLNK, target=target))

    def _mkfifo(self, name: str) -> list[int] | None:
        return self._make(name, Node(stat.S_IFIFO))

    def _link(self, name: str, new: str) -> list[int] | None:
        if name not in self.names:
            return [errno.ENOENT]
        return self._make(new, self.names[name])

    def _rename(self, source: str, target: str) -> list[int] | None:
        if source not in self.names:
            return [errno.ENOENT]
        if (why := self._parent(target)) is not None:
            return why
        moved = [name for name in self.names if name == source or name.startswith(f"{source}/")]
        for name in moved:
            self.names[target + name[len(source) :]] = self.names.pop(name)
        return None

    def _unlink(self, name: str) -> list[int] | None:
        return None if self.names.pop(name, None) is not None else [errno.ENOENT]

    def _rmdir(self, name: str) -> list[int] | None:
        if name not in self.names:
            return [errno.ENOENT]
        if any(other.startswith(f"{name}/") for other in self.names):
            return [errno.ENOTEMPTY]
        del self.names[name]
        return None

    def _chmod(self, name: str, mode: int) -> list[int] | None:
        if name not in self.names:
            return [errno.ENOENT]
        self.names[name].writable = bool(mode & 0o200)
        return None

    def _utime(self, name: str, time_ns: int) -> list[int] | None:
        if name not in self.names:
            return [errno.ENOENT]
        self.names[name].time_ns = time_ns
        return None

    def _utime_fd(self, slot: int, time_ns: int) -> list[int] | None:
        if slot not in self.slots:
            return []
        self.slots[slot].time_ns = time_ns
        return None

    def _setxattr(self, name: str, attribute: str, seed: int) -> list[int] | None:
        if name not in self.names:
            return [errno.ENOENT]
        self.names[name].attributes[attribute] = content(seed, 40)
        return None

    def _make(self, name: str, node: Node) -> list[int] | None:
        if name in self.names:
            return [errno.EEXIST]
        if (why := self._parent(name)) is not None:
            return why
        self.names[name] = node
        return None

    def _parent(self, name: str) -> list[int] | None:
        return None if name.rpartition("/")[0] in self.names else [errno.ENOENT]

    def _resize(self, node: Node, size: int) -> None:
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))
        node.changed()


class Told:
    """The shares that the server may hold, after what the program was told."""

    def __init__(self) -> None:
        self.shares = [Share()]
        self.failures: list[tuple[Operation, str]] = []  # operations that may be done or not

    def hear(self, operation: Operation, answer: Any) -> None:
        """Hear what an operation returned.  Raises: AssertionError if that is true of no share."""
        unknown = isinstance(answer, list) and bool(answer) and answer[0] in UNKNOWN
        if unknown and not all(share.is_nameless(operation) for share in self.shares):
            self.failures.append((operation, errno.errorcode[answer[0]]))
        following, expected = [], []
        short = operation[0] in ("write", "append") and isinstance(answer, int) and 0 < answer < operation[-2]
        if short:
            # The rest is not there, or nobody knows: the next write would have told why.
            self.failures.append((operation, f"short by {operation[-2] - answer}"))
        # What is appended lies where the file ends: behind what was surely written, or behind what nobody knows of.
        shares = self.shares
        if operation[0] == "append":
            shares = [end for share in shares for end in share.ends(operation[1])]
        for share in shares:
            if (unknown or short) and operation[0] in OF_BYTES and (node := share.node(operation[1])) is not None:
                node.doubtful = True  # it may have been done in part
            before = copy.deepcopy(share)
            expected.append(share.do(*operation))
            if expected[-1] == answer or short:
                following.append(share)
            elif unknown:
                if operation[0] == "open":
                    share.slots.pop(operation[1], None)
                if operation[0] == "close":
                    before.slots.pop(operation[1], None)
                following += [share] if expected[-1] == [] else [before, share]
                if operation[0] == "symlink":
                    # One that is kept as a file is made in two steps; whether the first was done may be unknown too.
                    half = copy.deepcopy(before)
                    half.names.setdefault(operation[2], Node(stat.S_IFREG))
                    following.append(half)
        assert following, f"{operation} was answered {answer}, and not one of {expected}"
        self.shares = following

    def difference(self, folder: Path, *, modes: bool) -> str | None:
        """Compare with a folder of the server's disk; say why it is none of what it may be, None if it is."""
        found = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
        differences = [_difference(share, found, modes=modes) for share in self.shares]
        return None if None in differences else f"{folder.name} is none of what it may be: {differences}"


def _difference(share: Share, found: Mapping[str, Path], *, modes: bool) -> str | None:
    names = share.names.keys() - {""}
    if names != found.keys():
        return f"only told {sorted(names - found.keys())}, only there {sorted(found.keys() - names)}"
    nodes: dict[int, Node] = {}  # by inode number
    for name in sorted(names):
        node, status = share.names[name], found[name].lstat()
        data = found[name].read_bytes() if stat.S_ISREG(status.st_mode) else b""
        kind = stat.S_IFLNK if data.startswith(MFSYMLINK) else stat.S_IFMT(status.st_mode)
        if kind != node.kind:
            return f"{name} is of kind {kind:o}"
        if nodes.setdefault(status.st_ino, node) is not node:
            return f"{name} is a further name of another file"
        if kind == stat.S_IFLNK and node.target not in (data.decode().split("\n")[3:4] or [os.readlink(found[name])]):
            return f"{name} leads elsewhere"
        if kind == stat.S_IFREG and not node.holds(data):
            at = next((at for at, pair in enumerate(zip(data, node.data, strict=False)) if len(set(pair)) > 1), None)
            return f"{name} has {len(data)} bytes and not {len(node.data)}; the first that differs is {at}"
        if node.time_ns is not None and status.st_mtime_ns != node.time_ns:
            return f"{name} was written at {status.st_mtime_ns} and not at {node.time_ns}"
        if modes and kind == stat.S_IFREG and bool(status.st_mode & 0o200) != node.writable:
            return f"{name} has mode {status.st_mode:o}"
        for attribute, value in node.attributes.items():
            if attribute not in os.listxattr(found[name]) or os.getxattr(found[name], attribute) != value:
                return f"{name} has another {attribute}, or none"
    return None
