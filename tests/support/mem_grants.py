"""Leases in memory: what is granted, what breaks it, and who is kept waiting for the answer.

The rules are the server's.  [MS-FSA] 2.1.5.18 (granting), 2.1.4.12 (breaking); [MS-SMB2] 3.3.4.7. Another open takes
WRITE back, a write or a truncation everything, a deletion and a renaming HANDLE; an opener with the same key takes
nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import trio

from smbfuse.share import Caching, GrantHolder

NOTHING: Final = Caching.NONE
EVERYTHING: Final = Caching.READ | Caching.WRITE | Caching.HANDLE
PATIENCE_S: Final = 35.0  # how long a server waits for the answer to a break


@dataclass(eq=False)
class Grant:
    """What one holder may keep of one file or folder, however often it has it open."""

    holder: GrantHolder
    client: object  # the share whose connection it came by
    caching: Caching
    opens: int = 0
    lapsed: bool = False  # never acknowledged: its handles are worth nothing
    answered: trio.Event | None = None  # while the server waits for an acknowledgement
    answers: list[Caching] = field(default_factory=list)  # every acknowledgement so far

    def take(self, remaining: Caching) -> None:
        """Take back what is not in `remaining`, and tell the holder; who waits for the answer waits for `answered`."""
        taken = self.caching & ~remaining
        self.caching &= remaining
        must_answer = bool(taken & (Caching.WRITE | Caching.HANDLE))
        if must_answer and self.answered is None:
            self.answered = trio.Event()
        self.holder.broken(self.caching, acknowledge=must_answer)

    def acknowledge(self, remaining: Caching) -> None:
        """Hear the holder's answer."""
        self.answers.append(remaining)
        self.settle()

    def settle(self) -> None:
        """Let go who waits: by an answer, the last close, or the connection's end."""
        if self.answered is not None:
            self.answered.set()
            self.answered = None


def join(
    grants: list[Grant], holder: GrantHolder, client: object, wanted: Caching, *, others: bool, oplock: bool
) -> Grant:
    """Open once more under a holder's key and return its grant: larger than before if nobody else is there.

    `others`: whether anybody with another key has it open. An oplock is all or reading alone.
    """
    grant = next((grant for grant in grants if grant.holder.key == holder.key and grant.client is client), None)
    if grant is None:
        grant = Grant(holder, client, NOTHING)
        grants.append(grant)
    allowed = wanted & ~Caching.WRITE if others else wanted
    if Caching.READ not in allowed:
        allowed = NOTHING  # [MS-SMB2] 3.3.5.9.8: no lease without READ
    if oplock and Caching.WRITE not in allowed:
        allowed &= Caching.READ
    if grant.answered is None:
        grant.caching |= allowed
    grant.opens += 1
    return grant


async def contend(
    grants: Iterable[Grant], taken: Caching, key: bytes | None, *, waits_for: Caching, oplock: bool
) -> None:
    """Take `taken` back from every holder but the one with `key`; wait for those that lose something of `waits_for`.

    A holder that does not answer within the server's patience keeps nothing, and its handles are void.
    """
    waiting = []
    for grant in list(grants):
        if grant.holder.key == key or not grant.caching & taken:
            if grant.holder.key != key and grant.answered is not None and waits_for:
                waiting.append(grant)  # somebody else's break is still under way
            continue
        remaining = grant.caching & ~taken
        if Caching.READ not in remaining:
            remaining = NOTHING
        if oplock:
            remaining &= Caching.READ
        lost = grant.caching & ~remaining
        grant.take(remaining)
        if lost & waits_for:
            waiting.append(grant)
    for grant in waiting:
        with trio.move_on_after(PATIENCE_S):
            while grant.answered is not None:
                await grant.answered.wait()
        if grant.answered is not None:
            grant.caching = NOTHING
            grant.lapsed = True
            grant.settle()
