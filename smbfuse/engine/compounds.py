"""How a server takes compounds: sent whole where it executes them, unrolled where it does not, and finding out which.

Some servers do not execute compounds. Unrolled, the elements go out one by one, and the FileId that the CREATE gave is
put in where a related request says "the file just opened". So does a compound that the window is too small for. Whoever
submitted it sees the same replies either way. A server that opens the file of its first compound but does not know what
"just opened" means is found out here, by its answers; one that breaks down over a compound whose CREATE fails (scapy
2.8.0) is found out by the next connection, from `unanswered`.

[MS-SMB2] 3.2.4.1.4 (sending), 3.3.5.2.7.2 (what a server makes of it).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from smbfuse.status import NtStatus

if TYPE_CHECKING:
    from smbfuse.engine.smb2_exchange import Smb2Exchange

log = logging.getLogger(__name__)

# What is said of a related request by a server that does not know which file it means.
_WHICH_FILE: Final = frozenset(
    {
        NtStatus.INVALID_PARAMETER,
        NtStatus.INVALID_HANDLE,
        NtStatus.FILE_CLOSED,
        NtStatus.NOT_SUPPORTED,
        NtStatus.NOT_IMPLEMENTED,
    }
)


class Compounds:
    """What one connection knows of its server's compounds. `enabled` may be switched off at any time, never on."""

    def __init__(self) -> None:
        self.enabled = True
        self.related_works = False  # a related request has been carried out
        self.refused = False  # a compound whose CREATE failed has been answered as it should be
        self.unanswered = False  # the connection ended while a compound was under way

    def __repr__(self) -> str:
        return f"<Compounds {'enabled' if self.enabled else 'given up'}>"

    def learn_from(self, before: Compounds, *, ended_by_peer: bool) -> None:
        """Take over what the mount's previous connection has found out.

        scapy's server (2.8.0) breaks down over the first compound whose CREATE fails, and ends the connection. Whoever
        sees a connection end so, and has never seen such a compound answered, does without compounds from then on: a
        stat takes three round trips then, but no name that is not there ends the connection again.
        """
        broke_down = ended_by_peer and before.unanswered and not before.refused
        if broke_down and before.enabled:
            log.info("the server ended the connection over a compound: requests go out one by one")
        self.enabled = before.enabled and not broke_down
        self.refused = before.refused

    def leave_together(self, exchange: Smb2Exchange, *, fits: bool) -> Sequence[int]:
        """Return which requests of the exchange leave now: all, or the next one of an unrolled compound.

        `fits`: the window has room for all of them, if not now then once it is empty.
        """
        count = len(exchange.requests)
        if exchange.answers:
            return (len(exchange.answers),)
        return range(count) if count == 1 or (self.enabled and fits) else (0,)

    def go_on(self, exchange: Smb2Exchange) -> bool:
        """Look at what has been answered of an exchange of which nothing is under way; tell whether more is to be sent.

        A whole compound that only its CREATE has survived is begun again behind that. An unrolled one goes on unless
        there is no file to go on with: then its replies end with the CREATE.
        Raises: DecodeError (a CREATE response without a FileId), after which the exchange must still be ended.
        """
        count = len(exchange.requests)
        if len(exchange.answers) == count > 1 and exchange.file_id is None:
            self._judge(exchange)
        if len(exchange.answers) == count:
            return False
        created = exchange.answers[0]
        if exchange.file_id is None and created.status == NtStatus.SUCCESS:
            exchange.file_id = created.created_file_id()
        return exchange.file_id is not None

    def _judge(self, exchange: Smb2Exchange) -> None:
        created, *related = (exchange.answers[index] for index in range(len(exchange.requests)))
        if created.status != NtStatus.SUCCESS:
            if any(reply.status == NtStatus.SUCCESS for reply in related):
                # Done with what was opened before, by somebody else (scapy 2.8.0): never again.
                self._give_up()
            else:
                self.refused = True
        elif any(reply.status not in _WHICH_FILE for reply in related):
            self.related_works = True
        elif not self.related_works:
            self._give_up()
            exchange.answers = {0: created}

    def _give_up(self) -> None:
        if self.enabled:
            log.info("the server does not execute compounds: requests go out one by one")
            self.enabled = False
