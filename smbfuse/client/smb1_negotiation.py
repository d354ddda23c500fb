"""Agreeing on SMB1 with a server: what is offered, what it answers, and what follows from both.

[MS-CIFS] 3.2.4.2.2, 3.2.5.2; [MS-SMB] 3.2.4.2.1, 3.2.5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.config import Login, Network, Sec, Security, Target, Vers
from smbfuse.engine.smb1 import Smb1Engine
from smbfuse.errors import ConfigError, ProtocolError, SecurityRefused
from smbfuse.status import NtStatus, from_dos
from smbfuse.wire.smb1.header import NO_TID, Command, Flags, Flags2, Header
from smbfuse.wire.smb1.message import OEM, Block, Strings, decode_message, encode_message
from smbfuse.wire.smb1.negotiate import (
    NT_LM_012,
    Capabilities,
    LanmanNegotiateResponse,
    NegotiateRequest,
    NegotiateResponse,
    SecurityMode,
    decode_negotiate_response,
)

if TYPE_CHECKING:
    from smbfuse.client.connection import Connection

DIALECTS: Final = (NT_LM_012,)
SMALLEST_BUFFER: Final = 1024  # [MS-CIFS] 2.2.4.52.2: a server that takes less is no server
_NO_EXTENDED_SECURITY: Final = frozenset({Sec.NTLM, Sec.LM, Sec.PLAINTEXT})
_OUR_CAPABILITIES: Final = (
    Capabilities.LARGE_FILES
    | Capabilities.NT_SMBS
    | Capabilities.STATUS32
    | Capabilities.LEVEL_II_OPLOCKS
    | Capabilities.NT_FIND
    | Capabilities.LARGE_READX
    | Capabilities.LARGE_WRITEX
    | Capabilities.UNIX
)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed on."""

    answer: NegotiateResponse
    strings: Strings
    sign: bool  # every message from the end of the login on

    def has(self, capability: Capabilities) -> bool:
        """Tell whether the server has `capability`."""
        return bool(self.answer.capabilities & capability)

    @property
    def user_level(self) -> bool:
        """Whether a login is a user's; else each share has a password of its own."""
        return bool(self.answer.security_mode & SecurityMode.USER_LEVEL)

    @property
    def signing_required(self) -> bool:
        """Whether the server refuses messages without signatures."""
        return bool(self.answer.security_mode & SecurityMode.SIGNATURES_REQUIRED)

    @property
    def encrypts_passwords(self) -> bool:
        """Whether the server takes answers to a challenge; else passwords in plaintext."""
        return bool(self.answer.security_mode & SecurityMode.ENCRYPT_PASSWORDS)

    @property
    def flags2(self) -> int:
        """Flags2 of every request from now on."""
        flags2 = Flags2.LONG_NAMES | Flags2.IS_LONG_NAME
        if self.strings.unicode:
            flags2 |= Flags2.UNICODE
        if self.has(Capabilities.STATUS32):
            flags2 |= Flags2.NT_STATUS
        if self.answer.extended_security:
            flags2 |= Flags2.EXTENDED_SECURITY
        if self.sign:
            flags2 |= Flags2.SECURITY_SIGNATURE
        return int(flags2)

    @property
    def client_capabilities(self) -> int:
        """What the client says of itself in SESSION_SETUP: what both have."""
        ours = _OUR_CAPABILITIES | Capabilities.EXTENDED_SECURITY
        if self.strings.unicode:
            ours |= Capabilities.UNICODE
        return int(ours & self.answer.capabilities)


def encode_negotiate_probe(dialects: Sequence[str], *, extended_security: bool = True, sign: bool = False) -> bytes:
    """Return a whole SMB1 NEGOTIATE message that offers `dialects`, which begin with NT LM 0.12.

    It may offer SMB2 as well ("SMB 2.002", "SMB 2.???"). The signature bits tell a server to prepare for signing:
    Samba does so only if they are set here.
    """
    flags2 = int(_first_flags2(extended_security=extended_security, sign=sign))
    header = Header(Command.NEGOTIATE, 0, int(Flags.CASE_INSENSITIVE), flags2, 0, bytes(8), NO_TID, 0, 0, 0)
    return bytes(encode_message(header, (NegotiateRequest(tuple(dialects)),), OEM))


