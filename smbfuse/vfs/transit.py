"""How many bytes of one file to have on their way at once, each way. Pure: told how long each request took.

A fixed number is too few where the way is long: 8 MiB every 50 ms are 160 MB/s, whatever the link carries. And more are
too many anywhere else, where they only wait in a queue that `ls` then stands in too. So it grows as long as requests
are answered hardly later than when there were few of them, which says that they did not wait for each other, and
shrinks again when they do: it is what was under way, times the shortest answer seen, over the one that has come, and
that twice. A way that becomes longer is not noticed until the file is opened again.
"""

from typing import Final

LEAST: Final = 8 << 20  # bytes: 8 requests where they are large
MOST: Final = 16 << 20
SPARE: Final = 2.0  # so many times what is on its way when nothing waits for anything: who answers is never idle


class Transit:
    """The bytes of one file that may be on their way in one direction."""

    __slots__ = ("_shortest_s", "bytes")

    def __init__(self) -> None:
        self.bytes = LEAST
        self._shortest_s = 0.0

    def __repr__(self) -> str:
        return f"<Transit {self.bytes} bytes, answers from {self._shortest_s:.4f} s on>"

    def answered(self, length: int, beside: int, elapsed_s: float) -> None:
        """Hear that a request for `length` bytes was answered; `beside` bytes were on their way when it was sent."""
        known = self._shortest_s
        self._shortest_s = min(elapsed_s, known) if known else elapsed_s
        if 2 * beside < self.bytes or elapsed_s <= 0:
            return  # there was room: it says nothing about the bound
        wanted = int(SPARE * beside * self._shortest_s / elapsed_s)
        self.bytes = max(LEAST, min(wanted, self.bytes + length, MOST))
