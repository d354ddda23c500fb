"""Logins by exchanging tokens: NTLM and Kerberos, wrapped in SPNEGO or raw. [MS-SMB2] 3.2.4.2.3, [MS-SMB] 3.2.4.2.4.

    exchange = begin_login(login, host="server", hint=blob_of_the_negotiate_response)
    token = exchange.step(b"")                # for the first SESSION_SETUP request
    token = exchange.step(reply_token)        # while the status is STATUS_MORE_PROCESSING_REQUIRED
    exchange.finish(last_reply_token)         # on success: the server proves itself too
    exchange.session_key

pyspnego does the work; the anonymous NTLM login, which it has not, is made here. NTLM steps are pure computation; a
Kerberos step may wait for the network, so call it in a thread.
"""

import abc
import logging
import re
from struct import Struct
from typing import Final, Protocol

import spnego
from spnego.exceptions import OperationNotAvailableError, SpnegoError

from smbfuse.config import Login, Sec
from smbfuse.errors import AuthenticationFailed, ConfigError, NoTicket, SecurityRefused
from smbfuse.security.challenge import nt_hash

log = logging.getLogger(__name__)

SERVICE: Final = "cifs"  # of the target name cifs/host, in Kerberos tickets and in NTLM's MsvAvTargetName

MOST_STEPS: Final = 8  # Kerberos and NTLM need two or three; a server that asks for more only wants to keep us busy

_NTLMSSP: Final = b"NTLMSSP\0"
_NTLM_V1_RESPONSE_SIZE: Final = 24
_GSSAPI_MINOR: Final = re.compile(r"^Major \(\d+\): .*, Minor \(\d+\): ", re.DOTALL)
_KERBEROS_CODE: Final = re.compile(r" -?\d+$")  # at the end of what the library of Kerberos says
# KDC_ERR_PREAUTH_FAILED, KRB_AP_ERR_BAD_INTEGRITY: what the KDC says to a password, and what its answer looks like.
_WRONG_PASSWORD: Final = (-1765328360, -1765328353)


class WithoutIntegrity(AuthenticationFailed):
    """The server's NTLM has no signatures, without which SPNEGO cannot be ended: begin again with raw NTLMSSP.

    impacket's SMB1 server is one. Nothing was given away: only the first token has left.
    """


class LoginExchange(Protocol):
    """One login under way."""

    name: str  # the mechanism, for display

    @property
    def complete(self) -> bool:
        """Whether nothing is missing for a session key. The server's last token may still be due: see `finish`."""
        ...

    @property
    def session_key(self) -> bytes:
        """The key of the login, 16 bytes or more, once it is complete; b"" for the anonymous user."""
        ...

    def step(self, token: bytes) -> bytes:
        """Take the server's token (b"" at first) and return ours; b"" if there is nothing left to say.

        Raises: AuthenticationFailed (a token that may not be accepted), SecurityRefused, ConfigError.
        """
        ...

    def finish(self, token: bytes) -> None:
        """Take the token of the successful response, b"" if it has none, and verify what the server proves by it.

        Raises AuthenticationFailed if the server let us in before the login was complete, or proved itself wrongly.
        """
        ...


def begin_login(login: Login, *, host: str, hint: bytes | None) -> LoginExchange:
    """Return the exchange for `login` at the server `host`, by the name that the user called it.

    `hint` is the security blob of the NEGOTIATE response: SPNEGO's list of mechanisms; b"" asks for raw NTLMSSP, as
    does `sec=ntlmssp`; None if there was no blob at all.
    Raises: ConfigError (`sec=` does not fit, or needs a package that is not installed), AuthenticationFailed.
    """
    if login.sec in (Sec.NTLM, Sec.LM, Sec.PLAINTEXT):
        raise ConfigError(f"sec={login.sec.value} exists only in SMB1 without extended security: use vers=1.0,noextsec")
    if login.sec is Sec.NONE or (login.sec is not Sec.KRB5 and not login.user):
        return AnonymousExchange()
    if login.sec is Sec.KRB5:
        return KerberosExchange(login, host, hint or b"")
    return NtlmExchange(login, host, hint)


