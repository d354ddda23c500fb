"""Names that were changed here lately, so that answers on their way cannot bring the old state back.

A question about a name may be sent, the name be removed by us, and the question be answered from before. Attributes are
safe from that by their own number (see `attrs`); a name that is gone has no record to keep one in, so it is kept here,
and the path to a folder's names is changed by a rename of any folder above it. A server that tells of changes tells
ours as well: `Echoes` knows them.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import trio

from smbfuse.vfs.inode import Folder

NAMES_MAX: Final = 4096  # far more than there are changes during any one question
ECHO_S: Final = 3.0  # after a change of ours in which the server tells it: Samba sets a write time up to 2 s later


class RecentChanges:
    """Which names were changed here, by folder and key, with the number that the next question had then."""

    def __init__(self, most: int = NAMES_MAX) -> None:
        self._most = most
        self._names: OrderedDict[tuple[int, str], int] = OrderedDict()
        self.echoes = Echoes()
        self._forgotten = 0  # the newest change that is no longer known

    def note(self, folder: Folder, key: str, number: int) -> None:
        """Remember that a name was changed: questions of lower numbers speak of an older state."""
        self._names[folder.ino, key] = number
        self._names.move_to_end((folder.ino, key))
        if len(self._names) > self._most:
            _, self._forgotten = self._names.popitem(last=False)

    def overtook(self, folder: Folder, key: str, number: int) -> bool:
        """Tell whether a name was changed here, or its folder moved, after question `number` was asked about it.

        A question that is older than everything known counts as overtaken: it costs one more, and no old answer.
        """
        if number < max(self._forgotten, self._names.get((folder.ino, key), 0)):
            return True
        return self.moved(folder, number)

    def moved(self, folder: Folder, number: int) -> bool:
        """Tell whether a folder, or one above it, was renamed here, or its lease broke, after question `number`."""
        at: Folder | None = folder
        while at is not None:
            if number < at.believed_from:
                return True
            at = at.parent
        return False


class Echoes:
    """What was changed here a moment ago: names by folder and key, files by inode."""

    def __init__(self) -> None:
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def note(self, what: Hashable) -> None:
        """Begin the moment of a change, or begin it anew."""
        now = trio.current_time()
        self._until[what] = now + ECHO_S
        self._until.move_to_end(what)
        while next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)

    def until(self, *whats: Hashable) -> float:
        """Return when the moment of the last of these changes is over; -inf: nothing of it is known."""
        return max((self._until.get(what, -math.inf) for what in whats), default=-math.inf)
