"""The window: how much may be in flight. One for SMB2's credits and for SMB1's MaxMpxCount.

A request stands if it is answered when something happens, perhaps never (a notification of changes): the place that it
holds is nobody's meanwhile, so that no one waits for its answer.

A `Window` only counts. Whoever sends asks `admits`, then calls `take`; what comes back is told by `answered` (the cost
is no longer in flight) and `granted` (the server allows so much more). SMB2 calls the two separately, because credits
come back with whatever response carries them; SMB1 grants a request's cost back when it is answered.
"""

from typing import Final

MOST_CREDITS: Final = 0xFFFF  # what a hostile server grants beyond this is not counted


class Window:
    """Counts free and taken places. Contract: 0 <= `available`, 0 <= `taken`, whatever is granted.

    `standing` places are those of requests that stand: neither free nor taken. Whoever has such requests, one at a time
    and for long, asks `claim` first.

    `reserve` places are kept for urgent requests, so that an ECHO can leave while everything else waits; `bulk`
    requests leave a quarter of the window (at most 16 places) to the small ones. With nothing in flight every
    request that fits is admitted: a server that only ever grants one place must still be served.
    """

    __slots__ = ("available", "claims", "reserve", "standing", "taken")

    BULK_SHARE: Final = 4
    MOST_LEFT_BY_BULK: Final = 16

    def __init__(self, available: int, *, reserve: int = 0) -> None:
        self.available = available
        self.reserve = reserve
        self.taken = 0
        self.standing = 0
        self.claims = 0

    def __repr__(self) -> str:
        return f"<Window {self.available} free, {self.taken} taken>"

    @property
    def capacity(self) -> int:
        """Places there are for requests that are answered at once, as far as the server has granted them."""
        return self.available + self.taken

    def admits(self, cost: int, *, urgent: bool = False, bulk: bool = False) -> bool:
        """Tell whether a request that takes `cost` places may leave now."""
        if cost > self.available:
            return False
        if urgent or not self.taken:
            return True
        left = self.reserve
        if bulk:
            left += min(self.capacity // self.BULK_SHARE, self.MOST_LEFT_BY_BULK)
        return cost <= self.available - left

    def claim(self) -> bool:
        """Claim a place for requests that stand; refused if more than half of the places would stand then."""
        stands = max(self.claims, self.standing)
        if 2 * (stands + 1) + self.reserve > self.capacity + self.standing:
            return False
        self.claims += 1
        return True

    def disclaim(self) -> None:
        """Give back what `claim` gave: the last request that stands has been answered, or is given up."""
        self.claims -= 1

    def take(self, cost: int, *, standing: bool = False) -> None:
        """Take the places of a request that leaves now and that `admits` let pass."""
        self.available -= cost
        if standing:
            self.standing += cost
        else:
            self.taken += cost

    def answered(self, cost: int, *, standing: bool = False) -> None:
        """Note that a request which took `cost` places is no longer in flight. Frees nothing by itself."""
        if standing:
            self.standing -= cost
        else:
            self.taken -= cost

    def granted(self, count: int) -> None:
        """Add places that the server allows; what exceeds the ceiling is ignored, not an error."""
        self.available = min(self.available + count, MOST_CREDITS)