class _Exchange(abc.ABC):
    """What the exchanges made by pyspnego share: errors in our terms, and the end of the exchange."""

    name: str
    complete = False
    _context: spnego.ContextProxy
    _steps = 0

    @abc.abstractmethod
    def step(self, token: bytes) -> bytes: ...

    def _is_complete(self) -> bool:
        return self._context.complete

    @property
    def session_key(self) -> bytes:
        return self._context.session_key if self.complete else b""

    def finish(self, token: bytes) -> None:
        if token:
            self.step(token)
        if not self.complete:
            raise AuthenticationFailed("the server ended the login before it was complete")

    def _advance(self, token: bytes) -> bytes:
        self._steps += 1
        self.complete = False
        if self._steps > MOST_STEPS:
            raise AuthenticationFailed(f"{self.name} login: the server never comes to an end")
        try:
            ours = self._context.step(token or None) or b""
            self.complete = self._is_complete()
            return ours
        except OperationNotAvailableError as error:
            raise WithoutIntegrity(f"{self.name} login: {_in_words(error)}") from error
        except SpnegoError as error:
            raise AuthenticationFailed(f"{self.name} login: {_in_words(error)}") from error
        except Exception as error:  # whatever a strange token makes of a parser that is not ours
            raise AuthenticationFailed(f"{self.name} login: the server's answer cannot be read ({error!r})") from error


class NtlmExchange(_Exchange):
    """NTLMv2 within SPNEGO, or raw. With MIC where the server gives a time, and mechListMIC in both directions."""

    def __init__(self, login: Login, host: str, hint: bytes | None) -> None:
        raw = hint == b"" or login.sec is Sec.NTLMSSP
        password = login.password.reveal() if login.password is not None else ""
        # A hash instead of the password serves NTLM only: no Kerberos ticket is looked for, no system library asked.
        credential = spnego.NTLMHash(_down_level_name(login), nt_hash=nt_hash(password).hex())
        self.name = "NTLMSSP" if raw else "SPNEGO/NTLM"
        self._hint = b"" if raw else hint or b""
        self._context = _client(credential, host, "ntlm" if raw else "negotiate")

    def step(self, token: bytes) -> bytes:
        ours = self._advance(token or self._hint)
        self._hint = b""
        _refuse_ntlm_v1(ours)
        return ours

    def _is_complete(self) -> bool:
        # There is a key as soon as AUTHENTICATE is made. A server may say nothing more, so that pyspnego would wait on.
        return self._context.complete or bool(self._context.session_key)


class KerberosExchange(_Exchange):
    """Kerberos within SPNEGO, and nothing else: a server that cannot is an error, not a reason for NTLM."""

    name = "Kerberos"

    def __init__(self, login: Login, host: str, hint: bytes) -> None:
        self._credential = _kerberos_credential(login)
        self._host = host
        self._hint = hint
        self._begun = False

    def step(self, token: bytes) -> bytes:
        if not self._begun:
            return self._begin()
        ours = self._advance(token)
        if self._context.negotiated_protocol != "kerberos":
            raise AuthenticationFailed("Kerberos login: the server chose another mechanism")
        return ours

    def _begin(self) -> bytes:
        # Not in the constructor: with a password, making the context already asks the KDC for a ticket.
        self._context = _client(self._credential, self._host, "negotiate")
        self._begun = True
        try:
            ours = self._advance(self._hint)
            if self._context.negotiated_protocol == "kerberos":
                return ours
        except AuthenticationFailed as error:
            log.debug("no Kerberos token within SPNEGO: %s", error)
        # SPNEGO would go on without Kerberos and does not say why. The mechanism does, when it is asked for alone.
        try:
            _client(self._credential, self._host, "kerberos").step()
        except ImportError as error:
            raise ConfigError(
                "sec=krb5 needs the Kerberos extra: pip install 'smbfuse[kerberos]' (it is compiled: on Debian, "
                "apt install libkrb5-dev gcc first)"
            ) from error
        except Exception as error:  # GSSAPI's, Kerberos's and pyspnego's errors have no base in common
            if getattr(error, "err_code", 0) in _WRONG_PASSWORD:
                raise AuthenticationFailed("Kerberos login: wrong password; check it, and the realm") from error
            hint = "" if isinstance(self._credential, spnego.Password) else "; kinit gets a ticket, klist shows them"
            raise NoTicket(f"Kerberos login: {_in_words(error)}{hint}") from error
        raise AuthenticationFailed("Kerberos login: the server does not offer Kerberos; sec=ntlmssp may work")


