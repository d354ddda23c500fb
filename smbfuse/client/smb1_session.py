"""An SMB1 session: one login on one connection, the trees connected on it, and how it ends.

[MS-CIFS] 3.2.4.2.5, 3.2.4.23, 3.2.4.24. How it logs in: `smb1_login.py`.
"""

from __future__ import annotations

import logging
import os
from typing import Final

import trio

from smbfuse import status
from smbfuse.client.connection import Connection
from smbfuse.client.pipes import PIPES, list_shares
from smbfuse.client.session import Identity, ServerClock, ended_by_failure, farewell
from smbfuse.client.smb1_login import Smb1Login
from smbfuse.client.smb1_negotiation import Negotiated, encode_negotiate_probe, negotiate
from smbfuse.client.smb1_oplocks import Oplocks
from smbfuse.client.smb1_pipe import Smb1Pipe
from smbfuse.client.smb1_share import Smb1Share
from smbfuse.client.smb1_tree import Smb1Tree
from smbfuse.client.smb1_volume import agree_on_unix
from smbfuse.client.stream import ByteStream
from smbfuse.config import Login, Network, Security, Target
from smbfuse.engine.dialect import SMB1
from smbfuse.engine.smb1 import Smb1Engine
from smbfuse.engine.smb1_exchange import NO_TREE, Reply, Tree
from smbfuse.errors import AuthenticationFailed, Denied, NotFound, SmbError
from smbfuse.status import NtStatus
from smbfuse.wire import srvsvc
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.session import (
    OTHER_SERVICES,
    SERVICE_ANY,
    LogoffMessage,
    TreeConnectRequest,
    TreeConnectResponse,
    TreeDisconnectMessage,
    share_path,
)
from smbfuse.wire.srvsvc import ShareInfo

__all__ = ["Smb1Session", "encode_negotiate_probe"]

log = logging.getLogger(__name__)

# How servers say that there is no such share; impacket and node-smb-server miss a path.
_NO_SUCH_SHARE: Final = frozenset(
    {NtStatus.BAD_NETWORK_NAME, NtStatus.OBJECT_NAME_NOT_FOUND, NtStatus.OBJECT_PATH_NOT_FOUND}
)


