"""The border to pyfuse3: every handler answers, and nothing that the kernel or libfuse would choke on gets across.

pyfuse3 takes the mount down for any exception but FUSEError, and for values of a wrong type or range it raises after
the handler has returned. The kernel is no kinder: an error number above 511 leaves the caller unanswered for ever, a
file type that does not exist marks the inode as bad for good. So everything is checked here, on our side.
"""

from __future__ import annotations

import errno
import functools
import logging
import math
import stat
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields, StatvfsData

from smbfuse.errors import NotFound, SmbError
from smbfuse.fuse.gate import Gate
from smbfuse.fuse.loop import waiting
from smbfuse.share import Space
from smbfuse.vfs.posix import Caller, Entry, Listed, NewAttributes, Opened, PosixStat

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Buffer = bytes | bytearray | memoryview

_ANSWERS_MAX: Final = 8192  # kept for the next time, at some 500 bytes each
_MOST_ERRNO: Final = 511  # the kernel takes no answer with a larger one
_MOST_SIZE: Final = 2**63 - 1
_MOST_HANDLE: Final = 2**64 - 1
_MOST_NAME: Final = 255  # bytes
_MOST_VALUE: Final = 1 << 16  # bytes of an extended attribute, and of all their names
_MOST_TARGET: Final = 4095  # bytes of a symlink: a page less its zero byte
_FILE_TYPES: Final = frozenset(
    {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK, stat.S_IFCHR}
)
_USUAL_BLOCK: Final = 4096


class Patient(Protocol):
    """Whoever has handlers: how long one may take before it is given up, and who is let in at all."""

    patience_s: float
    gate: Gate


PatientT = TypeVar("PatientT", bound=Patient)
Handler = Callable[Concatenate[PatientT, P], Coroutine[Any, Any, T]]


def total(handler: Handler[PatientT, P, T]) -> Handler[PatientT, P, T]:
    """Make a handler answer in time and in the one way that pyfuse3 takes: a value, or a FUSEError with a sane errno.

    The deadline is a safety net far above those of the filesystem: the caller cannot be interrupted once the kernel
    has handed its request over.
    """
    return _answering(handler, timed=True)


def at_once_if(
    at_hand: Callable[Concatenate[PatientT, P], T | None],
) -> Callable[[Handler[PatientT, P, T]], Handler[PatientT, P, T]]:
    """Make a handler answer as `total` does, but with what is `at_hand` if that is anything.

    What need not be waited for needs no deadline, nor to be let in: both cost more than most reads do.
    """

    def decorate(handler: Handler[PatientT, P, T]) -> Handler[PatientT, P, T]:
        in_time = total(handler)

        @functools.wraps(handler)
        async def answer(self: PatientT, /, *args: P.args, **kwargs: P.kwargs) -> T:
            try:
                known = at_hand(self, *args, **kwargs)
            except Exception as error:
                raise _failure(error, handler.__name__) from None
            return known if known is not None else await in_time(self, *args, **kwargs)

        return answer

    return decorate


def untimed(handler: Handler[PatientT, P, T]) -> Handler[PatientT, P, T]:
    """Make a handler answer as `total` does, but without a deadline of its own.

    For what writes out however much there is: each request on the way has its deadline, and a slow link alone is no
    reason to report as lost what is still on its way.
    """
    return _answering(handler, timed=False)


