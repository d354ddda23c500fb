"""What a login gives, whatever the dialect: the seam between dialing and sharing."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self

import trio

from smbfuse.client.connection import FAREWELL_S, Connection
from smbfuse.config import Sec
from smbfuse.errors import ConnectionLost, SmbError
from smbfuse.security.login import LoginExchange
from smbfuse.share import Share, ShareStatistics
from smbfuse.wire.dtyp import filetime_to_ns
from smbfuse.wire.srvsvc import ShareInfo

log = logging.getLogger(__name__)

MOST_LOGIN_LEGS: Final = 10  # NTLM takes 2, Kerberos 1 or 2

_kerberos_steps = trio.CapacityLimiter(4)  # tickets may take seconds; the default limiter is shared by everything


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered, and how well protected: a later connection of the same mount must be no less.

    Ranks grow with strength, so that two identities compare field by field: `dialect` is the DialectRevision (SMB1: 1);
    `signing` and `sealing` are 0 for none. `server` is the ServerGuid (SMB1: the challenge-free identity, b"" when the
    server gives none).
    """

    dialect: int
    signing: int
    sealing: int
    server: bytes

    def accepts(self, later: "Identity") -> str | None:
        """Return None if `later` may replace this identity, else what became worse, in words for the user."""
        if self.server and later.server != self.server:
            return "another server answered"
        if later.dialect < self.dialect:
            return "the server offers an older dialect than before"
        if later.signing < self.signing:
            return "the server offers weaker signing than before"
        if later.sealing < self.sealing:
            return "the server offers weaker encryption than before"
        return None


class ServerClock(NamedTuple):
    """What the server's clock said at a moment of ours: which of two things came first is asked of one clock only."""

    told_ns: int  # since 1970
    heard_at: float  # trio's clock, seconds

    @classmethod
    def told(cls, system_time: int, heard_at: float) -> Self | None:
        """Return the clock of a NEGOTIATE answer's SystemTime (a FILETIME), or None if it holds no time."""
        told_ns = filetime_to_ns(system_time)
        return None if told_ns is None else cls(told_ns, heard_at)

    def at(self, moment: float) -> int:
        """Return what the server's clock said at `moment`, give or take a round trip."""
        return self.told_ns + round((moment - self.heard_at) * 1e9)


class Session(Protocol):
    """A login on one connection. Ends with the connection."""

    @property
    def connection(self) -> Connection: ...

    @property
    def identity(self) -> Identity: ...

    @property
    def clock(self) -> ServerClock | None:
        """The server's clock, if it told the time."""
        ...

    async def connect_share(self, name: str) -> Share:
        """Connect the tree `name` and return it as a Share.

        Cost: 1 round trip (one more for FSCTL_VALIDATE_NEGOTIATE_INFO on 3.0 and 3.0.2, once a session).
        Raises: NotFound (no such share), Denied, SecurityRefused.
        """
        ...

    async def list_shares(self) -> Sequence[ShareInfo]:
        """Return all shares that the server tells of, in its order.

        Cost: 4 round trips, one more for every 4 KiB of names.
        Raises: Denied, NotFound, Unsupported, ProtocolError: many servers do not tell everybody.
        """
        ...

    async def aclose(self) -> None:
        """Log off and close the connection, within two seconds. Never raises."""
        ...


@contextlib.contextmanager
def ended_by_failure(connection: Connection) -> Iterator[None]:
    """End `connection` if the login within the block fails: nobody else knows of it yet.

    Whoever waits on it is told why.
    """
    try:
        yield
    except BaseException as error:
        given_up = ConnectionLost("the login was given up", sent=True)
        connection.abort(error if isinstance(error, SmbError) else given_up)
        raise


async def login_step(exchange: LoginExchange, token: bytes, sec: Sec) -> bytes:
    """Return our answer to the server's `token`, b"" to begin with; see `LoginExchange.step`.

    A step of Kerberos may ask other servers: it is taken in a thread, for which nobody waits who gives up.
    """
    if sec is Sec.KRB5:
        return await trio.to_thread.run_sync(exchange.step, token, limiter=_kerberos_steps, abandon_on_cancel=True)
    return exchange.step(token)


@contextlib.contextmanager
def farewell(what: str) -> Iterator[None]:
    """Wait within the block for the answer to `what`, two seconds at most, whoever has given up meanwhile.

    It changes nothing any more: what the server says of it, or the loss of the connection, goes to the log alone.
    """
    with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
        try:
            yield
        except SmbError as error:
            log.debug("%s failed: %s", what, error)


def share_statistics(
    connection: Connection, *, dialect: str, signing: str, sealing: str, login: str
) -> ShareStatistics:
    """Return counters of the connection, which other shares may use too, with what was negotiated on it."""
    engine = connection.engine.statistics()
    return ShareStatistics(
        dialect=dialect,
        signing=signing,
        sealing=sealing,
        login=login,
        peer=connection.stream.peer,
        requests=engine.requests,
        round_trips=engine.round_trips,
        bytes_received=connection.bytes_received,
        bytes_sent=connection.bytes_sent,
        in_flight=engine.in_flight,
        credits=engine.credits,
        connects=1,
    )
