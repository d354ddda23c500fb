"""The life of one mount, from the first connection to the last goodbye.

Things begin from the server towards the user and end the other way round: connection, filesystem, mount; then the mount
is undone while callers inside still get their answers, what they wrote is saved, files are closed, the tree is
disconnected, the login ended.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import trio

from smbfuse.client.negotiate import open_source
from smbfuse.config import CacheMode, Config
from smbfuse.daemon import control, signals
from smbfuse.daemon.leaving import leave
from smbfuse.daemon.logind import Logind
from smbfuse.daemon.notify import Notifier
from smbfuse.daemon.saving import Saving
from smbfuse.daemon.sleeping import Sleeping
from smbfuse.daemon.survivor import Survivor
from smbfuse.daemon.watching import watch_mounted
from smbfuse.errors import AuthenticationFailed, Reason, SmbError
from smbfuse.fuse.mount import FuseMount
from smbfuse.fuse.pages import PageCache
from smbfuse.share import Share, ShareSource
from smbfuse.vfs.filesystem import Filesystem

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0  # between two looks whether a mount that waits for ever is still wanted
_LAST_ANSWERS_S: Final = 3.0  # for callers that wait for the server when the mount is to end
_DETACHING_S: Final = 5.0  # for the kernel, when nobody answers it any more
_FAREWELL_S: Final = 6.0  # for files, tree and login
GOODBYES_S: Final = 30.0  # all of these, on a machine that is busy


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a daemon must know of the world it was started in."""

    version: str = ""  # of smbfuse
    runtime_dir: str = ""  # $XDG_RUNTIME_DIR
    notify_socket: str = ""  # $NOTIFY_SOCKET
    system_bus: str = ""  # $DBUS_SYSTEM_BUS_ADDRESS


class Interrupted(Exception):
    """A signal came before the mount was ready."""