def unawaited(handler: Handler[PatientT, P, T]) -> Handler[PatientT, P, T]:
    """Make a handler answer as `untimed` does, whatever the gate says: no caller waits, and it must be done."""

    @functools.wraps(handler)
    async def answer(self: PatientT, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await waiting(handler(self, *args, **kwargs))
        except Exception as error:
            raise _failure(error, handler.__name__) from None

    return answer


def _answering(handler: Handler[PatientT, P, T], *, timed: bool) -> Handler[PatientT, P, T]:
    operation = handler.__name__

    @functools.wraps(handler)
    async def answer(self: PatientT, /, *args: P.args, **kwargs: P.kwargs) -> T:
        gate = self.gate
        if not timed and not gate.may_sleep:
            # A scope costs 3 to 5 µs, of some 80 for a write: none where nobody would ever need it.
            try:
                return await waiting(handler(self, *args, **kwargs))
            except Exception as error:
                raise _failure(error, operation) from None
        scope = gate.admit(operation, self.patience_s if timed else math.inf)
        try:
            with scope:
                return await waiting(handler(self, *args, **kwargs))
        except Exception as error:
            raise _failure(error, operation) from None
        finally:
            gate.left(scope)
        if trio.current_time() < scope.deadline:
            raise FUSEError(errno.EHOSTDOWN)  # by the gate
        log.error("%s given up after %g s without an answer", operation, self.patience_s)
        raise FUSEError(errno.ETIMEDOUT)

    return answer


def _failure(error: Exception, operation: str) -> FUSEError:
    """Return what the kernel is told of an error; one that should not be is a bug, and logged as one."""
    if isinstance(error, FUSEError):
        return error
    if isinstance(error, SmbError | ExceptionGroup):
        return FUSEError(_errno_for(error, operation))
    log.error("%s failed, and its caller gets EIO: this is a bug", operation, exc_info=error)
    return FUSEError(errno.EIO)


def entry_attributes(entry: Entry, *, absent: bool = False) -> EntryAttributes:
    """Return an entry as pyfuse3 wants it; with `absent`, inode 0 ("no such name") is an answer as well.

    Raises: ValueError, OverflowError, TypeError (a bug above us; the caller gets EIO).
    """
    status = entry.stat
    if status.ino:
        attributes = _attributes(status, entry.generation)
    elif absent:
        attributes = EntryAttributes()
        attributes.st_ino = 0
    else:
        raise ValueError("inode 0")
    attributes.entry_timeout = _timeout(entry.entry_timeout_s)
    attributes.attr_timeout = _timeout(entry.attr_timeout_s)
    return attributes


@functools.lru_cache(_ANSWERS_MAX)
def _attributes(status: PosixStat, generation: int) -> EntryAttributes:
    """Return the lasting part of an entry. It is answered from before anything else can happen, so one may be shared.

    A folder that is listed again, and a file that is opened after it was looked up, show what was shown before.
    """
    _check(status)
    attributes = EntryAttributes()
    attributes.generation = generation
    attributes.st_ino = status.ino
    attributes.st_mode = status.mode
    attributes.st_nlink = status.nlink
    attributes.st_uid = status.uid
    attributes.st_gid = status.gid
    attributes.st_rdev = status.rdev
    attributes.st_size = status.size
    attributes.st_blocks = status.blocks
    attributes.st_blksize = status.blksize
    attributes.st_atime_ns = status.atime_ns
    attributes.st_mtime_ns = status.mtime_ns
    attributes.st_ctime_ns = status.ctime_ns
    return attributes


def listing(listed: Iterable[Listed]) -> Iterator[tuple[bytes, EntryAttributes, int]]:
    """Yield the entries of a folder that may be handed over; never raises for one of them.

    An error after an accepted entry would leave the kernel's count of it wrong, so a bad one is left out and logged.
    """
    for one in listed:
        try:
            name, entry, cookie = one
            if not 0 < len(name) <= _MOST_NAME or b"/" in name or b"\0" in name or not 0 < cookie <= _MOST_SIZE:
                raise ValueError(f"name of {len(name)} bytes at {cookie}")
            attributes = entry_attributes(entry)
        except Exception:
            log.exception("an entry of a folder cannot be handed over, and is left out: this is a bug")
            continue
        yield name, attributes, cookie


def file_info(opened: Opened) -> FileInfo:
    """Return an open file as pyfuse3 wants it."""
    return FileInfo(fh=handle(opened.fh), direct_io=bool(opened.direct_io), keep_cache=bool(opened.keep_cache))


def handle(fh: int) -> int:
    """Return a handle that fits the kernel's 64 bits."""
    if not 0 <= fh <= _MOST_HANDLE:
        raise ValueError(f"handle {fh}")
    return fh


def payload(data: Buffer, length: int) -> bytes:
    """Return what a read may answer: one piece of memory, not longer than asked for.

    pyfuse3 takes any such buffer, whatever its annotation says; nothing is copied.
    """
    view = memoryview(data)
    if not view.c_contiguous or view.nbytes > length:
        raise ValueError(f"{view.nbytes} bytes for a read of {length}, contiguous: {view.c_contiguous}")
    return data  # type: ignore[return-value]  # see the docstring


def written(count: int, length: int) -> int:
    """Return how many of `length` bytes a write took; more than were given would be an error to the kernel."""
    if not 0 <= count <= length:
        raise ValueError(f"{count} bytes written of {length}")
    return count


def new_attributes(attributes: EntryAttributes, fields: SetattrFields) -> NewAttributes:
    """Return what setattr is to change. A new ctime is not: it is the server's to keep."""
    return NewAttributes(
        size=attributes.st_size if fields.update_size else None,
        mode=stat.S_IMODE(attributes.st_mode) if fields.update_mode else None,
        uid=attributes.st_uid if fields.update_uid else None,
        gid=attributes.st_gid if fields.update_gid else None,
        atime_ns=attributes.st_atime_ns if fields.update_atime else None,
        mtime_ns=attributes.st_mtime_ns if fields.update_mtime else None,
    )


def caller(context: RequestContext) -> Caller:
    """Return who asks for something to be made."""
    return Caller(context.uid, context.gid, context.umask)


def attribute_value(value: Buffer) -> bytes:
    """Return the value of an extended attribute; one that no caller has room for is an error of its own."""
    if len(value) > _MOST_VALUE:
        raise FUSEError(errno.E2BIG)
    return bytes(value)


def attribute_names(names: Iterable[bytes]) -> list[bytes]:
    """Return the names of extended attributes; pyfuse3 puts a zero byte behind each."""
    listed = list(names)
    if any(not name or b"\0" in name for name in listed):
        raise ValueError("an extended attribute without a name that can be told")
    if sum(len(name) + 1 for name in listed) > _MOST_VALUE:
        raise FUSEError(errno.E2BIG)
    return listed


def link_target(target: bytes) -> bytes:
    """Return a symlink's target; one that no path can hold is an error of the file, not of ours."""
    if not target or b"\0" in target:
        raise FUSEError(errno.EIO)
    if len(target) > _MOST_TARGET:
        raise FUSEError(errno.ENAMETOOLONG)
    return target


def statvfs(space: Space) -> StatvfsData:
    """Return the room on a volume; a block size that makes no sense is replaced, because df divides by it."""
    block = space.block_size if 512 <= space.block_size <= 2**30 else _USUAL_BLOCK
    answer = StatvfsData()
    answer.f_bsize = answer.f_frsize = block
    answer.f_blocks = _clamped(space.total) // block
    answer.f_bfree = _clamped(space.free) // block
    answer.f_bavail = _clamped(space.available) // block
    answer.f_namemax = min(max(space.name_max, 1), _MOST_NAME)
    return answer


def caller_groups(context: RequestContext) -> set[int]:
    """Return the groups of the process that asks; its own group alone if it has gone or lives in another namespace."""
    try:
        return {context.gid, *pyfuse3.get_sup_groups(context.pid)}
    except (OSError, RuntimeError, ValueError):
        return {context.gid}


def _check(status: PosixStat) -> None:
    if stat.S_IFMT(status.mode) not in _FILE_TYPES:
        raise ValueError(f"file type {status.mode:o}")
    if not 0 <= status.size <= _MOST_SIZE or not 0 <= status.blocks <= _MOST_SIZE:
        raise ValueError(f"size {status.size}, blocks {status.blocks}")


def _timeout(seconds: float) -> float:
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"a time-out of {seconds} s")
    return seconds


def _clamped(number: int) -> int:
    return min(max(number, 0), _MOST_SIZE)


def _errno_for(error: SmbError | ExceptionGroup[Exception], operation: str) -> int:
    """Return the errno for an error and log its reason; tasks that ran side by side fail as a group."""
    first: BaseException = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if not isinstance(first, SmbError):
        log.error("%s failed, and its caller gets EIO: this is a bug", operation, exc_info=error)
        return errno.EIO
    log.log(logging.DEBUG if isinstance(first, NotFound) else logging.INFO, "%s: %s", operation, first)
    if first.errno == errno.ENOSYS:
        return errno.EOPNOTSUPP  # ENOSYS would end requests of this kind for the whole mount
    if isinstance(first.errno, int) and 0 < first.errno <= _MOST_ERRNO:
        return first.errno
    return errno.EIO