async def negotiate(
    connection: Connection,
    engine: Smb1Engine,
    *,
    target: Target,
    login: Login,
    security: Security,
    network: Network,
    first_reply: memoryview | None,
) -> Negotiated:
    """Agree with the server, and have the engine know it.

    `first_reply` is the answer to an `encode_negotiate_probe` that was sent before.

    Cost: 1 round trip, none with a `first_reply`.
    Raises: SecurityRefused (what was demanded is not to be had), ConfigError, ProtocolError.
    """
    if first_reply is None:
        extended = network.smb1_extended_security and login.sec not in _NO_EXTENDED_SECURITY
        engine.flags2 = int(_first_flags2(extended_security=extended, sign=security.sign))
        (reply,) = await connection.perform(engine.submit((NegotiateRequest(DIALECTS),)))
        value, block = reply.status, reply.block
    else:
        value, block = _first_block(first_reply)
    if value != NtStatus.SUCCESS:
        raise status.error(value, "NEGOTIATE")
    answer = decode_negotiate_response(block, Strings(unicode=False, codepage=network.oem_codepage))
    negotiated = _judge(answer, target, security, network)
    engine.adopt(
        strings=negotiated.strings,
        flags2=negotiated.flags2,
        max_mpx_count=negotiated.answer.max_mpx_count,
        max_buffer_size=negotiated.answer.max_buffer_size,
        can_cancel=negotiated.has(Capabilities.NT_SMBS),
    )
    return negotiated


def _first_flags2(*, extended_security: bool, sign: bool) -> Flags2:
    flags2 = Flags2.LONG_NAMES | Flags2.IS_LONG_NAME | Flags2.NT_STATUS | Flags2.UNICODE | Flags2.SECURITY_SIGNATURE
    if extended_security:
        flags2 |= Flags2.EXTENDED_SECURITY
    if sign:
        flags2 |= Flags2.SECURITY_SIGNATURE_REQUIRED
    return flags2


def _first_block(first_reply: memoryview) -> tuple[int, Block]:
    header, blocks = decode_message(first_reply)
    if header.command != Command.NEGOTIATE or not header.is_reply:
        raise ProtocolError("the answer to the SMB1 NEGOTIATE is none")
    value = header.status if header.flags2 & Flags2.NT_STATUS else from_dos(header.status)
    return value, blocks[0]


def _judge(answer: object, target: Target, security: Security, network: Network) -> Negotiated:
    """Check the server's answer against what was offered and demanded."""
    host = target.host
    if isinstance(answer, LanmanNegotiateResponse):
        raise ProtocolError(f"{host} speaks only dialects older than {NT_LM_012}, which smbfuse does not know")
    if not isinstance(answer, NegotiateResponse) or answer.dialect_index != 0:
        raise ProtocolError(f"{host} does not speak {NT_LM_012}, the only SMB1 dialect that smbfuse knows")
    if answer.max_buffer_size < SMALLEST_BUFFER:
        raise ProtocolError(f"{host} takes messages of {answer.max_buffer_size} bytes only")
    if security.seal:
        raise SecurityRefused(f"{host} cannot encrypt, because SMB1 has no encryption; seal needs at least vers=3.0")
    mode = answer.security_mode
    enabled = bool(mode & (SecurityMode.SIGNATURES_ENABLED | SecurityMode.SIGNATURES_REQUIRED))
    required = bool(mode & SecurityMode.SIGNATURES_REQUIRED)
    if security.sign and not enabled:
        raise SecurityRefused(f"{host} cannot sign, as was demanded; let its administrator enable signing for SMB1")
    unicode = bool(answer.capabilities & Capabilities.UNICODE)
    if network.unicode and not unicode:
        raise ConfigError(f"{host} does not know Unicode, which was demanded; use nounicode with oemcp= its code page")
    return Negotiated(
        answer,
        Strings(unicode and network.unicode is not False, network.oem_codepage),
        sign=security.sign or required or (security.vers is Vers.AUTO and enabled),
    )