class Smb1Session:
    """One login on one connection. Made by `establish`; ends with the connection."""

    def __init__(
        self,
        connection: Connection,
        engine: Smb1Engine,
        negotiated: Negotiated,
        login: Smb1Login,
        *,
        target: Target,
        network: Network,
    ) -> None:
        self.connection = connection
        self.engine = engine
        self.negotiated = negotiated
        self.clock = ServerClock.told(negotiated.answer.system_time, trio.current_time())
        self._login = login
        self._target = target
        self._network = network
        # With a MaxMpxCount of 1 there is no room for a break while we wait: [MS-CIFS] 2.2.4.52.2.
        may_break = network.leases and negotiated.answer.max_mpx_count > 1
        self._oplocks = Oplocks(connection, engine, enabled=may_break)
        self._chains = True  # as far as the mount's previous sessions know
        self._trees: list[Smb1Tree] = []  # in which files are opened

    def __repr__(self) -> str:
        return f"<Smb1Session {self.login_name} on {self.connection!r}>"

    @classmethod
    async def establish(
        cls,
        stream: ByteStream,
        nursery: trio.Nursery,
        *,
        target: Target,
        login: Login,
        security: Security,
        network: Network,
        first_reply: memoryview | None = None,
        previous: Smb1Session | None = None,
    ) -> Smb1Session:
        """Negotiate and log in over `stream`; the connection's tasks live in `nursery`.

        `first_reply` is the SMB1 answer to an `encode_negotiate_probe`, if one was sent. What the mount's `previous`
        session has found out of the server's chains is kept.

        Cost: 3 round trips with NTLM, 2 against a bare challenge; one less with a `first_reply`.
        Raises: AuthenticationFailed, SecurityRefused, ConfigError (all final), ProtocolError, ConnectionLost, Timeout.
        The connection is closed then.
        """
        engine = Smb1Engine(pid=os.getpid())
        connection = Connection(stream, engine, timeo_s=network.patience_s, echo_interval_s=network.echo_interval_s)
        nursery.start_soon(connection.run)
        with ended_by_failure(connection):
            negotiated = await negotiate(
                connection,
                engine,
                target=target,
                login=login,
                security=security,
                network=network,
                first_reply=first_reply,
            )
            logging_in = Smb1Login(connection, engine, negotiated, target=target, login=login, network=network)
            session = cls(connection, engine, negotiated, logging_in, target=target, network=network)
            await logging_in.log_in(security)
            session._chains = previous is None or previous.chains
        log.info(
            "logged in peer=%s dialect=%s login=%s signing=%s",
            stream.peer,
            SMB1.label,
            session.login_name,
            session.signing_name or "no",
        )
        return session

    @property
    def chains(self) -> bool:
        """Whether the server executes AndX chains, as far as is known."""
        return self._chains and all(tree.chains for tree in self._trees)

    @property
    def login_name(self) -> str:
        """Mechanism and user, for status."""
        return self._login.name

    @property
    def identity(self) -> Identity:
        """Who answered and how well protected; see `Identity`."""
        return Identity(SMB1.revision, int(bool(self.signing_name)), 0, self.negotiated.answer.server_guid)

    @property
    def signing_name(self) -> str:
        """The algorithm that signs every message, '' if none does."""
        return self.engine.protection.signing_name if self.engine.protection is not None else ""

    async def connect_share(self, name: str) -> Smb1Share:
        """Connect the tree `name`; see `Session.connect_share`. One round trip more to agree on UNIX extensions."""
        where = f"//{self._target.host}/{name}"
        tree, service = await self._connect_tree(name)
        try:
            if service in OTHER_SERVICES:
                raise NotFound(f"{where} is not a folder but a pipe or a printer", status=NtStatus.BAD_DEVICE_TYPE)
            if self._network.unix_extensions and self.negotiated.has(Capabilities.UNIX):
                tree.adopt_unix(await agree_on_unix(tree, where))
        except BaseException:
            tree.submit(TreeDisconnectMessage())  # nobody waits for the answer
            raise
        self._trees.append(tree)
        return Smb1Share(self, name, tree)

    async def list_shares(self) -> list[ShareInfo]:
        """Ask which shares there are; see `Session.list_shares`. Servers older than Windows NT do not tell."""
        tree, _ = await self._connect_tree(PIPES)
        try:
            pipe = await Smb1Pipe.open(tree, srvsvc.PIPE)
            try:
                return await list_shares(pipe, self._target.host)
            finally:
                pipe.close()
        finally:
            tree.submit(TreeDisconnectMessage())

    async def _connect_tree(self, name: str) -> tuple[Smb1Tree, str]:
        """Connect a tree of any kind; return it with its service ("A:", "IPC", …).

        A name that is not found is asked for once more in capitals. Case makes no difference by the specification, but
        clients of SMB1 have always sent capitals, and some servers know no other (impacket 0.13.1, node-smb-server
        0.10.36).
        """
        reply = await self._ask_for_tree(name)
        if reply.status in _NO_SUCH_SHARE and name.upper() != name:
            reply = await self._ask_for_tree(name.upper())
        if reply.status != NtStatus.SUCCESS:
            raise self._no_share(reply.status, f"//{self._target.host}/{name}")
        answer = TreeConnectResponse.decode_block(reply.block, self.engine.strings)
        named = Tree(reply.tid, NO_TREE.flags)
        tree = Smb1Tree(self.connection, self.engine, self.negotiated, named, self._network, self._oplocks)
        tree.chains = self.chains
        return tree, answer.service

    async def _ask_for_tree(self, name: str) -> Reply:
        request = TreeConnectRequest(
            flags=0,
            password=self._login.share_password(),
            path=share_path(self._target.host, name),
            service=SERVICE_ANY,
        )
        (reply,) = await self.connection.perform(self.engine.submit((request,)))
        return reply

    async def aclose(self) -> None:
        """Log off and close the connection; see `Session.aclose`."""
        with farewell("log off"):
            await self.connection.perform(self.engine.submit((LogoffMessage(),), urgent=True))
        await self.connection.aclose()

    def _no_share(self, value: int, where: str) -> SmbError:
        # Here nothing but the share can be missing, and that is to be said, whichever path a server finds missing.
        refused = status.error(NtStatus.BAD_NETWORK_NAME if value in _NO_SUCH_SHARE else value, "TREE_CONNECT", where)
        if not self.negotiated.user_level and isinstance(refused, Denied):
            return AuthenticationFailed(
                f"{where} has a password of its own, and this is not it; servers that are so old often know only sec=lm"
            )
        return refused
