"""Files as they should be: a dict of bytearrays, and the operations that a program has for them.

An operation is a list that JSON can carry: its name, then its arguments. `Model.do` says what it should return;
`PROGRAM`, given such lists, says what it does return. Both say an error as [errno].
"""

import errno
import hashlib
import os
from collections.abc import Sequence
from typing import Any, Final

NAMES: Final = ("a", "b [ü]", "d/c")
SLOTS: Final = 4
LARGEST: Final = 40_000  # bytes of a file: some forty of the mount's requests

READ: Final = os.O_RDONLY
WRITE: Final = os.O_WRONLY
BOTH: Final = os.O_RDWR
MANNERS: Final = (
    READ,
    BOTH,
    BOTH | os.O_CREAT,
    WRITE | os.O_CREAT,
    BOTH | os.O_CREAT | os.O_TRUNC,
    WRITE | os.O_CREAT | os.O_APPEND,
    BOTH | os.O_CREAT | os.O_EXCL,
)

Operation = Sequence[Any]

# Reads a line of JSON for each sequence: a new folder's name, and the operations. Answers with a line of results.
PROGRAM: Final = """
import hashlib, json, os, sys
def content(seed, length):
    return (hashlib.sha256(b"%d" % seed).digest() * (length // 32 + 1))[:length]
def told(data):
    return [len(data), hashlib.sha256(data).hexdigest()[:16]]
def whole(fd):
    parts, at = [], 0
    while part := os.pread(fd, 100_000, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
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
    elif name == "read":
        return told(os.pread(slots[a[0]], a[2], a[1]))
    elif name == "truncate":
        os.ftruncate(slots[a[0]], a[1])
    elif name == "truncate_path":
        os.truncate(a[0], a[1])
    elif name == "size":
        return os.fstat(slots[a[0]]).st_size
    elif name == "size_path":
        return os.stat(a[0]).st_size
    elif name == "sync":
        os.fsync(slots[a[0]])
    elif name == "rename":
        os.rename(a[0], a[1])
    elif name == "unlink":
        os.unlink(a[0])
    elif name == "list":
        return sorted(os.listdir(".") + ["d/" + name for name in os.listdir("d")])
    elif name == "whole":
        fd = os.open(a[0], os.O_RDONLY)
        try:
            return told(whole(fd))
        finally:
            os.close(fd)
os.chdir(sys.argv[1])
for line in sys.stdin:
    folder, operations = json.loads(line)
    os.makedirs(folder + "/d")
    os.chdir(folder)
    results, slots = [], {}
    for operation in operations:
        try:
            results.append(do(slots, *operation))
        except OSError as error:
            results.append([error.errno])
    for fd in slots.values():
        os.close(fd)
    os.chdir("..")
    print(json.dumps(results), flush=True)
"""


def content(seed: int, length: int) -> bytes:
    """Return the bytes that an operation writes."""
    return (hashlib.sha256(b"%d" % seed).digest() * (length // 32 + 1))[:length]


def told(data: bytes | bytearray) -> list[int | str]:
    """Return what stands for bytes in an answer."""
    return [len(data), hashlib.sha256(data).hexdigest()[:16]]


class Model:
    """The files, and what is open of them: a file lives on while it is."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.slots: dict[int, tuple[bytearray, int]] = {}

    def can(self, name: str, *arguments: Any) -> bool:
        """Tell whether the program would know the handle that an operation speaks of."""
        if name == "open":
            return arguments[0] not in self.slots
        return name not in BY_HANDLE or arguments[0] in self.slots

    def do(self, name: str, *arguments: Any) -> Any:
        """Do an operation and return what it returns."""
        return getattr(self, f"_{name}")(*arguments)

    def _open(self, slot: int, name: str, flags: int) -> list[int] | None:
        if name in self.files:
            if flags & os.O_EXCL:
                return [errno.EEXIST]
        elif not flags & os.O_CREAT:
            return [errno.ENOENT]
        data = self.files.setdefault(name, bytearray())
        if flags & os.O_TRUNC:
            del data[:]
        self.slots[slot] = (data, flags)
        return None

    def _close(self, slot: int) -> None:
        del self.slots[slot]

    def _write(self, slot: int, offset: int, length: int, seed: int) -> int | list[int]:
        data, flags = self.slots[slot]
        if flags & os.O_ACCMODE == READ:
            return [errno.EBADF]
        if flags & os.O_APPEND:
            offset = len(data)  # Linux appends whatever the offset, pwrite(2)
        data.extend(bytes(max(0, offset - len(data))))
        data[offset : offset + length] = content(seed, length)
        return length

    def _append(self, slot: int, length: int, seed: int) -> int | list[int]:
        return self._write(slot, len(self.slots[slot][0]), length, seed)

    def _read(self, slot: int, offset: int, length: int) -> list[int] | list[int | str]:
        data, flags = self.slots[slot]
        if flags & os.O_ACCMODE == WRITE:
            return [errno.EBADF]
        return told(data[offset : offset + length])

    def _truncate(self, slot: int, size: int) -> list[int] | None:
        data, flags = self.slots[slot]
        if flags & os.O_ACCMODE == READ:
            return [errno.EINVAL]
        self._resize(data, size)
        return None

    def _truncate_path(self, name: str, size: int) -> list[int] | None:
        if name not in self.files:
            return [errno.ENOENT]
        self._resize(self.files[name], size)
        return None

    def _resize(self, data: bytearray, size: int) -> None:
        del data[size:]
        data.extend(bytes(size - len(data)))

    def _size(self, slot: int) -> int:
        return len(self.slots[slot][0])

    def _size_path(self, name: str) -> int | list[int]:
        return len(self.files[name]) if name in self.files else [errno.ENOENT]

    def _sync(self, slot: int) -> None:
        pass

    def _rename(self, source: str, target: str) -> list[int] | None:
        if source not in self.files:
            return [errno.ENOENT]
        self.files[target] = self.files.pop(source)
        return None

    def _unlink(self, name: str) -> list[int] | None:
        return None if self.files.pop(name, None) is not None else [errno.ENOENT]

    def _list(self) -> list[str]:
        return sorted(["d", *self.files])

    def _whole(self, name: str) -> list[int] | list[int | str]:
        return told(self.files[name]) if name in self.files else [errno.ENOENT]


BY_HANDLE: Final = ("close", "write", "append", "read", "truncate", "size", "sync")
