"""Watching a folder: told of what happens, connected again after a loss.

Without a mount that is done over a connection of its own; what is mounted, the mount watches, over the connection and
with the login that it has, and tells of it through its control socket.
"""

from __future__ import annotations

import contextlib
import errno as posix
import functools
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from smbfuse.client.negotiate import open_source
from smbfuse.config import Config, NameMapping
from smbfuse.daemon import control, signals
from smbfuse.errors import ConnectionLost, NotFound, SmbError, Timeout, WrongKind
from smbfuse.share import Happened, Notice, Share, ShareSource
from smbfuse.vfs.lookup import names_of
from smbfuse.vfs.names import Names

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_SPELLINGS: Final = 16  # of a path, that are tried
PAUSE_S: Final = 5.0  # between two attempts where there is no connection
_FAREWELL_S: Final = 6.0  # for tree and login


async def watch_share(
    config: Config, told: Callable[[Sequence[Notice]], None], offline: Callable[[SmbError], None], *, recursive: bool
) -> None:
    """Call `told` with what happens in the share, or in the folder of it, until a signal ends this.

    `told` is called with nothing once it is watched, and `offline` once for each time without a connection.
    Raises: SmbError (why it is not watched, or not any longer), OSError of the two calls.
    """

    async def watch(nursery: trio.Nursery) -> None:
        source = await open_source(config, nursery)
        try:
            share = await source.share("")
            await _watch(share, "", _waiting(told), _waiting(offline), recursive=recursive)
        finally:
            with trio.CancelScope(deadline=trio.current_time() + _FAREWELL_S, shield=True):
                await source.aclose()

    await _until_a_signal(watch)


def watch_mounted(source: ShareSource, mapping: NameMapping, request: Mapping[str, Any]) -> control.Story:
    """Return the story of what happens in a folder of a mount: `path`, by the names that the mount shows.

    Its lines: `watching`, once it is watched; `notices`, each [what, path, old path] by the names that the mount shows;
    `offline`, a sentence, once for each time without a connection; and the last one, `error`, why it is at its end.
    """

    async def tell_story(tell: control.Tell) -> None:
        try:
            share, candidates = await _find(source, mapping, _components(request.get("path")))
            names = names_of(share, mapping)

            async def told(notices: Sequence[Notice]) -> None:
                if not notices:
                    await tell({"watching": True})
                    return
                shown = [[n.what.name, _shown(names, n.path), _shown(names, n.old_path)] for n in notices]
                await tell({"notices": shown})

            async def offline(error: SmbError) -> None:
                await tell({"offline": str(error)})

            for path in candidates[:-1]:
                with contextlib.suppress(NotFound):
                    await _watch(share, path, told, offline, recursive=request.get("recursive") is not False)
            await _watch(share, candidates[-1], told, offline, recursive=request.get("recursive") is not False)
        except (NotFound, WrongKind) as error:
            await tell({"error": f"the share has no folder {request.get('path')!r} ({error})"})
        except SmbError as error:
            await tell({"error": str(error)})

    return tell_story


async def hear_of_mounted(
    socket: Path, request: Mapping[str, Any], told: Callable[[Sequence[Notice]], None], offline: Callable[[str], None]
) -> None:
    """Call `told` and `offline` with what a mount tells of a folder, until a signal ends this; see `watch_mounted`.

    Raises: SmbError (why the folder is not watched, or not any longer), OSError (nobody answers; of the calls).
    """

    def heard(line: Mapping[str, Any]) -> None:
        match line:
            case {"watching": True}:
                told(())
            case {"notices": [*notices]}:
                told([Notice(Happened[what], path, old_path) for what, path, old_path in notices])
            case {"offline": str(sentence)}:
                offline(sentence)
            case {"error": str(sentence)}:
                raise SmbError(sentence)

    async def follow(_: trio.Nursery) -> None:
        await control.follow(socket, request, heard)
        raise ConnectionLost("the mount has ended", sent=False)

    await _until_a_signal(follow)


async def _until_a_signal(work: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    """Do something in a nursery of its own, until it ends or a signal comes.  Raises: its SmbError or OSError."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        end = nursery.cancel_scope.cancel
        await nursery.start(functools.partial(signals.watch, end=end, abort=end, hangup_ends=True))
        try:
            await work(nursery)
        except (SmbError, OSError) as error:
            failure = error  # raised outside the nursery, which would wrap it
        end()
    if failure is not None:
        raise failure


def _components(path: object) -> list[bytes]:
    return [os.fsencode(one) for one in path.split("/") if one] if isinstance(path, str) else []


async def _find(source: ShareSource, mapping: NameMapping, names: list[bytes]) -> tuple[Share, list[str]]:
    """Return the share of a folder, and the paths that the folder may have in it, the likeliest one first.

    Raises: SmbError, with ENOENT if there can be no such folder.
    """
    if source.whole_server:
        if not names:
            raise SmbError("which share is to be watched? the mount shows a whole server")
        share = await source.share(os.fsdecode(names.pop(0)))
    else:
        share = await source.share("")
    spell = names_of(share, mapping)
    paths = itertools.product(*(spell.spellings(name) for name in names))
    candidates = ["/".join(path) for path in itertools.islice(paths, MOST_SPELLINGS)]
    if not candidates:
        raise SmbError("the server can have no folder of that name", errno=posix.ENOENT)
    return share, candidates


def _shown(names: Names, path: str) -> str:
    return "/".join(os.fsdecode(names.shown(name)) for name in path.split("/"))


def _waiting(call: Callable[[T], None]) -> Callable[[T], Awaitable[None]]:
    async def awaited(value: T) -> None:
        call(value)

    return awaited


async def _watch(
    share: Share,
    path: str,
    told: Callable[[Sequence[Notice]], Awaitable[None]],
    offline: Callable[[SmbError], Awaitable[None]],
    *,
    recursive: bool,
) -> None:
    watch = await share.watch(path, recursive=recursive)
    connected = True
    try:
        await told(())
        while True:
            try:
                notices = await watch.notices()
            except (ConnectionLost, Timeout) as error:
                if connected:
                    await offline(error)
                connected = False
                await trio.sleep(PAUSE_S)
                continue
            connected = True
            await told(notices)
    finally:
        await watch.aclose()