class Service:
    """One mount. `run` returns when it has ended as somebody wished, and raises if it could not begin."""

    def __init__(self, config: Config, surroundings: Surroundings, survivor: Survivor) -> None:
        self._config = config
        self._survivor = survivor
        self._surroundings = surroundings
        self._notifier = Notifier(surroundings.notify_socket)
        self._everything = trio.CancelScope()
        self._farewell = trio.CancelScope(shield=True)
        self._saving = Saving(config.process.flush_timeout_s)
        self._wanted_to_end = trio.Event()
        self._ready = False
        self._since_s = 0.0
        self._source: ShareSource | None = None
        self._filesystem: Filesystem | None = None
        self._kernel: PageCache | None = None
        self._mount: FuseMount | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        """Mount, call `ready`, and serve until the mount is undone or a signal comes.

        Raises: SmbError (why there is no mount), Interrupted; UnsavedData or Aborted when it has ended.
        """
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._watch_signals)
                with self._everything:
                    await self._live(ready)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _cause(group) from None
        if not self._ready:
            raise Interrupted("interrupted before the mount was ready")
        self._saving.settle()

    def status(self) -> dict[str, Any]:
        """Return what is known of the mount, as JSON can hold it."""
        mount, source, filesystem, kernel = self._mount, self._source, self._filesystem, self._kernel
        return {
            "mountpoint": self._config.mount.mountpoint,
            "source": str(self._config.target),
            "pid": os.getpid(),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "version": self._surroundings.version,
            "mounted_s": round(time.monotonic() - self._since_s, 1),
            "ending": self._wanted_to_end.is_set(),
            "attached": mount is not None and mount.attached(),
            "connection": source.state if source is not None else "none",
            "reason": source.reason if source is not None else "",
            "shares": [_share_status(share) for share in source.connected()] if source is not None else [],
            "filesystem": asdict(filesystem.statistics()) if filesystem is not None else {},
            "kernel": asdict(kernel.statistics()) if kernel is not None else {},
        }

    async def _watch_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        hangup_ends = self._config.process.foreground
        await signals.watch(end=self._end, abort=self._abort, hangup_ends=hangup_ends, task_status=task_status)

    def _end(self) -> None:
        self._wanted_to_end.set()
        self._notifier.stopping(self._config.process.flush_timeout_s + GOODBYES_S)
        if not self._ready:
            self._everything.cancel()

    def _abort(self) -> None:
        self._everything.cancel()
        self._saving.abort()
        self._farewell.cancel()

    async def _live(self, ready: Callable[[], None]) -> None:
        """Connect, live, and take leave of the server."""
        async with trio.open_nursery() as connections:
            source = self._source = await self._connect(connections)
            try:
                await self._mounted(source, ready)
            finally:
                self._farewell.deadline = trio.current_time() + _FAREWELL_S
                with self._farewell:
                    await source.aclose()
            connections.cancel_scope.cancel()

    async def _connect(self, connections: trio.Nursery) -> ShareSource:
        config = self._config
        try:
            return await open_source(config, connections)
        except AuthenticationFailed as error:
            second = config.login.password2
            if second is None or error.reason is not Reason.BAD_LOGIN:
                raise
            log.info("%s; trying password2", error)
        return await open_source(replace(config, login=replace(config.login, password=second)), connections)

    async def _mounted(self, source: ShareSource, ready: Callable[[], None]) -> None:
        """Put the filesystem on top of the source and the mount on top of it; take both down in reverse."""
        config = self._config
        kernel = self._kernel = PageCache()
        filesystem = self._filesystem = Filesystem(source, config.cache, config.view, kernel)
        async with trio.open_nursery() as nursery:
            await nursery.start(filesystem.run)
            mount = FuseMount(
                filesystem,
                config.mount,
                source=str(config.target),
                timeo_s=config.network.patience_s,
                xattrs=config.view.user_xattrs or config.view.acls,
                writeback=config.cache.mode is CacheMode.LOOSE,
            )
            mount.attach()
            self._mount = mount
            if (path := mount.aborting) is not None:
                self._survivor.is_to_abort(path)
            try:
                await self._serve(mount, filesystem, source, ready)
            finally:
                with trio.CancelScope(shield=True):
                    # Pages that the kernel would have written first hold it up: the session's end lets it go.
                    with trio.move_on_after(_DETACHING_S):
                        await mount.detach()
                    await self._saving.save(filesystem)
                    # A thread that tells the kernel something uses the session.
                    if await trio.to_thread.run_sync(kernel.close, limiter=trio.CapacityLimiter(1)):
                        mount.close()
                    else:
                        mount.abort()
            nursery.cancel_scope.cancel()

    async def _serve(
        self, mount: FuseMount, filesystem: Filesystem, source: ShareSource, ready: Callable[[], None]
    ) -> None:
        """Answer the kernel until the mount is gone, or somebody wants it to go."""
        config = self._config
        folder = control.folder_for(os.geteuid(), self._surroundings.runtime_dir)
        path = control.socket_path(folder, config.mount.mountpoint)
        async with control.serving(path, self._answer), trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[None]) -> None:
                await mount.serve(task_status=task_status)
                nursery.cancel_scope.cancel()

            async def save_what_is_left() -> None:
                # A killed program leaves bytes that nobody waits for. If they are given up, that is to be told.
                await mount.gone()
                await self._saving.save(filesystem)

            await nursery.start(serve)
            nursery.start_soon(save_what_is_left)
            self._ready = True
            self._since_s = time.monotonic()
            log.info("mounted source=%s mountpoint=%s", config.target, config.mount.mountpoint)
            self._notifier.ready(f"{config.target} on {config.mount.mountpoint}")
            ready()
            sleeping = Sleeping(mount.gate, filesystem, source)
            nursery.start_soon(Logind(self._surroundings.system_bus, sleeping).run)
            if math.isinf(config.network.patience_s):
                nursery.start_soon(_release_when_detached, mount, source)
            await self._wanted_to_end.wait()
            # While the kernel is still answered: it may have pages of its own to write.
            await leave(mount, filesystem, source, self._saving, self._notifier.status)
            # `serve` waits for handlers that wait for the server: their callers get ENOTCONN now.
            await trio.sleep(_LAST_ANSWERS_S)
            nursery.cancel_scope.cancel()
        log.info("unmounted source=%s mountpoint=%s", config.target, config.mount.mountpoint)

    def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any] | control.Story:
        if request.get("request") == "status":
            return {"status": self.status()}
        if request.get("request") == "release" and self._source is not None:
            log.info("released: whoever waits for the server gets an error")
            self._source.release()
            return {"released": True}
        if request.get("request") == "watch" and self._source is not None:
            return watch_mounted(self._source, self._config.view.mapping, request)
        return {"error": "unknown request; known: status, release, watch"}


async def _release_when_detached(mount: FuseMount, source: ShareSource) -> None:
    """Have nobody wait for a server that has gone once the mount was undone: there is no place left to come back to."""
    while True:
        await trio.sleep(_LOOK_S)
        if not source.reachable and not mount.attached():
            source.release()


def _share_status(share: Share) -> dict[str, Any]:
    try:
        return {"name": share.name, **asdict(share.statistics())}
    except SmbError as error:  # the connection is lost at this moment
        return {"name": share.name, "error": str(error)}


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what went wrong first, without the nurseries' wrapping."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
