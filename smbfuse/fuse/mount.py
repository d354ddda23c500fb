"""One mount from its beginning to its end: options, the session with the kernel, tuning, unmounting.

The serving process never touches its own mount: that would be a request only it could answer. It learns what it needs
from mountinfo, and has the mount undone by path (umount2, fusermount3).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pyfuse3
import trio
import trio.lowlevel

from smbfuse.config import Mount
from smbfuse.errors import SmbError
from smbfuse.fuse import loop, mountinfo
from smbfuse.fuse.gate import Gate
from smbfuse.fuse.operations import Operations
from smbfuse.fuse.unmount import unmount
from smbfuse.fuse.xattrs import OperationsWithXattrs
from smbfuse.vfs.filesystem import Filesystem

log = logging.getLogger(__name__)

# Requests in our hands at once: with pyfuse3's 99, that many blocked opens held up a statfs for 12 s; 1,500 of these
# cost 42 MB and held up nothing.
MOST_TASKS: Final = 4000
_MAX_BACKGROUND: Final = 256  # the kernel's 12 lets one file's read-ahead hold up all others
_CONGESTION_THRESHOLD: Final = 192
_READ_AHEAD_KB: Final = 1024  # only root may; requests of 1 MiB instead of 128 KiB, twice as fast
_LAST_CALLS_S: Final = 2.0  # for callers who are inside when the mount ends

_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")  # one folder a mount, named after its device's minor

# Unmounting may block in the kernel: it must not take threads from name resolution or notices.
# Two, because the kernel may hold up the first one until it is rid of its pages.
_unmount_threads = trio.CapacityLimiter(2)


class _Utf8(str):
    """A mount option that pyfuse3 may encode: it insists on ASCII, but names of shares have accents."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        return super().encode("utf-8", "surrogateescape")


class FuseMount:
    """Use: `attach()`, then `await serve()` until the mount is gone, then `await detach()` and `close()`."""

    def __init__(
        self,
        filesystem: Filesystem,
        options: Mount,
        *,
        source: str,
        timeo_s: float,
        xattrs: bool = False,
        writeback: bool = False,
    ) -> None:
        """`xattrs`: extended attributes are shown. `writeback`: see `Operations`."""
        self.mountpoint = options.mountpoint
        handlers = OperationsWithXattrs if xattrs else Operations
        # Every request of the filesystem has a deadline of timeo after its last progress; this net is below them all.
        self._operations = handlers(filesystem, patience_s=60 + 10 * timeo_s, writeback=writeback)
        self._options = kernel_options(options, source)
        self._device: tuple[int, int] | None = None
        self._lowlevel: loop.Lowlevel

    def attach(self) -> None:
        """Mount. From now on callers wait until `serve` runs.  Raises: SmbError with what libfuse had to say."""
        self._lowlevel = loop.install()
        logging.getLogger("pyfuse3").addFilter(_is_worth_a_word)
        with _captured_stderr() as complaints:
            try:
                pyfuse3.init(self._operations, self.mountpoint, {_Utf8(one) for one in self._options})
            except RuntimeError as error:
                text = complaints() or str(error)
                raise SmbError(f"{self.mountpoint} cannot be mounted: {text}") from None
        entry = mountinfo.mounted_at(self.mountpoint)
        self._device = entry.device if entry is not None else None

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer the kernel until the mount is gone, whoever undid it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tune_when_greeted)
            task_status.started()
            await pyfuse3.main(max_tasks=MOST_TASKS)
            nursery.cancel_scope.cancel()

    @property
    def gate(self) -> Gate:
        """Who is let in, and who is inside."""
        return self._operations.gate

    async def gone(self) -> None:
        """Return when the kernel has let go of the mount; handlers may be under way, and `serve` waits for them."""
        await self._lowlevel.gone.wait()

    async def detach(self, *, lazily: bool = True) -> None:
        """Undo the mount if it is still there; `lazily` also while it is in use: who is inside stays inside."""
        if self.attached():
            undo = functools.partial(unmount, self.mountpoint, lazily=lazily)
            await trio.to_thread.run_sync(undo, limiter=_unmount_threads, abandon_on_cancel=True)

    async def finish(self) -> None:
        """Detach, give callers inside a moment, then end `serve`."""
        await self.detach()
        # Without users the kernel ends the session by itself, and `serve` with it.
        await trio.sleep(_LAST_CALLS_S)
        with contextlib.suppress(trio.ClosedResourceError):
            pyfuse3.terminate()

    def attached(self) -> bool:
        """Tell whether the mount is still where it was made, and still this one."""
        entry = mountinfo.mounted_at(self.mountpoint)
        return entry is not None and self._device is not None and entry.device == self._device

    def close(self) -> None:
        """Free the session; whoever is still inside gets ENOTCONN. Only after `serve` and `detach`.

        pyfuse3 is not to unmount: by now another mount may be in this place.
        """
        pyfuse3.close(unmount=False)

    @property
    def aborting(self) -> Path | None:
        """The file that cuts the kernel off when something is written to it, if the mount is there."""
        return None if self._device is None else _CONNECTIONS / str(self._device[1]) / "abort"

    def abort(self) -> None:
        """Cut the kernel off, if a thread of ours is stuck in it: `close` would wait for that thread."""
        if (path := self.aborting) is not None:
            with contextlib.suppress(OSError):
                path.write_text("1\n")

    async def _tune_when_greeted(self) -> None:
        # The kernel takes its defaults from the answer to its first message, so what is set before is lost.
        await self._operations.greeted.wait()
        if self._device is not None:
            tune(self._device)


