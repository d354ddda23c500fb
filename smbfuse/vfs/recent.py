"""Names that were changed here lately, so that answers on their way cannot bring the old state back.

A question about a name may be sent, the name be removed by us, and the question be answered from before. Attributes are
safe from that by their own number (see `attrs`); a name that is gone has no record to keep one in, so it is kept here,
and the path to a folder's names is changed by a rename of any folder above it.
"""

from collections import OrderedDict
from typing import Final

from smbfuse.vfs.inode import Folder

NAMES_MAX: Final = 4096  # far more than there are changes during any one question


class RecentChanges:
    """Which names were changed here, by folder and key, with the number that the next question had then."""

    def __init__(self, most: int = NAMES_MAX) -> None:
        self._most = most
        self._names: OrderedDict[tuple[int, str], int] = OrderedDict()
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
