"""What a behaviour is: a function of an empty folder that ends quietly if the folder does what POSIX and Linux say.

A wrong result raises AssertionError, a refusal OSError. Nothing but the standard library is used: the list is copied to
where an ordinary user can run it with any Python.
"""

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

Behaviour = Callable[[Path], None]

BEHAVIOURS: Final[dict[str, Behaviour]] = {}

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
AT_FDCWD: Final = -100
UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2

_libc = ctypes.CDLL(None, use_errno=True)


def behaviour(function: Behaviour) -> Behaviour:
    """Put a function on the list, under its own name."""
    name = function.__name__
    assert name not in BEHAVIOURS, f"two behaviours are called {name}"
    BEHAVIOURS[name] = function
    return function


@contextlib.contextmanager
def refused(*errnos: int) -> Iterator[None]:
    """Hold that the block is refused with one of these error numbers."""
    wanted = " or ".join(errno.errorcode[number] for number in errnos)
    number = 0
    try:
        yield
    except OSError as error:
        number = error.errno or 0
    assert number, f"done instead of {wanted}"
    assert number in errnos, f"{errno.errorcode[number]} instead of {wanted}"


@contextlib.contextmanager
def opened(path: Path | str | bytes, flags: int, mode: int = 0o666) -> Iterator[int]:
    """Open a file for the block, without Python's buffers."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def errno_of(function: Callable[[], object]) -> int:
    """Call a function; return the error number that it was refused with, 0 if it was done."""
    try:
        function()
    except OSError as error:
        return error.errno or -1
    return 0


def new(path: Path, data: bytes = b"") -> Path:
    """Make a file with these bytes and return its path."""
    path.write_bytes(data)
    return path


def pattern(length: int, seed: int = 1) -> bytes:
    """Return bytes that are different at every place where blocks could be mistaken for each other."""
    word = b"".join((seed * 1_000_003 + number * 7919 & 0xFFFFFFFF).to_bytes(4, "little") for number in range(4096))
    whole = bytearray()
    while len(whole) < length:
        whole += (len(whole) + seed).to_bytes(8, "little") + word
    return bytes(whole[:length])


def in_child(function: Callable[[], object]) -> None:
    """Run a function in a process of its own; a failure there is one here."""
    wait_for_child(start_child(function))


def start_child(function: Callable[[], object]) -> int:
    """Start a function in a process of its own and return the process's id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException as error:
            os.write(2, f"child: {error!r}\n".encode())
        finally:
            os._exit(code)
    return pid


def wait_for_child(pid: int) -> None:
    """Wait for what `start_child` started."""
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"


def rename_with(source: Path, target: Path, flags: int) -> None:
    """Rename with flags: renameat2(2)."""
    _checked(_libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


def set_times(path: Path, atime_ns: int, mtime_ns: int) -> None:
    """Set times with the tv_nsec of UTIME_NOW and UTIME_OMIT left as they are: utimensat(2), which Python's lacks."""

    def timespec(ns: int) -> tuple[int, int]:
        return (0, ns) if ns in (UTIME_NOW, UTIME_OMIT) else divmod(ns, 1_000_000_000)

    times = (ctypes.c_long * 4)(*timespec(atime_ns), *timespec(mtime_ns))  # two of struct timespec
    _checked(_libc.utimensat(AT_FDCWD, os.fsencode(path), times, 0))


def sync_filesystem(fd: int) -> None:
    """Write out the filesystem that a file is on: syncfs(2)."""
    _checked(_libc.syncfs(fd))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
