"""One share's tree connection, made again when it is lost; and how calls are repeated on it.

Whoever needs the tree while there is none shares one dial (the `Supervisor`'s) and one TREE_CONNECT with everybody
else. Each call names the session that it used, so that ten callers who lose the same connection cause one reconnect.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from smbfuse.client import departures
from smbfuse.client.replay import Doubt
from smbfuse.client.session import ServerClock, Session
from smbfuse.client.supervisor import FAREWELL_S, Supervisor
from smbfuse.errors import ConnectionLost, Exists, NotFound, SessionGone, SmbError, StatusError, Timeout
from smbfuse.share import Share
from smbfuse.status import NtStatus

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_REPEATS: Final = 4  # of one call that nothing gets past: a request that kills every connection is its own fault
MOST_LOSSES: Final = 64  # of one call, whatever else gets past
MOST_PATIENCE: Final = 4  # times `timeo`, from the first silence on: then the same


class _Turns:
    """Lets calls that are repeated leave in the order in which they began.

    A line that carries four requests and breaks would else break under the same one again and again, by chance.
    """

    def __init__(self) -> None:
        self._count = itertools.count()
        self._waiting: dict[int, trio.Event] = {}  # set: it may be the next one's turn

    def number(self) -> int:
        """Return the number of a call that begins."""
        return next(self._count)

    def wait(self, number: int) -> None:
        """Have a call wait for its turn from now on: it has lost its connection."""
        self._waiting[number] = trio.Event()

    async def come(self, number: int) -> None:
        """Wait until no older call waits."""
        while (first := min(self._waiting)) != number:
            self._waiting[first].set()
            await self._waiting[number].wait()
            self._waiting[number] = trio.Event()

    def leave(self, number: int) -> None:
        """Have a call wait no longer: it is made now, or never."""
        if self._waiting.pop(number, None) is not None and self._waiting:
            self._waiting[min(self._waiting)].set()


class Tree:
    """Keeps one tree connected for as long as a mount lives.

    `on_loss` is called at once and once for each tree that is lost: with its connection, its login, or by itself.
    """

    def __init__(self, supervisor: Supervisor, name: str, on_loss: Callable[[], None]) -> None:
        self.name = name
        self.incarnation = 0
        self.share: Share | None = None  # the last one connected, whether it stands or not
        self._supervisor = supervisor
        self._on_loss = on_loss
        self._session_incarnation = 0  # of the login that `share` belongs to; 0: the tree is gone
        self._clock: ServerClock | None = None
        self._connecting = trio.Lock()
        self._turns = _Turns()
        self._answered = 0  # calls

    def in_force(self, incarnation: int) -> bool:
        """Tell whether what was opened on `incarnation` of the tree still stands."""
        return incarnation == self.incarnation and self._supervisor.in_force(self._session_incarnation)

    async def repeat(self, call: Callable[[Share], Awaitable[T]], *, unsent_only: bool = False) -> T:
        """Make `call` on the share in force, and again on a new connection if the old one is lost meanwhile.

        The time without a connection is bounded by `timeo`, counted from the loss. A call that keeps losing its
        connection, while nothing else gets past it, is given up after a few repeats, or once it has lost one when
        `timeo` had passed since the first silence. Whatever gets past it, it is given up at last: a link may carry what
        is small, and swallow what is larger. `unsent_only`: it is repeated only if it surely never left; what a session
        that is gone refuses may be the last of several requests, so this counts as having left.
        Raises: what the call and a dial may raise; ConnectionLost is `sent` if any attempt was.
        """
        sent = False
        losses = in_vain = 0
        give_up_at = end_at = math.inf
        number = self._turns.number()
        while True:
            try:
                share, session_incarnation = await self._at_turn(number, again=losses > 0)
            except ConnectionLost as error:
                if not sent:
                    raise
                raise ConnectionLost(str(error), sent=True, errno=error.errno) from None
            answered = self._answered
            try:
                result = await call(share)
            except SessionGone as error:
                lost: SmbError = error
                sent = sent or unsent_only
            except ConnectionLost as error:
                lost = error
                sent = sent or error.sent
            else:
                self._answered += 1
                return result
            self._lost(share, session_incarnation, lost)
            losses += 1
            deadline = self._supervisor.deadline
            if self._answered == answered:
                in_vain += 1
                give_up_at = min(give_up_at, deadline)
            else:
                give_up_at = deadline
            end_at = min(end_at, deadline + (MOST_PATIENCE - 1) * self._supervisor.timeo_s)
            late = trio.current_time() >= min(give_up_at, end_at)
            if late or losses > MOST_LOSSES or in_vain > MOST_REPEATS or (sent and unsent_only):
                raise lost
            log.debug("repeated after a loss share=%s losses=%d reason=%s", self.name, losses, lost)

    async def once(
        self, call: Callable[[Share], Awaitable[T]], look: Callable[[Share, Doubt], Awaitable[T | None]]
    ) -> T:
        """Make a call that may not happen twice: whenever its answer is lost, `look` finds out what became of it.

        After a Timeout the request may still be executed: what `look` finds done is done, anything else stays a
        Timeout. The same holds for a loss after which the server cannot be asked.
        Raises: what the call and `look` may raise, ConnectionLost (sent: nobody knows), SessionGone, Timeout.
        """
        sent_at: float | None = None  # None: it never came so far
        lost_at = 0.0
        in_doubt = False
        repeats = 0

        async def attempt(share: Share) -> T:
            nonlocal sent_at
            if not in_doubt:
                sent_at = trio.current_time()
            with departures.noted() as departed:
                try:
                    return await call(share)
                except ConnectionLost as error:
                    if departed.any and not error.sent:
                        raise error.of_request(sent=True) from None
                    raise

        while True:
            try:
                return await self.repeat(attempt, unsent_only=True)
            except (ConnectionLost, SessionGone, Timeout) as error:
                if sent_at is None or (isinstance(error, ConnectionLost) and not error.sent):
                    raise
                in_doubt, lost_at = True, trio.current_time()
                lost: SmbError = error
            except (Exists, NotFound) as error:
                # Perhaps it was met by what an earlier attempt did after all, later than it was looked for.
                if sent_at is None or not in_doubt:
                    raise
                lost = error
            began, ended = sent_at, lost_at
            try:
                done = await self.repeat(lambda share: look(share, self.doubt(began, ended)))  # noqa: B023 # awaited here
            except (ConnectionLost, Timeout):
                raise lost from None
            except StatusError:
                if isinstance(lost, Timeout):
                    raise lost from None
                raise
            if done is not None:
                return done
            repeats += 1
            if repeats > MOST_REPEATS or not isinstance(lost, ConnectionLost | SessionGone):
                raise lost

    def doubt(self, sent_at: float, lost_at: float) -> Doubt:
        """Return two moments of ours by the server's clock."""
        if self._clock is None:
            return Doubt(None, None)
        return Doubt(self._clock.at(sent_at), self._clock.at(lost_at))

    async def aclose(self, before: Callable[[], Awaitable[None]]) -> None:
        """Disconnect, `before` that giving back what is open; the login stays for other shares. Never raises."""
        share, self.share = self.share, None
        if share is not None and self._session_incarnation == self._supervisor.incarnation:
            with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
                await before()
                await share.aclose()

    def _session_ended(self, session_incarnation: int) -> None:
        if session_incarnation == self._session_incarnation:
            self._session_incarnation = 0
            self._on_loss()

    def _lost(self, share: Share, session_incarnation: int, why: SmbError) -> None:
        gone = isinstance(why, SessionGone) and why.status == NtStatus.NETWORK_NAME_DELETED
        if not gone:
            self._supervisor.discard(session_incarnation, why)
        elif self.share is share:
            self._session_ended(self._session_incarnation)  # only the tree is gone; the login still holds

    async def _at_turn(self, number: int, *, again: bool) -> tuple[Share, int]:
        """Return what `_current` does; for a call that is made `again`, when no older one waits for the same."""
        if not again:
            return await self._current()
        self._turns.wait(number)
        try:
            await self._current()
            await self._turns.come(number)
            return await self._current()
        finally:
            self._turns.leave(number)

    async def _current(self) -> tuple[Share, int]:
        """Return the share of the connection in force, waiting for one as `Supervisor.session` does.

        A share that was there and is not any more is lost like a connection: no name in it is known to be gone.
        """
        hurry = True
        while True:
            if self.share is not None and self._supervisor.in_force(self._session_incarnation):
                return self.share, self._session_incarnation
            session, session_incarnation = await self._supervisor.session(hurry=hurry)
            hurry = False  # if that session is of no use, the next one may wait its time
            try:
                with trio.fail_after(self._supervisor.timeo_s):
                    async with self._connecting:
                        if self.share is None or self._session_incarnation != session_incarnation:
                            await self._connect(session, session_incarnation)
            except trio.TooSlowError:
                raise Timeout(f"{self.name}: not connected within {self._supervisor.timeo_s:g} s") from None
            except NotFound as error:
                if not self.incarnation:
                    raise
                raise ConnectionLost(f"the server has the share {self.name} no longer: {error}", sent=False) from None
            except SessionGone as error:
                self._supervisor.discard(session_incarnation, error)
            except ConnectionLost:
                if not self.incarnation:
                    raise

    async def _connect(self, session: Session, session_incarnation: int) -> None:
        share = await session.connect_share(self.name)
        self.share, self._session_incarnation = share, session_incarnation
        self._clock = session.clock
        self.incarnation += 1
        if self.incarnation == 1:
            self._supervisor.on_loss(self._session_ended)
        self._supervisor.proven(session_incarnation)
