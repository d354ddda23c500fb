"""An SMB1 login: by security blobs or against a bare challenge, of a user or of nobody in particular.

What the server requires is honoured without being asked for; what the user demands (`sign`, `seal`) and does not get is
refused, never lowered.  [MS-CIFS] 3.2.4.2.4, 3.2.5.3; [MS-SMB] 3.2.4.2.4, 3.2.5.3.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client.connection import ByteStream, Connection
from smbfuse.client.pipes import PIPES, Smb1Pipe, list_shares
from smbfuse.client.session import Identity
from smbfuse.client.smb1_negotiation import Negotiated, encode_negotiate_probe, negotiate
from smbfuse.client.smb1_share import Smb1Share
from smbfuse.client.smb1_tree import MAX_BUFFER_SIZE, Smb1Tree
from smbfuse.client.smb1_volume import agree_on_unix
from smbfuse.config import Login, Network, Sec, Security, Target
from smbfuse.engine.dialect import SMB1
from smbfuse.engine.protect import Smb1Protection
from smbfuse.engine.smb1 import NO_TREE, Reply, Smb1Engine, Tree
from smbfuse.errors import (
    AuthenticationFailed,
    ConnectionLost,
    Denied,
    NotFound,
    Reason,
    SecurityRefused,
    SmbError,
)
from smbfuse.security.challenge import ChallengeResponse, respond
from smbfuse.security.login import LoginExchange, WithoutIntegrity, begin_login
from smbfuse.status import NtStatus
from smbfuse.wire import srvsvc
from smbfuse.wire.smb1.header import NO_UID
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.session import (
    OTHER_SERVICES,
    SERVICE_ANY,
    LogoffMessage,
    SessionSetupExtendedRequest,
    SessionSetupRequest,
    SessionSetupResponse,
    SetupAction,
    TreeConnectRequest,
    TreeConnectResponse,
    TreeDisconnectMessage,
    share_path,
)
from smbfuse.wire.srvsvc import ShareInfo

if TYPE_CHECKING:
    from smbfuse.wire.smb1.message import Message

__all__ = ["Smb1Session", "encode_negotiate_probe"]

log = logging.getLogger(__name__)

VC_NUMBER: Final = 1  # 0 makes old servers end every other connection from this address
MOST_LOGIN_LEGS: Final = 10  # NTLM takes 2, Kerberos 1 or 2
FIRST_SEQUENCE: Final = 0  # of the SESSION_SETUP that ends the login
FAREWELL_S: Final = 2.0
NO_PASSWORD: Final = b"\0"
NATIVE_OS: Final = "Unix"
NATIVE_LAN_MAN: Final = "smbfuse"

# How servers say that there is no such share; impacket and node-smb-server miss a path.
_NO_SUCH_SHARE: Final = frozenset(
    {NtStatus.BAD_NETWORK_NAME, NtStatus.OBJECT_NAME_NOT_FOUND, NtStatus.OBJECT_PATH_NOT_FOUND}
)

_kerberos_steps = trio.CapacityLimiter(4)  # tickets may take seconds; the default limiter is shared by everything


class Smb1Session:
    """One login on one connection. Made by `establish`; ends with the connection."""

    def __init__(
        self,
        connection: Connection,
        engine: Smb1Engine,
        negotiated: Negotiated,
        *,
        target: Target,
        login: Login,
        network: Network,
    ) -> None:
        self.connection = connection
        self.engine = engine
        self.negotiated = negotiated
        self.login_name = ""  # mechanism and user, for status
        self._target = target
        self._login = login
        self._network = network

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
    ) -> Smb1Session:
        """Negotiate and log in over `stream`; the connection's tasks live in `nursery`.

        `first_reply` is the SMB1 answer to an `encode_negotiate_probe`, if one was sent.

        Cost: 3 round trips with NTLM, 2 against a bare challenge; one less with a `first_reply`.
        Raises: AuthenticationFailed, SecurityRefused, ConfigError (all final), ProtocolError, ConnectionLost, Timeout.
        The connection is closed then.
        """
        engine = Smb1Engine(pid=os.getpid())
        connection = Connection(stream, engine, timeo_s=network.timeo_s)
        nursery.start_soon(connection.run)
        try:
            negotiated = await negotiate(
                connection,
                engine,
                target=target,
                login=login,
                security=security,
                network=network,
                first_reply=first_reply,
            )
            session = cls(connection, engine, negotiated, target=target, login=login, network=network)
            await session._log_in(security)
        except BaseException as error:
            reason = error if isinstance(error, SmbError) else ConnectionLost("the login was given up", sent=True)
            connection.abort(reason)
            raise
        log.info(
            "logged in peer=%s dialect=%s login=%s signing=%s",
            stream.peer,
            SMB1.label,
            session.login_name,
            session.signing_name or "no",
        )
        return session

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
        return Smb1Tree(self.connection, self.engine, self.negotiated, named, self._network), answer.service

    async def _ask_for_tree(self, name: str) -> Reply:
        request = TreeConnectRequest(
            flags=0,
            password=self._share_password(),
            path=share_path(self._target.host, name),
            service=SERVICE_ANY,
        )
        (reply,) = await self.connection.perform(self.engine.submit((request,)))
        return reply

    async def aclose(self) -> None:
        """Log off and close the connection; see `Session.aclose`."""
        with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
            try:
                await self.connection.perform(self.engine.submit((LogoffMessage(),), urgent=True))
            except SmbError as error:
                log.debug("log off failed: %s", error)
        await self.connection.aclose()

    # --- login --------------------------------------------------------------------------------------------------------

    async def _log_in(self, security: Security) -> None:
        if not self.negotiated.user_level:
            await self._log_in_as_nobody(security)
        elif self.negotiated.answer.extended_security:
            await self._log_in_with_blobs(security)
        else:
            await self._log_in_with_response(security)

    async def _log_in_with_blobs(self, security: Security) -> None:
        """Log in with SPNEGO, or with NTLMSSP alone where the server wants or needs that.  [MS-SMB] 3.2.4.2.4."""
        try:
            await self._exchange_tokens(self.negotiated.answer.security_blob, security)
        except WithoutIntegrity as error:
            log.info("login begun again without SPNEGO: %s", error)
            self.engine.login_as(NO_UID)
            await self._exchange_tokens(b"", security)

    async def _exchange_tokens(self, hint: bytes, security: Security) -> None:
        """Exchange tokens until the server is content."""
        answer, host = self.negotiated.answer, self._target.host
        exchange = begin_login(self._login, host=host, hint=hint)
        token = await self._step(exchange, b"")
        for _ in range(MOST_LOGIN_LEGS):
            request = SessionSetupExtendedRequest(
                max_buffer_size=MAX_BUFFER_SIZE,
                max_mpx_count=answer.max_mpx_count,
                vc_number=VC_NUMBER,
                session_key=answer.session_key,
                capabilities=self.negotiated.client_capabilities,
                security_blob=token,
                native_os=NATIVE_OS,
                native_lan_man=NATIVE_LAN_MAN,
            )
            reply, response = await self._set_up(request)
            blob = response.security_blob or b""
            if reply.status == NtStatus.SUCCESS:
                self.login_name = f"{exchange.name} {self._login.user}".rstrip()
                if self._is_guest(response):
                    self._accept_without_key(security, "guest")
                    return
                exchange.finish(blob)
                self._accept(reply, exchange.session_key, security)
                return
            token = await self._step(exchange, blob)
        raise AuthenticationFailed(f"{host} goes on asking and never ends the login")

    async def _step(self, exchange: LoginExchange, token: bytes) -> bytes:
        if self._login.sec is Sec.KRB5:
            return await trio.to_thread.run_sync(exchange.step, token, limiter=_kerberos_steps)
        return exchange.step(token)

    async def _log_in_with_response(self, security: Security) -> None:
        """Answer the bare challenge, or give the password itself to a server that wants nothing else."""
        response = self._respond(self._login)
        reply, answer = await self._set_up(self._setup_request(response.oem, response.unicode))
        self.login_name = f"{response.name} {self._login.user}".rstrip()
        if self._is_guest(answer):
            self._accept_without_key(security, "guest")
        else:
            self._accept(reply, response.signing_key, security)

    async def _log_in_as_nobody(self, security: Security) -> None:
        """Begin a session with a server whose shares have the passwords: nobody logs in, and nothing can be signed."""
        host = self._target.host
        if security.sign or self.negotiated.signing_required:
            raise SecurityRefused(f"{host} has passwords for its shares instead of users: nothing can be signed there")
        reply, _ = await self._set_up(self._setup_request(b"", b""))
        self.engine.login_as(reply.uid)
        self.login_name = "share password"

    def _setup_request(self, oem: bytes, unicode: bytes) -> SessionSetupRequest:
        answer = self.negotiated.answer
        return SessionSetupRequest(
            max_buffer_size=MAX_BUFFER_SIZE,
            max_mpx_count=answer.max_mpx_count,
            vc_number=VC_NUMBER,
            session_key=answer.session_key,
            capabilities=self.negotiated.client_capabilities,
            oem_password=oem,
            unicode_password=unicode,
            account_name=self._login.user,
            primary_domain=self._login.domain,
            native_os=NATIVE_OS,
            native_lan_man=NATIVE_LAN_MAN,
        )

    async def _set_up(self, request: Message) -> tuple[Reply, SessionSetupResponse]:
        """Perform one SESSION_SETUP.  Raises AuthenticationFailed if the server refuses."""
        (reply,) = await self.connection.perform(self.engine.submit((request,)))
        if reply.status == NtStatus.INVALID_PARAMETER and isinstance(request, SessionSetupRequest):
            raise AuthenticationFailed(
                f"{self._target.host} does not take this kind of answer to its challenge (Samba's `raw NTLMv2 auth`); "
                "leave out noextsec, or choose another sec=",
                reason=Reason.LOGIN_NOT_ALLOWED,
            )
        # Only blobs can be asked for more: whoever has answered a challenge is let in or not.
        accepted = [NtStatus.SUCCESS]
        if isinstance(request, SessionSetupExtendedRequest):
            accepted.append(NtStatus.MORE_PROCESSING_REQUIRED)
        if reply.status not in accepted:
            raise status.login_refused(
                reply.status, user=self._login.user, host=self._target.host, as_guest=self._login.is_guests
            )
        self.engine.login_as(reply.uid)
        return reply, SessionSetupResponse.decode_block(reply.block, self.engine.strings)

    def _respond(self, login: Login) -> ChallengeResponse:
        """Answer the server's challenge as `sec=` says.  Raises ConfigError, SecurityRefused."""
        negotiated = self.negotiated
        if login.sec is Sec.PLAINTEXT and negotiated.encrypts_passwords:
            raise SecurityRefused(
                f"{self._target.host} takes passwords encrypted, so that plaintext would only give it away; "
                "leave out sec=plaintext"
            )
        return respond(
            login,
            negotiated.answer.challenge if negotiated.encrypts_passwords else b"",
            oem_codepage=self._network.oem_codepage,
            unicode=negotiated.strings.unicode,
        )

    def _is_guest(self, answer: SessionSetupResponse) -> bool:
        """Tell whether the server made us a guest.  Raises AuthenticationFailed if that may not be."""
        if not answer.action & SetupAction.GUEST or not self._login.user:
            return False
        if not self._login.guest:
            raise AuthenticationFailed(
                f"{self._target.host} let {self._login.user} in only as guest, which usually means a wrong user name "
                "or password; if a guest's rights are enough, mount with -o guest",
                reason=Reason.GUEST_REFUSED,
            )
        return True

    def _accept(self, reply: Reply, key: bytes, security: Security) -> None:
        """Sign from now on where that was agreed on. The response that ended the login is the first signed one."""
        if not key:
            self._accept_without_key(security, "plaintext" if self._login.user else "anonymous")
        elif self.negotiated.sign:
            protection = Smb1Protection(key)
            protection.check(reply.block.pdu, FIRST_SEQUENCE + 1)
            self.engine.protect(protection)

    def _accept_without_key(self, security: Security, who: str) -> None:
        """A guest's login and others make no key: nothing can be signed."""
        host = self._target.host
        self.login_name = f"{self.login_name} ({who})"
        if security.sign:
            raise SecurityRefused(f"a {who} login at {host} cannot be signed, as was demanded; log in with a user")
        if self.negotiated.signing_required:
            raise SecurityRefused(f"{host} requires signing, which a {who} login cannot give; log in with a user")

    # --- shares -------------------------------------------------------------------------------------------------------

    def _share_password(self) -> bytes:
        """Return what TREE_CONNECT carries: nothing with user-level security, else the share's password."""
        if self.negotiated.user_level or not self._login.password:
            return NO_PASSWORD
        # The password is the share's: whose it is does not matter, but it must not be nobody's.
        response = self._respond(replace(self._login, user=self._login.user or "share"))
        return response.unicode or response.oem or NO_PASSWORD

    def _no_share(self, value: int, where: str) -> SmbError:
        # Here nothing but the share can be missing, and that is to be said, whichever path a server finds missing.
        refused = status.error(NtStatus.BAD_NETWORK_NAME if value in _NO_SUCH_SHARE else value, "TREE_CONNECT", where)
        if not self.negotiated.user_level and isinstance(refused, Denied):
            return AuthenticationFailed(
                f"{where} has a password of its own, and this is not it; servers that are so old often know only sec=lm"
            )
        return refused