class AnonymousExchange:
    """The anonymous NTLM login, raw: no name, no password, no key. [MS-NLMP] 3.1.5.1.2, 3.2.5.1.2."""

    name = "anonymous"
    session_key = b""

    _NEGOTIATE: Final = Struct("<8sI I 8x8x 8x")  # signature, type 1, flags; no domain, workstation, version
    _CHALLENGE: Final = Struct("<8sI 8x I 8s")  # signature, type 2, flags, server challenge
    _AUTHENTICATE: Final = Struct("<8sI HHI HHI HHI HHI HHI HHI I 8x")  # six (length, room, offset), flags

    _UNICODE, _REQUEST_TARGET, _NTLM, _ANONYMOUS = 0x00000001, 0x00000004, 0x00000200, 0x00000800
    _ALWAYS_SIGN, _EXTENDED_SESSION_SECURITY = 0x00008000, 0x00080000

    def __init__(self) -> None:
        self.complete = False
        self._flags = (
            self._UNICODE | self._REQUEST_TARGET | self._NTLM | self._ALWAYS_SIGN | self._EXTENDED_SESSION_SECURITY
        )

    def step(self, token: bytes) -> bytes:
        if not token:
            return self._NEGOTIATE.pack(_NTLMSSP, 1, self._flags)
        if len(token) < self._CHALLENGE.size or not token.startswith(_NTLMSSP + b"\x02\0\0\0"):
            raise AuthenticationFailed("anonymous login: the server did not answer with an NTLM challenge")
        _, _, flags, _ = self._CHALLENGE.unpack_from(token)
        self.complete = True
        end = self._AUTHENTICATE.size
        empty = (0, 0, end + 1)
        return (
            self._AUTHENTICATE.pack(
                _NTLMSSP, 3, 1, 1, end, *empty, *empty, *empty, *empty, *empty, flags & self._flags | self._ANONYMOUS
            )
            + b"\0"  # the LM response of nobody is one zero byte
        )

    def finish(self, token: bytes) -> None:
        """Nothing is proved to nobody: a last token is ignored."""
        if not self.complete:
            raise AuthenticationFailed("the server ended the login before it was complete")


def _client(credential: spnego.Credential, host: str, protocol: str) -> spnego.ContextProxy:
    # The default requests ask for integrity and confidentiality: without them NTLM makes no random session key.
    options = {
        "negotiate": spnego.NegotiateOptions.use_negotiate,
        "ntlm": spnego.NegotiateOptions.use_ntlm,
        "kerberos": spnego.NegotiateOptions.use_gssapi,
    }
    try:
        return spnego.client(credential, hostname=host, service=SERVICE, protocol=protocol, options=options[protocol])
    except SpnegoError as error:
        raise AuthenticationFailed(f"{protocol} login: {_in_words(error)}") from error


def _down_level_name(login: Login) -> str:
    # Without a domain the separator still has to stand there if the name itself has one.
    return f"{login.domain}\\{login.user}" if login.domain or "\\" in login.user else login.user


def _kerberos_credential(login: Login) -> spnego.Credential:
    principal = login.user
    if principal and login.domain and "@" not in principal:
        principal = f"{principal}@{login.domain.upper()}"
    if login.password is not None and principal:
        return spnego.Password(principal, login.password.reveal())
    return spnego.CredentialCache(principal or None)


def _refuse_ntlm_v1(token: bytes) -> None:
    """Stop an AUTHENTICATE message with an NTLMv1 response before it leaves.

    pyspnego obeys the environment variable LM_COMPAT_LEVEL, and no variable may lower what the user asked for.
    """
    at = token.find(_NTLMSSP + b"\x03\0\0\0")
    if at >= 0 and int.from_bytes(token[at + 20 : at + 22], "little") <= _NTLM_V1_RESPONSE_SIZE:
        raise SecurityRefused("NTLMv1 would have been used: unset LM_COMPAT_LEVEL in the environment")


def _in_words(error: Exception) -> str:
    """Return a library's message without what is for its developers: of GSSAPI's, what the mechanism itself says."""
    text = error.message.partition(": ")[2] if isinstance(error, SpnegoError) else str(error)
    text = text.partition(", Context: ")[0] or text
    return _KERBEROS_CODE.sub("", _GSSAPI_MINOR.sub("", text))
