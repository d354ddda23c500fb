"""Keeping a mount's login alive: one session at a time, dialled again when it is lost, and never a lesser one.

A refused login is final: repeating it could lock the account.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

import trio

from smbfuse.client.session import Identity, Session
from smbfuse.errors import AuthenticationFailed, ConnectionLost, SecurityRefused, SmbError

log = logging.getLogger(__name__)

FAREWELL_S: Final = 3.0  # longest that leaving may take


class Dial(Protocol):
    """Makes one connection with its login; its tasks live in the given nursery."""

    async def __call__(self, nursery: trio.Nursery) -> Session: ...


class Supervisor:
    """Keeps one session alive for as long as a mount lives.

    `await session()` gives the session in force and its incarnation, dialling if there is none.
    """

    def __init__(self, dial: Dial, nursery: trio.Nursery, *, timeo_s: float) -> None:
        self._dial = dial
        self._nursery = nursery
        self.timeo_s = timeo_s
        self.incarnation = 0
        self.last_error: SmbError | None = None
        self._session: Session | None = None
        self._identity: Identity | None = None
        self._peer = ""  # address of the first connection
        self.final: SmbError | None = None  # set: no dial will ever be tried again
        self._outcome: trio.Event | None = None  # set when the dial under way has ended, either way
        self._mourners: list[Callable[[int], None]] = []

    async def session(self) -> tuple[Session, int]:
        """Return the session in force and its incarnation, waiting for a dial at most until the caller's deadline.

        Raises: AuthenticationFailed and SecurityRefused (final), ConnectionLost (the dial failed).
        """
        while True:
            if self.final is not None:
                raise self.final
            if self._session is not None and self._session.connection.lost_because is None:
                return self._session, self.incarnation
            if self._outcome is None:
                self._outcome = trio.Event()
                self._nursery.start_soon(self._connect, self._outcome)
            outcome = self._outcome
            await outcome.wait()
            if self._session is None and self.final is None and self.last_error is not None:
                raise self.last_error

    def in_force(self, incarnation: int) -> bool:
        """Tell whether the session of `incarnation` is the present one, and its connection stands."""
        session = self._session
        return incarnation == self.incarnation and session is not None and session.connection.lost_because is None

    def discard(self, incarnation: int, why: SmbError) -> None:
        """Give up the session of `incarnation`, if it is still the one in force: it no longer works."""
        if incarnation == self.incarnation and self._session is not None:
            self._session.connection.abort(ConnectionLost(str(why), sent=True))
            self._session = None

    def on_loss(self, hear: Callable[[int], None]) -> None:
        """Have `hear` called with the incarnation of each session whose connection ends, at once; it must not block."""
        self._mourners.append(hear)

    async def aclose(self) -> None:
        """Log off and end; later calls fail at once. Never raises."""
        self.final = ConnectionLost("the mount is being closed", sent=False)
        session, self._session = self._session, None
        if session is not None:
            with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
                await session.aclose()

    def _ended(self, incarnation: int) -> None:
        for hear in self._mourners:
            hear(incarnation)

    async def _connect(self, outcome: trio.Event) -> None:
        try:
            session = await self._dial(self._nursery)
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
            self._session = session
            self._identity = self._identity or session.identity
            self._peer = self._peer or session.connection.stream.peer
            self.incarnation += 1
            session.connection.on_ended = functools.partial(self._ended, self.incarnation)
            self.last_error = None
            if self.incarnation > 1:
                log.info("connected again peer=%s incarnation=%d", session.connection.stream.peer, self.incarnation)
        except (AuthenticationFailed, SecurityRefused) as error:
            self.final = self.last_error = error
            if self.incarnation:
                log.error("not connected again, and not tried any more: %s", error)
        except SmbError as error:
            self.last_error = error
        finally:
            self._outcome = None
            outcome.set()

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
