"""What is open on a share, and under which path: renames take the paths along, holders of grants hear of a loss."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import trio

from smbfuse.client.relisting import ReconnectingDirectory
from smbfuse.client.reopening import ReconnectingFile
from smbfuse.client.rewatching import ReconnectingWatch
from smbfuse.share import Caching, GrantHolder

if TYPE_CHECKING:
    from smbfuse.client.reopening import Reopening


class Holding:
    """A `GrantHolder` for as long as one connection lasts: it passes on that grants are lost once, whoever says so."""

    __slots__ = ("__weakref__", "_over", "holder", "key")

    def __init__(self, holder: GrantHolder) -> None:
        self.key = holder.key
        self.holder = holder
        self._over = False

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        """See `GrantHolder.broken`."""
        if not self._over:
            self.holder.broken(remaining, acknowledge=acknowledge)

    def lost(self) -> None:
        """See `GrantHolder.lost`."""
        if not self._over:
            self._over = True
            self.holder.lost()

    def regained(self) -> None:
        """See `GrantHolder.regained`."""
        if not self._over:
            self.holder.regained()


class Renaming:
    """A rename under way."""

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.ended = trio.Event()


class OpenHandles:
    """The open files and listings of one share. `case_matters` tells whether names differ by case alone."""

    def __init__(self, case_matters: Callable[[], bool]) -> None:
        self._case_matters = case_matters
        self._open: set[Reopening] = set()
        self._renaming: set[Renaming] = set()
        # Of the present connection, by the identity of the holder, which each of them keeps alive.
        self._holdings: weakref.WeakValueDictionary[int, Holding] = weakref.WeakValueDictionary()

    def holding(self, holder: GrantHolder | None) -> Holding | None:
        """Return who stands for `holder` on the present connection: the same for all its opens."""
        if holder is None:
            return None
        holding = self._holdings.get(id(holder))
        if holding is None:
            holding = self._holdings[id(holder)] = Holding(holder)
        return holding

    def add(self, handle: Reopening) -> None:
        """Record that `handle` was opened."""
        self._open.add(handle)

    def discard(self, handle: Reopening) -> None:
        """Record that `handle` was given back."""
        self._open.discard(handle)

    def files_at(self, path: str) -> list[ReconnectingFile]:
        """Return the files that are open under `path`."""
        return [one for one in self._open if isinstance(one, ReconnectingFile) and self._same(one.path, path)]

    def removed(self, path: str) -> None:
        """Hear that `path` was removed: what is open under it has no name any more."""
        for handle in self._open:
            if self._same(handle.path, path):
                handle.path = None

    @contextlib.contextmanager
    def renaming(self, source: str, target: str) -> Iterator[None]:
        """Go through a rename; left without an exception, it has happened: the paths follow it."""
        renaming = Renaming(source, target)
        self._renaming.add(renaming)
        try:
            yield
            if not self._same(source, target):
                self.removed(target)
            for handle in self._open:
                if handle.path is not None and (rest := self._below(handle.path, source)) is not None:
                    handle.path = "/".join([target, *rest])
        finally:
            self._renaming.discard(renaming)
            renaming.ended.set()

    async def renames_ended(self, path: str) -> bool:
        """Wait for the renames under way that concern `path`; return whether there were any."""
        concerned = [
            one
            for one in self._renaming
            if self._below(path, one.source) is not None or self._below(path, one.target) is not None
        ]
        for renaming in concerned:
            await renaming.ended.wait()
        return bool(concerned)

    def lost(self) -> None:
        """Tell every holder that has something open that its grant has ended with the connection, and every watch."""
        self._holdings.clear()
        for handle in tuple(self._open):
            if isinstance(handle, ReconnectingWatch):
                handle.lost()
            if handle.holding is not None:
                handle.holding.lost()
                handle.holding = self.holding(handle.holding.holder)

    async def aclose(self) -> None:
        """Give everything back."""
        for handle in tuple(self._open):
            if isinstance(handle, ReconnectingFile | ReconnectingDirectory | ReconnectingWatch):
                await handle.aclose()

    def _same(self, one: str | None, other: str) -> bool:
        return one is not None and self._folded(one) == self._folded(other)

    def _below(self, path: str, folder: str) -> list[str] | None:
        """Return the components of `path` below `folder`, none if it is `folder` itself; None: it is not below."""
        components, above = path.split("/"), self._folded(folder).split("/")
        if self._folded(path).split("/")[: len(above)] != above:
            return None
        return components[len(above) :]

    def _folded(self, path: str) -> str:
        return path if self._case_matters() else path.upper()
