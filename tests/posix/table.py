"""What a dialect cannot have: each behaviour with what is given instead, and the section that says why.

The outcome is the errno that the program gets, or `differs` where it gets a result that POSIX does not know. An entry
that is not true any more fails the test as a lack that is not listed does.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple


class Lack(NamedTuple):
    """Where a behaviour is not had, how that shows, and why."""

    places: Sequence[str]
    outcome: str
    why: str


PLAIN: Final = ("1.0 nounix", "2.0", "2.1", "3.1.1", "3.1.1 sealed")  # servers that know no modes, owners and links

TABLE: Final[Mapping[str, Sequence[Lack]]] = {}


def lacks_of(place: str) -> dict[str, Lack]:
    """Return what the mount called `place` does not have, by behaviour."""
    return {name: lack for name, lacks in TABLE.items() for lack in lacks if place in lack.places}
