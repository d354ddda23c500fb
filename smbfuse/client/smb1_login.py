"""How SMB1 logs in: by security blobs or against a bare challenge, as a user or as nobody in particular.

What the server requires is honoured without being asked for; what the user demands (`sign`, `seal`) and does not get is
refused, never lowered.  [MS-CIFS] 3.2.4.2.4, 3.2.5.3; [MS-SMB] 3.2.4.2.4, 3.2.5.3.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.session import MOST_LOGIN_LEGS, login_step
from smbfuse.client.smb1_tree import MAX_BUFFER_SIZE
from smbfuse.config import Login, Network, Sec, Security, Target
from smbfuse.engine.protect import Smb1Protection
from smbfuse.errors import AuthenticationFailed, Reason, SecurityRefused
from smbfuse.security.challenge import ChallengeResponse, respond
from smbfuse.security.login import WithoutIntegrity, begin_login
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.header import NO_UID
from smbfuse.wire.smb1.session import (
    SessionSetupExtendedRequest,
    SessionSetupRequest,
    SessionSetupResponse,
    SetupAction,
)

if TYPE_CHECKING:
    from smbfuse.client.connection import Connection
    from smbfuse.client.smb1_negotiation import Negotiated
    from smbfuse.engine.smb1 import Smb1Engine
    from smbfuse.engine.smb1_exchange import Reply
    from smbfuse.wire.smb1.message import Message

log = logging.getLogger(__name__)

VC_NUMBER: Final = 1  # 0 makes old servers end every other connection from this address
FIRST_SEQUENCE: Final = 0  # of the SESSION_SETUP that ends the login
NO_PASSWORD: Final = b"\0"
NATIVE_OS: Final = "Unix"
NATIVE_LAN_MAN: Final = "smbfuse"


class Smb1Login:
    """Who logs in on one connection, and how that went. `name` is mechanism and user, for status."""

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
        self.name = ""
        self._connection = connection
        self._engine = engine
        self._negotiated = negotiated
        self._target = target
        self._login = login
        self._network = network

    def __repr__(self) -> str:
        return f"<Smb1Login {self.name}>"

    async def log_in(self, security: Security) -> None:
        """Log in in the way that the server wants.

        Cost: 2 round trips with NTLM, 1 against a bare challenge.
        Raises: AuthenticationFailed, SecurityRefused, ConfigError (all final).
        """
        if not self._negotiated.user_level:
            await self._log_in_as_nobody(security)
        elif self._negotiated.answer.extended_security:
            await self._log_in_with_blobs(security)
        else:
            await self._log_in_with_response(security)

    async def _log_in_with_blobs(self, security: Security) -> None:
        """Log in with SPNEGO, or with NTLMSSP alone where the server wants or needs that.  [MS-SMB] 3.2.4.2.4."""
        try:
            await self._exchange_tokens(self._negotiated.answer.security_blob, security)
        except WithoutIntegrity as error:
            log.info("login begun again without SPNEGO: %s", error)
            self._engine.login_as(NO_UID)
            await self._exchange_tokens(b"", security)

    async def _exchange_tokens(self, hint: bytes, security: Security) -> None:
        """Exchange tokens until the server is content."""
        answer, host = self._negotiated.answer, self._target.host
        exchange = begin_login(self._login, host=host, hint=hint)
        token = await login_step(exchange, b"", self._login.sec)
        for _ in range(MOST_LOGIN_LEGS):
            request = SessionSetupExtendedRequest(
                max_buffer_size=MAX_BUFFER_SIZE,
                max_mpx_count=answer.max_mpx_count,
                vc_number=VC_NUMBER,
                session_key=answer.session_key,
                capabilities=self._negotiated.client_capabilities,
                security_blob=token,
                native_os=NATIVE_OS,
                native_lan_man=NATIVE_LAN_MAN,
            )
            reply, response = await self._set_up(request)
            blob = response.security_blob or b""
            if reply.status == NtStatus.SUCCESS:
                self.name = f"{exchange.name} {self._login.user}".rstrip()
                if self._is_guest(response):
                    self._accept_without_key(security, "guest")
                    return
                exchange.finish(blob)
                self._accept(reply, exchange.session_key, security)
                return
            token = await login_step(exchange, blob, self._login.sec)
        raise AuthenticationFailed(f"{host} goes on asking and never ends the login")

    async def _log_in_with_response(self, security: Security) -> None:
        """Answer the bare challenge, or give the password itself to a server that wants nothing else."""
        response = self._respond(self._login)
        reply, answer = await self._set_up(self._setup_request(response.oem, response.unicode))
        self.name = f"{response.name} {self._login.user}".rstrip()
        if self._is_guest(answer):
            self._accept_without_key(security, "guest")
        else:
            self._accept(reply, response.signing_key, security)

    async def _log_in_as_nobody(self, security: Security) -> None:
        """Begin a session with a server whose shares have the passwords: nobody logs in, and nothing can be signed."""
        host = self._target.host
        if security.sign or self._negotiated.signing_required:
            raise SecurityRefused(f"{host} has passwords for its shares instead of users: nothing can be signed there")
        reply, _ = await self._set_up(self._setup_request(b"", b""))
        self._engine.login_as(reply.uid)
        self.name = "share password"

    def _setup_request(self, oem: bytes, unicode: bytes) -> SessionSetupRequest:
        answer = self._negotiated.answer
        return SessionSetupRequest(
            max_buffer_size=MAX_BUFFER_SIZE,
            max_mpx_count=answer.max_mpx_count,
            vc_number=VC_NUMBER,
            session_key=answer.session_key,
            capabilities=self._negotiated.client_capabilities,
            oem_password=oem,
            unicode_password=unicode,
            account_name=self._login.user,
            primary_domain=self._login.domain,
            native_os=NATIVE_OS,
            native_lan_man=NATIVE_LAN_MAN,
        )

    async def _set_up(self, request: Message) -> tuple[Reply, SessionSetupResponse]:
        """Perform one SESSION_SETUP.  Raises AuthenticationFailed if the server refuses."""
        (reply,) = await self._connection.perform(self._engine.submit((request,)))
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
        self._engine.login_as(reply.uid)
        return reply, SessionSetupResponse.decode_block(reply.block, self._engine.strings)

    def _respond(self, login: Login) -> ChallengeResponse:
        """Answer the server's challenge as `sec=` says.  Raises ConfigError, SecurityRefused."""
        negotiated = self._negotiated
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
        elif self._negotiated.sign:
            protection = Smb1Protection(key)
            protection.check(reply.block.pdu, FIRST_SEQUENCE + 1)
            self._engine.protect(protection)

    def _accept_without_key(self, security: Security, who: str) -> None:
        """A guest's login and others make no key: nothing can be signed."""
        host = self._target.host
        self.name = f"{self.name} ({who})"
        if security.sign:
            raise SecurityRefused(f"a {who} login at {host} cannot be signed, as was demanded; log in with a user")
        if self._negotiated.signing_required:
            raise SecurityRefused(f"{host} requires signing, which a {who} login cannot give; log in with a user")

    def share_password(self) -> bytes:
        """Return what TREE_CONNECT carries: nothing with user-level security, else the share's password."""
        if self._negotiated.user_level or not self._login.password:
            return NO_PASSWORD
        # The password is the share's: whose it is does not matter, but it must not be nobody's.
        response = self._respond(replace(self._login, user=self._login.user or "share"))
        return response.unicode or response.oem or NO_PASSWORD
