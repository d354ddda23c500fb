"""Files that are removed while we have them open to write, on servers with the POSIX extensions.

Samba takes the name away at once and lets the handles go on, but for one thing: of a file without any name neither size
nor times can be set (4.22: OBJECT_NAME_NOT_FOUND). So the removal of such a file, which the filesystem has hidden
before, stays half done: a handle that deletes what it has opened when it is closed is kept until the last of the others
is closed. If we die before, the server closes it for us.
"""

from collections import Counter
from collections.abc import Callable


class Nameless:
    """Which files of a tree are open to write, by their number on disk, and the handles that will delete some."""

    def __init__(self, close: Callable[[bytes], object]) -> None:
        self._close = close
        self._writing: Counter[int] = Counter()
        self._deleting: dict[int, bytes] = {}

    @property
    def writing(self) -> bool:
        """Whether any file is open to write."""
        return bool(self._writing)

    def opened(self, file: int) -> None:
        """Count a handle that may write."""
        self._writing[file] += 1

    def closed(self, file: int) -> None:
        """Take a handle back; with the last one the file goes, if it was removed."""
        self._writing[file] -= 1
        if self._writing[file] <= 0:
            del self._writing[file]
            if (handle := self._deleting.pop(file, None)) is not None:
                self._close(handle)

    def keep(self, file: int, handle: bytes) -> bool:
        """Keep the `handle` that will delete a file, if the file is open to write and none is kept yet."""
        if file not in self._writing or file in self._deleting:
            return False
        self._deleting[file] = handle
        return True
