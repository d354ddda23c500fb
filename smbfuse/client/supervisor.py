"""Keeping a mount's login alive: one session at a time, dialled again when it is lost, and never a lesser one.

Theory of operation. One task dials whenever there is no connection, whether somebody asks or not; callers wait for it
or are answered at once, by what `Outage` decides. The states, and what becomes of a caller in each:

| state       | how it is entered                                   | a caller …                                       |
|-------------|-----------------------------------------------------|--------------------------------------------------|
| `connected` | a dial and its login succeeded; a byte has come     | is served                                        |
| `probing`   | a silence, a sleep, a change of network: an ECHO is | is served, and knows after 10 s of silence       |
|             | out, and nothing has come since                     |                                                  |
| `lost`      | the connection has ended, or did not bear a tree    | waits, until `timeo` after the silence began     |
| `dialling`  | at once after a loss or a change of network, and    | waits as before; after the deadline: EHOSTDOWN   |
|             | after each pause                                    | at once                                          |
| `waiting`   | a dial has failed: a pause, doubled up to 10 s      | waits as before; after the deadline: EHOSTDOWN   |
|             | while somebody waits, up to a minute else           | at once; the next dial comes within a second     |
| `refused`   | the login was refused, or less protection offered   | gets the reason, at once and for good            |
| `ended`     | the mount is being closed                           | EHOSTDOWN, at once                               |

A refused login is final: repeating it could lock the account. A ticket that Kerberos does not give is none: the user
may get one at any time.
"""

from __future__ import annotations

import enum
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

import trio

from smbfuse.client.outage import Outage
from smbfuse.client.session import Identity, Session
from smbfuse.errors import AuthenticationFailed, ConnectionLost, NoTicket, SecurityRefused, SmbError

log = logging.getLogger(__name__)

FAREWELL_S: Final = 3.0  # longest that leaving may take
PROVEN_AFTER_S: Final = 10.0  # of life: then a connection was good, whether it bore a tree or not
STUCK_AFTER_S: Final = 3.0  # a dial that has taken so long is begun anew when the network changes


class State(enum.Enum):
    """What there is of a connection; see the module's table."""

    CONNECTED = "connected"
    PROBING = "probing"
    LOST = "lost"
    DIALLING = "dialling"
    WAITING = "waiting"
    REFUSED = "refused"
    ENDED = "ended"


# Where each state may lead. PROBING is CONNECTED with a doubt: only the connection itself knows of it.
NEXT: Final[Mapping[State, frozenset[State]]] = {
    State.CONNECTED: frozenset({State.PROBING, State.LOST, State.ENDED}),
    State.PROBING: frozenset({State.CONNECTED, State.LOST, State.ENDED}),
    State.LOST: frozenset({State.DIALLING, State.ENDED}),
    State.DIALLING: frozenset({State.CONNECTED, State.WAITING, State.REFUSED, State.ENDED}),
    State.WAITING: frozenset({State.DIALLING, State.ENDED}),
    State.REFUSED: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}


class Dial(Protocol):
    """Makes one connection with its login; its tasks live in the given nursery."""

    async def __call__(self, nursery: trio.Nursery) -> Session: ...


News = Callable[[Callable[[], None]], Awaitable[None]]
"""Calls what it is given whenever the network has changed, until it is cancelled."""