def kernel_options(options: Mount, source: str) -> set[str]:
    """Return the mount options for libfuse. `nosuid,nodev` always: a server must not make programs root.

    No `max_read`: libfuse wants it confirmed in an answer that pyfuse3 does not let us change, and the kernel's own
    limit of 1 MiB suits us; writes come in up to 1 MiB as well.
    """
    access = "ro" if options.read_only else "rw"
    chosen = {access, "nosuid", "nodev", "subtype=smbfuse", f"fsname={_escaped(source)}"}
    if options.allow_other:
        chosen.add("allow_other")
    if options.check_permissions:
        chosen.add("default_permissions")
    return chosen | set(options.kernel_options)


def tune(device: tuple[int, int]) -> None:
    """Raise the kernel's limits of a mount as far as this user may; they live in sysfs, beside the mount."""
    major, minor = device
    connection = _CONNECTIONS / str(minor)
    for path, value in (
        (connection / "max_background", _MAX_BACKGROUND),
        (connection / "congestion_threshold", _CONGESTION_THRESHOLD),
        (Path(f"/sys/class/bdi/{major}:{minor}/read_ahead_kb"), _READ_AHEAD_KB),
    ):
        try:
            path.write_text(f"{value}\n")
        except OSError as error:
            log.debug("not tuned: %s", error)


def _is_worth_a_word(record: logging.LogRecord) -> bool:
    """Tell whether a record of pyfuse3's concerns anybody.

    An answer that the kernel no longer waits for, because the mount was undone meanwhile, fails with ENOENT: pyfuse3
    calls that an error, but nobody missed the answer.
    """
    return not (str(record.msg).endswith("fuse_reply_* failed with %s") and record.args == (os.strerror(errno.ENOENT),))


def _escaped(text: str) -> str:
    """Escape for libfuse's option parser, which splits at commas; control characters would break tables of mounts."""
    printable = "".join(one if one >= " " and one != "\x7f" else f"%{ord(one):02X}" for one in text)
    return printable.replace("\\", "\\\\").replace(",", "\\,")


@contextlib.contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Catch what C code and fusermount3 write to descriptor 2; the value is a function that returns it so far."""
    memory = os.memfd_create("smbfuse-stderr")
    saved = os.dup(2)
    os.dup2(memory, 2)

    def text() -> str:
        lines = os.pread(memory, 4096, 0).decode(errors="replace").splitlines()
        return "; ".join(line.removeprefix("fusermount3: ").removeprefix("fuse: ").strip() for line in lines)

    try:
        yield text
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(memory)
