"""From an address to a login: dial, agree on a dialect, log in. And if that fails, find out why.

`vers=` decides how the first message looks. The default offers 2.0.2 to 3.1.1 in an SMB2 NEGOTIATE, and SMB1 is never
spoken. `vers=auto` sends the SMB1 NEGOTIATE that both families understand and takes what the server answers; a cut is
an error and never a reason to fall back, because an attacker can cut.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from smbfuse.client import routes, transport
from smbfuse.client.session import Session
from smbfuse.client.shares import Shares
from smbfuse.client.smb2_session import Smb2Session
from smbfuse.client.stream import TcpStream
from smbfuse.client.supervisor import Supervisor
from smbfuse.config import Config, Vers
from smbfuse.errors import (
    ConnectFailed,
    ConnectionLost,
    NotFound,
    ProtocolError,
    Reason,
    SmbError,
    StatusError,
    Timeout,
)
from smbfuse.wire import nbss, srvsvc

log = logging.getLogger(__name__)

# What an SMB1 NEGOTIATE offers when SMB2 would be welcome too.  [MS-SMB2] 3.2.4.2.2.1
MULTI_PROTOCOL_DIALECTS: Final = ("NT LM 0.12", "SMB 2.002", "SMB 2.???")
SMB1_MAGIC: Final = b"\xffSMB"
SMB2_MAGIC: Final = b"\xfeSMB"


async def open_source(config: Config, nursery: trio.Nursery) -> Shares:
    """Connect, log in, connect the share, and return the mount's source of shares.

    The connection's tasks live in `nursery`. Only the login is made for a whole server.

    Cost: about 6 round trips.
    Raises: ConnectFailed, AuthenticationFailed, SecurityRefused, NotFound (no such share), Denied.
    """
    dialer = Dialer(config)
    supervisor = Supervisor(dialer, nursery, timeo_s=config.network.patience_s, news=routes.watch)
    shares = Shares(supervisor, config.target.share, path=config.target.path)
    if config.target.whole_server:
        await supervisor.session()
        return shares
    try:
        await shares.share("")
    except NotFound as error:
        session, _ = await supervisor.session()
        known = await _visible_shares(session)
        await shares.aclose()
        if known:
            raise NotFound(f"it has {', '.join(known)}", status=error.status) from None
        raise
    except BaseException:
        await shares.aclose()
        raise
    return shares


async def _visible_shares(session: Session) -> list[str]:
    """Return the shares that a user may have meant, quoted for a terminal; none where the server does not tell."""
    try:
        return [repr(share.name) for share in await session.list_shares() if _is_for_people(share)]
    except SmbError as error:
        log.debug("the server does not list its shares: %s", error)
        return []


def _is_for_people(share: srvsvc.ShareInfo) -> bool:
    return share.kind == srvsvc.TYPE_DISK and not share.special and not share.name.endswith("$")


class Dialer:
    """Makes the connections of one mount, each with its login."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._previous: Session | None = None
        self._told_of_smb1 = False
        self._useless: dict[str, float] = {}  # addresses behind which no session could be made lately, and when

    async def __call__(self, nursery: trio.Nursery) -> Session:
        """Connect and log in.  Raises: ConnectFailed, AuthenticationFailed, SecurityRefused, ConnectionLost."""
        config = self._config
        stream = await transport.connect(config.target, config.network, useless=self._useless)
        try:
            session = await self._establish(stream, nursery)
        except (ConnectionLost, ProtocolError, StatusError, Timeout) as error:
            stream.close()
            self._useless[stream.address] = trio.current_time()
            if not isinstance(error, ConnectionLost | ProtocolError):
                raise
            if self._previous is not None or isinstance(error, ConnectFailed):
                raise
            raise await self._explain(error) from None
        except BaseException:
            stream.close()
            raise
        self._previous = session
        self._useless.clear()
        return session

    async def _establish(self, stream: TcpStream, nursery: trio.Nursery) -> Session:
        config = self._config
        vers = config.security.vers
        smb1 = vers is Vers.SMB1
        first_reply = None
        if vers is Vers.AUTO:
            first_reply = await self._probe(stream)
            if bytes(first_reply[:4]) == SMB1_MAGIC:
                smb1 = True
                if not self._told_of_smb1:
                    self._told_of_smb1 = True
                    log.warning(
                        "%s speaks only SMB1, which protects nothing: mounted all the same, because of vers=auto",
                        config.target.host,
                    )
        if smb1:
            # For who wants it: it costs an eighth of a mount's start.
            from smbfuse.client.smb1_session import Smb1Session

            return await Smb1Session.establish(
                stream,
                nursery,
                target=config.target,
                login=config.login,
                security=config.security,
                network=config.network,
                first_reply=first_reply,
                previous=self._previous if isinstance(self._previous, Smb1Session) else None,
            )
        return await Smb2Session.establish(
            stream,
            nursery,
            target=config.target,
            login=config.login,
            security=config.security,
            network=config.network,
            first_reply=first_reply,
            previous=self._previous if isinstance(self._previous, Smb2Session) else None,
        )

    async def _probe(self, stream: TcpStream) -> memoryview:
        """Send the NEGOTIATE that both families understand, and return the server's answer, whole."""
        from smbfuse.client.smb1_session import encode_negotiate_probe

        config = self._config
        request = encode_negotiate_probe(
            MULTI_PROTOCOL_DIALECTS,
            extended_security=config.network.smb1_extended_security,
            sign=config.security.sign,
        )
        try:
            with trio.fail_after(config.network.timeo_s):
                await stream.send_all([nbss.frame(len(request)), request])
                kind, reply = await stream.receive_packet()
        except (OSError, trio.TooSlowError) as error:
            raise ConnectionLost(f"{stream.peer} did not answer a NEGOTIATE: {error}", sent=True) from None
        if kind != nbss.SESSION_MESSAGE or reply[:4] not in (SMB1_MAGIC, SMB2_MAGIC):
            raise ProtocolError(f"{stream.peer} answered a NEGOTIATE with something that is not SMB")
        return memoryview(bytearray(reply))

    async def _explain(self, error: SmbError) -> SmbError:
        """Find out with a second connection what the server speaks, if negotiating failed; else return `error`."""
        config = self._config
        try:
            stream = await transport.connect(config.target, config.network)
            try:
                reply = await self._probe(stream)
            finally:
                stream.close()
        except ProtocolError:
            return ConnectFailed(
                f"what listens on {config.target.host} is not an SMB server; check the port",
                reason=Reason.NOT_SMB,
            )
        except SmbError:
            return error
        speaks_smb1 = bytes(reply[:4]) == SMB1_MAGIC
        if speaks_smb1 and config.security.vers not in (Vers.SMB1, Vers.AUTO):
            return ConnectFailed(
                f"{config.target.host} speaks only SMB1, which protects nothing; if you trust the network, "
                "mount it with -o vers=1.0",
                reason=Reason.SMB1_ONLY,
            )
        if not speaks_smb1 and config.security.vers is Vers.SMB1:
            return ConnectFailed(
                f"{config.target.host} does not speak SMB1 (any more); leave out vers=1.0",
                reason=Reason.SMB2_ONLY,
            )
        return error
