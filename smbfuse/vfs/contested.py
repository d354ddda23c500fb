"""Files that another client has just laid hands on, as the break of a grant tells.

A break comes before what it is for: the other client goes on to write, rename or remove the file when we have answered,
or without waiting for that where reading alone was granted. What the server says meanwhile is of the time before, and
would be believed for its time limit. So for a moment nothing of such a file is believed, neither here nor by the
kernel, and every question about it goes to the server.
"""

from typing import Final

import trio

MOMENT_S: Final = 2.0  # for the answer to arrive and the other client to do what it came for
PRUNED_AT: Final = 256  # files remembered before those whose moment has passed are looked for


class Contested:
    """The inodes of such files, and until when."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def note(self, ino: int) -> None:
        """Begin the moment of a file, or begin it anew."""
        now = trio.current_time()
        if len(self._until) >= PRUNED_AT:
            self._until = {one: until for one, until in self._until.items() if until > now}
        self._until[ino] = now + MOMENT_S

    def __contains__(self, ino: int) -> bool:
        until = self._until.get(ino)
        return until is not None and trio.current_time() < until
