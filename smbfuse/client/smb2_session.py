"""An SMB2 login: NEGOTIATE, SESSION_SETUP, and the proof that nobody tampered with either.

What the server or a share requires is honoured without being asked for; what the user demands (`vers=`, `sign`, `seal`)
and does not get is refused, never lowered. [MS-SMB2] 3.2.4.2, 3.2.5.2 to 3.2.5.5.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from smbfuse import status
from smbfuse.client import smb2_requests
from smbfuse.client.connection import Connection
from smbfuse.client.pipes import PIPES, list_shares
from smbfuse.client.session import MOST_LOGIN_LEGS, Identity, ServerClock, ended_by_failure, farewell, login_step
from smbfuse.client.smb2_durable import Durability
from smbfuse.client.smb2_grants import Smb2Grants
from smbfuse.client.smb2_negotiation import Negotiated, negotiate, no_sealing
from smbfuse.client.smb2_pipe import Smb2Pipe
from smbfuse.client.smb2_posix import manner_of
from smbfuse.client.smb2_share import Smb2Share
from smbfuse.client.smb2_tree import Sizes, Smb2Tree
from smbfuse.client.stream import ByteStream
from smbfuse.config import Login, Network, Sec, Security, Target
from smbfuse.engine.protect import Smb2Protection
from smbfuse.engine.smb2 import CREDIT_SIZE, Smb2Engine
from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange, Tree
from smbfuse.errors import AuthenticationFailed, NotFound, Reason, SecurityRefused
from smbfuse.security.login import LoginExchange, begin_login
from smbfuse.share import Features
from smbfuse.status import NtStatus
from smbfuse.wire import srvsvc
from smbfuse.wire.smb2.control import (
    NO_FILE_ID,
    ControlCode,
    IoctlResponse,
    ValidateNegotiateInfoRequest,
    ValidateNegotiateInfoResponse,
)
from smbfuse.wire.smb2.header import Command, split_compound
from smbfuse.wire.smb2.negotiate import SecurityMode
from smbfuse.wire.smb2.session import (
    LogoffRequest,
    SessionFlags,
    SessionSetupRequest,
    SessionSetupResponse,
    ShareCapabilities,
    ShareFlags,
    ShareType,
    TreeConnectRequest,
    TreeConnectResponse,
    TreeDisconnectRequest,
)
from smbfuse.wire.srvsvc import ShareInfo

log = logging.getLogger(__name__)

VALIDATE_OUTPUT_SIZE: Final = 24
# Of 16 bits, half are used: Samba (4.17) begins at 0 with each open, and believes no step of more than 0x7FFF.
CHANNEL_SEQUENCES: Final = 1 << 15
MOST_TRANSFERRED: Final = 1 << 24  # bytes in one request: a message's length has 24 bits, and no server allows more


class Smb2Session:
    """One login on one connection. Made by `establish`; ends with the connection."""

    def __init__(
        self,
        connection: Connection,
        engine: Smb2Engine,
        negotiated: Negotiated,
        *,
        target: Target,
        login: Login,
        network: Network,
    ) -> None:
        self.connection = connection
        self.engine = engine
        self.negotiated = negotiated
        self.clock = ServerClock.told(negotiated.answer.system_time, trio.current_time())
        self.grants = Smb2Grants(
            negotiated.lease_version, directories=negotiated.directory_leases, enabled=network.leases
        )
        engine.on_break = self.grants.broke
        engine.on_lost = self.grants.lost
        self.login_name = ""  # mechanism and user, for status
        self.durabilities: dict[str, Durability] = {}  # by share; they go on with the session that replaces this one
        self._target = target
        self._login = login
        self._network = network
        self._validated = negotiated.dialect.contexts  # the hash proves it where there is one

    def __repr__(self) -> str:
        return f"<Smb2Session {self.negotiated.dialect.label} {self.login_name} on {self.connection!r}>"

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
        previous: Smb2Session | None = None,
    ) -> Smb2Session:
        """Negotiate and log in over `stream`; the connection's tasks live in `nursery`.

        `first_reply` is the SMB2 response to an SMB1 NEGOTIATE, if one was sent: 2.0.2, or "ask again in SMB2".
        `previous` is the session that this one replaces: the server ends it, so that what it had open and granted is in
        nobody's way, even if the server has not noticed the loss of its connection.

        Cost: 3 round trips with NTLM (2 with Kerberos; one less after a first reply of 2.0.2).
        Raises: AuthenticationFailed, SecurityRefused (both final), ProtocolError, ConnectionLost, Timeout. The
        connection is closed then.
        """
        engine = Smb2Engine(max_credits=network.max_credits, first_message_id=0 if first_reply is None else 1)
        connection = Connection(stream, engine, timeo_s=network.patience_s, echo_interval_s=network.echo_interval_s)
        nursery.start_soon(connection.run)
        with ended_by_failure(connection):
            client_guid = previous.client_guid if previous is not None else None
            negotiated = await negotiate(connection, engine, target, security, network, first_reply, client_guid)
            engine.adopt(multi_credit=negotiated.multi_credit)
            session = cls(connection, engine, negotiated, target=target, login=login, network=network)
            await session._log_in(security, previous)
            if previous is not None:
                session._learn_from(previous)
        log.info(
            "logged in peer=%s dialect=%s login=%s signing=%s sealing=%s",
            stream.peer,
            negotiated.dialect.label,
            session.login_name,
            session.signing_name or "no",
            session.sealing_name or "no",
        )
        return session

    def _learn_from(self, previous: Smb2Session) -> None:
        """Take over what the mount's previous session has found out of the server; see `Compounds.learn_from`."""
        self.engine.compounds.learn_from(previous.engine.compounds, ended_by_peer=previous.connection.ended_by_peer)
        self.durabilities = previous.durabilities
        if self.negotiated.dialect.durable_version == 2:
            # Of open files that are reclaimed, the server tells by it what was sent before the loss.
            open_files = any(durability.holds for durability in self.durabilities.values())
            self.engine.channel_sequence = (previous.engine.channel_sequence + open_files) % CHANNEL_SEQUENCES

    @property
    def client_guid(self) -> bytes | None:
        """What this client calls itself; None where it did not get to say so (2.0.2, by an SMB1 NEGOTIATE)."""
        said = self.negotiated.offer.client_guid
        return said if any(said) else None

    @property
    def identity(self) -> Identity:
        """Who answered and how well protected; see `Identity`. What is used for everything outranks what is ready."""
        protection = self.engine.protection
        signing = sealing = 0
        if protection is not None and self.negotiated.signing is not None:
            signing = 1 + self.negotiated.signing + (10 if protection.sign_all else 0)
        if protection is not None and self.negotiated.cipher is not None:
            sealing = self.negotiated.cipher.rank + (10 if protection.seal_all else 0)
        answer = self.negotiated.answer
        return Identity(self.negotiated.dialect.revision, signing, sealing, answer.server_guid)

    @property
    def signing_name(self) -> str:
        """The algorithm that signs every message, '' if none does."""
        protection = self.engine.protection
        return protection.signing_name if protection is not None and protection.sign_all else ""

    @property
    def sealing_name(self) -> str:
        """The cipher that seals every message, '' if none does; a share may demand it for itself."""
        protection = self.engine.protection
        return protection.sealing_name if protection is not None and protection.seal_all else ""

    async def connect_share(self, name: str) -> Smb2Share:
        """Connect the tree `name`; see `Session.connect_share`."""
        tree, answer = await self._connect_tree(name)
        with self._disconnected_by_failure(tree.tree):
            if answer.share_type != ShareType.DISK:
                where = f"//{self._target.host}/{name}"
                raise NotFound(f"{where} is not a folder but a pipe or a printer", status=NtStatus.BAD_DEVICE_TYPE)
            if self.negotiated.posix:
                tree.manner = await manner_of(tree)
        tree.durability = self.durabilities.setdefault(name, tree.durability)
        if Features.POSIX not in tree.manner.features:  # what Samba gives back is no POSIX open any more
            dialect = self.negotiated.dialect
            available = bool(answer.capabilities & ShareCapabilities.CONTINUOUS_AVAILABILITY)
            persistent = available and self.negotiated.persistent_handles
            tree.durability.connected(
                tree, dialect.durable_version, persistent=persistent, resiliency=dialect.resiliency
            )
        return Smb2Share(self, name, tree)

    async def list_shares(self) -> list[ShareInfo]:
        """Ask which shares there are; see `Session.list_shares`."""
        tree, _ = await self._connect_tree(PIPES)
        try:
            pipe = await Smb2Pipe.open(tree, srvsvc.PIPE)
            try:
                return await list_shares(pipe, self._target.host)
            finally:
                pipe.close()
        finally:
            self._disconnect(tree.tree)

    async def _connect_tree(self, name: str) -> tuple[Smb2Tree, TreeConnectResponse]:
        """Connect a tree of any kind; return it with what the server says of it."""
        where = f"//{self._target.host}/{name}"
        request = TreeConnectRequest(flags=0, path=f"\\\\{self._target.host}\\{name}")
        exchange = self.engine.submit((Request(Command.TREE_CONNECT, request.encode()),))
        try:
            (reply,) = await self.connection.perform(exchange)
        except BaseException:
            self._give_up(exchange)
            raise
        if reply.status != NtStatus.SUCCESS:
            raise status.error(reply.status, "TREE_CONNECT", where)
        with self._disconnected_by_failure(Tree(reply.tree_id, seal=False)):
            answer = TreeConnectResponse.decode(reply.element)
            seal = bool(answer.share_flags & ShareFlags.ENCRYPT_DATA)
            protection = self.engine.protection
            if seal and (protection is None or not protection.can_seal):
                raise SecurityRefused(
                    f"{where} demands encryption, which this login has not; log in with a user, by SMB 3.0 or later"
                )
        tree = Tree(reply.tree_id, seal)
        if not self._validated:
            with self._disconnected_by_failure(tree):
                await self._validate_negotiation(tree)
            self._validated = True
        said = self.negotiated.answer
        most = MOST_TRANSFERRED if self.negotiated.multi_credit else CREDIT_SIZE
        sizes = Sizes(
            read=min(self._network.rsize, said.max_read_size, most),
            write=min(self._network.wsize, said.max_write_size, most),
            transact=min(said.max_transact_size, most),
        )
        return Smb2Tree(self.connection, self.engine, self.grants, tree, sizes), answer

    async def aclose(self) -> None:
        """Log off and close the connection; see `Session.aclose`."""
        with farewell("log off"):
            logoff = Request(Command.LOGOFF, LogoffRequest().encode())
            await self.connection.perform(self.engine.submit((logoff,), urgent=True))
        await self.connection.aclose()

    # --- login --------------------------------------------------------------------------------------------------------

    async def _log_in(self, security: Security, previous: Smb2Session | None) -> None:
        host = self._target.host
        exchange = begin_login(self._login, host=host, hint=self.negotiated.answer.token or None)
        mode = SecurityMode.SIGNING_REQUIRED if security.sign else SecurityMode.SIGNING_ENABLED
        # Of one and the same server: what another one calls by this number is somebody else's.
        server = self.negotiated.answer.server_guid
        known = previous is not None and previous.negotiated.answer.server_guid == server
        replaced = previous.engine.session_id if previous is not None and known else 0
        token = await login_step(exchange, b"", self._login.sec)
        for _ in range(MOST_LOGIN_LEGS):
            request = SessionSetupRequest(
                flags=0,
                security_mode=mode,
                capabilities=0,
                channel=0,
                token=token,
                previous_session_id=replaced,
            )
            (reply,) = await self.connection.perform(
                self.engine.submit((Request(Command.SESSION_SETUP, request.encode()),))
            )
            if reply.status not in (NtStatus.SUCCESS, NtStatus.MORE_PROCESSING_REQUIRED):
                raise status.login_refused(
                    reply.status, user=self._login.user, host=host, as_guest=self._login.is_guests
                )
            self.engine.session_id = reply.session_id
            answer = SessionSetupResponse.decode(reply.element)
            if reply.status == NtStatus.SUCCESS:
                self._accept(exchange, answer, reply, security)
                return
            token = await login_step(exchange, answer.token, self._login.sec)
        raise AuthenticationFailed(f"{host} goes on asking and never ends the login")

    def _accept(self, exchange: LoginExchange, answer: SessionSetupResponse, reply: Reply, security: Security) -> None:
        """Judge the login that the server has accepted: who are we, and how will messages be protected?"""
        host = self._target.host
        named = bool(self._login.user) and self._login.sec is not Sec.NONE
        guest = bool(answer.session_flags & SessionFlags.IS_GUEST)
        anonymous = not named or bool(answer.session_flags & SessionFlags.IS_NULL)
        if (guest or (anonymous and named)) and not self._login.guest:
            raise AuthenticationFailed(
                f"{host} let {self._login.user or 'the anonymous user'} in only as {'guest' if guest else 'nobody'}, "
                "usually because of a wrong user name or password; if a guest's rights are enough, mount with -o guest",
                reason=Reason.GUEST_REFUSED,
            )
        if guest or anonymous:
            self.login_name = f"{exchange.name} guest" if guest else exchange.name
            self._accept_without_keys(security, "guest" if guest else "anonymous")
            return
        self.login_name = f"{exchange.name} {self._login.user}"
        exchange.finish(answer.token)
        seal = security.seal or bool(answer.session_flags & SessionFlags.ENCRYPT_DATA)
        dialect, cipher = self.negotiated.dialect, self.negotiated.cipher
        if seal and cipher is None:
            raise SecurityRefused(no_sealing(host, dialect))
        protection = Smb2Protection(
            dialect.revision,
            exchange.session_key,
            preauth=self.engine.preauth.digest,
            signing_id=self.negotiated.signing,
            cipher_id=cipher,
            sign=security.sign or self.negotiated.signing_required,
            seal=seal,
        )
        ((header, element),) = split_compound(reply.element)
        protection.check(header, element, unsealed=False, ends_login=True)
        self.engine.protect(protection)

    def _accept_without_keys(self, security: Security, who: str) -> None:
        """A guest's and the anonymous login make no key: nothing can be signed or sealed."""
        host = self._target.host
        if security.sign or security.seal:
            demanded = "encrypted" if security.seal else "signed"
            raise SecurityRefused(
                f"the {who} login at {host} cannot be {demanded}, as was demanded; log in with a user"
            )
        if self.negotiated.signing_required:
            raise SecurityRefused(
                f"{host} requires signing, which the {who} login cannot give; log in with a user, or let the server's "
                "administrator relax it"
            )

    # --- proof --------------------------------------------------------------------------------------------------------

    async def _validate_negotiation(self, tree: Tree) -> None:
        """Have the server repeat under its signature what NEGOTIATE said unsigned.  [MS-SMB2] 3.2.5.5, 3.2.5.14.12.

        Cost: 1 round trip.  Raises: SecurityRefused (someone has changed the negotiation on its way).
        """
        protection = self.engine.protection
        if protection is None:
            return  # a guest has no key that could prove anything
        offer, answer = self.negotiated.offer, self.negotiated.answer
        said = ValidateNegotiateInfoRequest(offer.capabilities, offer.client_guid, offer.security_mode, offer.dialects)
        request = smb2_requests.file_control(
            ControlCode.FSCTL_VALIDATE_NEGOTIATE_INFO, said.encode(), size=VALIDATE_OUTPUT_SIZE, file_id=NO_FILE_ID
        )
        (reply,) = await self.connection.perform(self.engine.submit((request,), tree=tree, signed=True))
        if reply.status != NtStatus.SUCCESS:
            # 2.x servers may not know it; their signed refusal proves that they are what they say.
            if self.negotiated.dialect.encryption:
                raise SecurityRefused(
                    f"{self._target.host} does not confirm how the connection was negotiated "
                    f"({NtStatus(reply.status).name}): someone may be tampering with it"
                )
            return
        confirmed = ValidateNegotiateInfoResponse.decode(IoctlResponse.decode(reply.element).output)
        if confirmed != ValidateNegotiateInfoResponse(
            answer.capabilities, answer.server_guid, answer.security_mode, answer.dialect_revision
        ):
            raise SecurityRefused(
                f"the negotiation with {self._target.host} was changed on its way: someone is tampering with it"
            )

    @contextmanager
    def _disconnected_by_failure(self, tree: Tree) -> Iterator[None]:
        """Give a tree back if what has to be known of it does not come to be known, or nobody waits for that."""
        try:
            yield
        except BaseException:
            self._disconnect(tree)
            raise

    def _give_up(self, exchange: Smb2Exchange) -> None:
        """Want no longer what a TREE_CONNECT connects: it is disconnected.

        In clear text: a share that demands encryption may refuse that, and then stays connected until the log-off.
        """

        def ended() -> None:
            if exchange.error is None and exchange.replies[0].status == NtStatus.SUCCESS:
                self._disconnect(Tree(exchange.replies[0].tree_id, seal=False))

        if exchange.done:
            ended()
        else:
            exchange.on_done = ended

    def _disconnect(self, tree: Tree) -> None:
        """Give a tree back without waiting for the answer."""
        request = Request(Command.TREE_DISCONNECT, TreeDisconnectRequest().encode())
        self.engine.submit((request,), tree=tree)
        self.connection.post()