class Supervisor:
    """Keeps one session alive for as long as a mount lives.

    `await session()` gives the session in force and its incarnation, dialling if there is none.
    """

    def __init__(self, dial: Dial, nursery: trio.Nursery, *, timeo_s: float, news: News | None = None) -> None:
        self._dial = dial
        self._nursery = nursery
        self._news = news
        self.timeo_s = timeo_s  # math.inf: callers wait until they are released
        self.incarnation = 0
        self.asleep = False  # this machine is about to be, or is
        self.last_error: SmbError | None = None
        self.final: SmbError | None = None  # set: no dial will ever be tried again
        self._state = State.LOST
        self._outage: Outage | None = None  # until the next connection has proven itself; None before the first one
        self._session: Session | None = None
        self._connected_at = 0.0
        self._identity: Identity | None = None
        self._peer = ""  # address of the first connection
        self._keeping = False  # the task that dials is there
        self._turn = trio.Event()  # set and replaced whenever callers or the dialling task have something to look at
        self._waiting = 0  # callers
        self._dial_scope: trio.CancelScope | None = None
        self._dial_began = 0.0
        self._listening = trio.CancelScope()
        self._mourners: list[Callable[[int], None]] = []

    @property
    def state(self) -> State:
        session = self._session
        if self._state is State.CONNECTED and session is not None and session.connection.probing:
            return State.PROBING
        return self._state

    @property
    def reachable(self) -> bool:
        """Whether there is a connection, or it has been lost only just now: what is asked will soon be answered."""
        if self.asleep:
            return False
        if self._session is not None or self._outage is None:
            return self.final is None
        return self.final is None and trio.current_time() < self._outage.lasting_at

    @property
    def deadline(self) -> float:
        """Until when those wait who have just lost the connection."""
        return trio.current_time() + self.timeo_s if self._outage is None else self._outage.deadline

    async def session(self, *, hurry: bool = True) -> tuple[Session, int]:
        """Return the session in force and its incarnation, waiting for a dial until the outage's deadline at most.

        Before the first connection only one dial is waited for. `hurry`: the next dial shall come soon for this.
        Raises: AuthenticationFailed and SecurityRefused (final); ConnectionLost (EHOSTDOWN: there is none, and it is
        dialled for); before the first connection whatever the dial may raise.
        """
        while True:
            if self.final is not None:
                raise self.final
            if self._session is not None and self._session.connection.lost_because is None:
                return self._session, self.incarnation
            if self.incarnation == 0:
                await self._first_dial()
                continue
            outage = self._outage
            assert outage is not None, "lost without an outage"
            if hurry and outage.ask(trio.current_time()):
                self._tell()
            hurry = False  # once for each caller: who goes on waiting leaves the pauses as they are
            if trio.current_time() >= outage.deadline:
                raise self._down(outage)
            await self._wait(outage.deadline)

    def in_force(self, incarnation: int) -> bool:
        """Tell whether the session of `incarnation` is the present one, and its connection stands."""
        session = self._session
        return incarnation == self.incarnation and session is not None and session.connection.lost_because is None

    def proven(self, incarnation: int) -> None:
        """Hear that the session of `incarnation` is of use: its loss would be a new outage, not the old one."""
        if self.in_force(incarnation):
            self._outage = None

    def discard(self, incarnation: int, why: SmbError) -> None:
        """Give up the session of `incarnation`, if it is still the one in force: it no longer works."""
        if incarnation == self.incarnation and self._session is not None:
            self._session.connection.abort(ConnectionLost(str(why), sent=True))

    def release(self) -> None:
        """Answer everybody who waits at once, however long `timeo` is, until there is a new connection."""
        if self._session is not None:
            self.discard(self.incarnation, ConnectionLost("released: nobody waits any more", sent=True))
        if self._outage is not None:
            self._outage.release()
        self._tell()

    def network_changed(self) -> None:
        """Hear that an address or a route has come or gone: ask the server for a sign of life, or dial now."""
        if self._session is not None:
            self._session.connection.doubt()
        if self._outage is not None and self._outage.hurry(trio.current_time()):
            self._tell()
        if self._dial_scope is not None and trio.current_time() - self._dial_began > STUCK_AFTER_S:
            self._dial_scope.cancel()

    def on_loss(self, hear: Callable[[int], None]) -> None:
        """Have `hear` called with the incarnation of each session whose connection ends, at once; it must not block."""
        self._mourners.append(hear)

    async def aclose(self) -> None:
        """Log off and end; later calls fail at once. Never raises."""
        self.final = ConnectionLost("the mount is being closed", sent=False)
        self._enter(State.ENDED)
        self._listening.cancel()
        if self._dial_scope is not None:
            self._dial_scope.cancel()
        session, self._session = self._session, None
        if session is not None:
            with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
                await session.aclose()

    # -- losing

    def _ended(self, incarnation: int) -> None:
        """Hear that the connection of `incarnation` has ended."""
        for hear in self._mourners:
            hear(incarnation)
        if self.final is not None or incarnation != self.incarnation or self._session is None:
            return
        connection = self._session.connection
        self._session = None
        self.last_error = connection.lost_because
        now = trio.current_time()
        if self._outage is None or now - self._connected_at >= PROVEN_AFTER_S:
            silent_since = connection.silent_since
            self._outage = Outage(now if silent_since is None else silent_since, self.timeo_s, now)
        else:
            self._outage.failed(now, waiting=self._waiting > 0)  # it bore nothing: the outage goes on
        self._enter(State.LOST)
        if not self._keeping:
            try:
                self._nursery.start_soon(self._keep)
            except RuntimeError:  # the nursery is closed: the mount has ended without its farewell
                log.debug("nobody is left to dial for")
            else:
                self._keeping = True

    def _down(self, outage: Outage) -> ConnectionLost:
        reason = f": {self.last_error}" if self.last_error is not None else ""
        return ConnectionLost(f"no connection for {trio.current_time() - outage.began:.0f} s{reason}", sent=False)

    def _enter(self, state: State) -> None:
        if state is self._state:
            return
        assert state in NEXT[self._state], f"{self._state} cannot become {state}"
        log.debug("connection is %s, was %s", state.value, self._state.value)
        self._state = state
        self._tell()

    async def _wait(self, deadline: float) -> None:
        self._waiting += 1
        try:
            with trio.move_on_at(deadline):
                await self._turn.wait()
        finally:
            self._waiting -= 1

    def _tell(self) -> None:
        """Wake everybody who waits: there is something to look at."""
        self._turn.set()
        self._turn = trio.Event()

    # -- dialling

    async def _first_dial(self) -> None:
        """Wait for the first dial, which the first caller has begun.  Raises: what it ends with."""
        if not self._keeping:
            self._keeping = True
            self._nursery.start_soon(self._dial_first)
        while self._keeping:
            await self._turn.wait()
        if self.incarnation == 0 and self.final is None and self.last_error is not None:
            raise self.last_error

    async def _dial_first(self) -> None:
        try:
            await self._connect()
        finally:
            self._keeping = False
            self._tell()
        if self._session is not None and self._news is not None:
            with self._listening:
                await self._news(self.network_changed)

    async def _keep(self) -> None:
        """Dial until there is a session, or none can be any more."""
        try:
            while self._session is None and self.final is None:
                outage = self._outage
                assert outage is not None, "dialling again without an outage"
                with trio.move_on_at(outage.dial_at) as pause:
                    await self._turn.wait()
                if not pause.cancelled_caught:
                    continue  # the time may have changed
                await self._connect()
                if self._session is None:
                    outage.failed(trio.current_time(), waiting=self._waiting > 0)
        finally:
            self._keeping = False

    async def _connect(self) -> None:
        """Dial once; afterwards there is a session, a final refusal, or `last_error`."""
        if self.final is not None:
            return
        self._enter(State.DIALLING)
        self._dial_began = trio.current_time()
        with trio.CancelScope() as self._dial_scope:
            try:
                await self._accept(await self._dial(self._nursery))
            except NoTicket as error:
                if self.incarnation and not isinstance(self.last_error, NoTicket):
                    log.warning("not connected again as long as there is no ticket: %s", error)
                self.last_error = error
            except (AuthenticationFailed, SecurityRefused) as error:
                self.final = self.last_error = error
                self._enter(State.REFUSED)
                if self.incarnation:
                    log.error("not connected again, and not tried any more: %s", error)
            except SmbError as error:
                self.last_error = error
        self._dial_scope = None
        if self._state is State.DIALLING:
            self._enter(State.WAITING)

    async def _accept(self, session: Session) -> None:
        """Take a new session into use, if it is no lesser one than the first.  Raises: SecurityRefused."""
        known = self._identity
        if known is not None and known.server and session.identity.server != known.server:
            session = await self._dial_again(session, known)
        worse = self._identity.accepts(session.identity) if self._identity is not None else None
        if worse is not None:
            session.connection.abort(ConnectionLost(worse, sent=False))
            raise SecurityRefused(f"not connected again: {worse}; unmount and mount again if that is intended")
        if self.final is not None:
            await session.aclose()
            return
        if session.connection.lost_because is not None:
            raise session.connection.lost_because
        self._session = session
        self._connected_at = trio.current_time()
        self._identity = self._identity or session.identity
        self._peer = self._peer or session.connection.stream.peer
        self.incarnation += 1
        session.connection.on_ended = functools.partial(self._ended, self.incarnation)
        self.last_error = None
        self._enter(State.CONNECTED)
        if self.incarnation > 1:
            log.info("connected again peer=%s incarnation=%d", session.connection.stream.peer, self.incarnation)

    async def _dial_again(self, session: Session, known: Identity) -> Session:
        """Dial a server that is not the one we know once more, and return the new session.

        A server that is a third one then, always behind the address of the first, names its connections and not
        itself (scapy 2.8.0 draws a ServerGuid for each): what it says of itself counts no longer. Behind another
        address it is one of several servers, and not ours.
        """
        another = session.identity.server
        peers = {self._peer, session.connection.stream.peer}
        session.connection.abort(ConnectionLost("another server answered", sent=False))
        session = await self._dial(self._nursery)
        peers.add(session.connection.stream.peer)
        if len(peers) == 1 and another and session.identity.server not in (known.server, another, b""):
            log.info("the server calls itself otherwise on each connection: its name counts no longer")
            self._identity = replace(known, server=b"")
        return session
