"""Which dialect, cipher and signing algorithm: the NEGOTIATE of SMB2.  [MS-SMB2] 3.2.4.2.2, 3.2.5.2.

The answer is unsigned, so nothing in it is trusted beyond what was offered; whether it was tampered with is proved
later, by the hash over it (3.1.1) or by asking again under a signature (`Smb2Session`).
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.config import Network, Security, Target, Vers
from smbfuse.engine.dialect import BY_REVISION, SMB2_FAMILY, Cipher, Dialect, SigningAlgorithm
from smbfuse.engine.smb2 import Smb2Engine
from smbfuse.engine.smb2_exchange import Request
from smbfuse.errors import ProtocolError, SecurityRefused
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.header import Command, split_compound
from smbfuse.wire.smb2.negotiate import (
    SHA_512,
    Capabilities,
    ContextType,
    DialectRevision,
    NegotiateContext,
    NegotiateRequest,
    NegotiateResponse,
    SecurityMode,
    algorithms,
    decode_algorithms,
    decode_preauth_integrity,
    netname,
    preauth_integrity,
)
from smbfuse.wire.smb2.posix import POSIX_EXTENSIONS, posix_extensions_available

if TYPE_CHECKING:
    from smbfuse.client.connection import Connection

SALT_SIZE: Final = 32  # of the pre-authentication hash, as Windows has it
SMALLEST_TRANSFER: Final = 4096  # a server that reads, writes or lists less in one request is none

# What an offer of 3.x says of the client; before 3.0 the field is reserved.  [MS-SMB2] 2.2.3
_CAPABILITIES: Final = (
    Capabilities.LEASING
    | Capabilities.LARGE_MTU
    | Capabilities.PERSISTENT_HANDLES
    | Capabilities.DIRECTORY_LEASING
    | Capabilities.ENCRYPTION
)

_OFFERED: Final = {
    Vers.DEFAULT: SMB2_FAMILY,
    Vers.AUTO: SMB2_FAMILY,
    Vers.SMB3: tuple(dialect for dialect in SMB2_FAMILY if dialect.encryption),
    **{
        vers: (dialect,)
        for vers, dialect in zip(
            (Vers.SMB202, Vers.SMB210, Vers.SMB300, Vers.SMB302, Vers.SMB311), SMB2_FAMILY, strict=True
        )
    },
}


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed on, and what the client said to get it."""

    offer: NegotiateRequest
    answer: NegotiateResponse
    dialect: Dialect
    cipher: Cipher | None
    signing: SigningAlgorithm | None

    @property
    def multi_credit(self) -> bool:
        """Whether requests may cost several credits, and so carry more than 64 KiB."""
        return self.dialect.multi_credit and bool(self.answer.capabilities & Capabilities.LARGE_MTU)

    @property
    def posix(self) -> bool:
        """Whether both have the POSIX extensions; each share has still to be asked."""
        context = (ContextType.POSIX_EXTENSIONS_AVAILABLE, POSIX_EXTENSIONS)
        return self.dialect.contexts and context in self.offer.contexts and context in self.answer.contexts

    @property
    def lease_version(self) -> int:
        """Which leases the server grants: of version 1 or 2, 0 where it has none but oplocks."""
        if not self.answer.capabilities & Capabilities.LEASING:
            return 0
        return self.dialect.lease_version

    @property
    def directory_leases(self) -> bool:
        """Whether the server leases folders."""
        return self.lease_version == 2 and bool(self.answer.capabilities & Capabilities.DIRECTORY_LEASING)

    @property
    def persistent_handles(self) -> bool:
        """Whether the server has persistent handles; each share has still to say so too."""
        return self.dialect.durable_version == 2 and bool(self.answer.capabilities & Capabilities.PERSISTENT_HANDLES)

    @property
    def signing_required(self) -> bool:
        """Whether the server requires signing."""
        return bool(self.answer.security_mode & SecurityMode.SIGNING_REQUIRED)


async def negotiate(
    connection: Connection,
    engine: Smb2Engine,
    target: Target,
    security: Security,
    network: Network,
    first_reply: memoryview | None,
    client_guid: bytes | None = None,
) -> Negotiated:
    """Agree on a dialect and on algorithms.  Cost: 1 round trip, none if `first_reply` has decided it.

    `client_guid`: what this client has called itself before. Leases and durable handles belong to it.
    """
    offer = _offer(target, security, network, client_guid or uuid.uuid4().bytes)
    if first_reply is not None:
        answer = _first_answer(first_reply)
        if answer.dialect_revision == DialectRevision.SMB_2_0_2:
            # The SMB1 NEGOTIATE said nothing of these; a server that is asked to confirm them knows them as zeros.
            said = NegotiateRequest(offer.dialects, 0, 0, bytes(16))
            return _judge(said, answer, target, security)
    (reply,) = await connection.perform(engine.submit((Request(Command.NEGOTIATE, offer.encode()),)))
    if reply.status == NtStatus.NOT_SUPPORTED:
        raise SecurityRefused(f"{target.host} speaks none of the dialects that vers={security.vers.value} allows")
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, "NEGOTIATE")
    return _judge(offer, NegotiateResponse.decode(reply.element), target, security)


def _first_answer(first_reply: memoryview) -> NegotiateResponse:
    """Read the SMB2 answer to an SMB1 NEGOTIATE.  [MS-SMB2] 3.2.5.2, first paragraphs."""
    (header, element), *others = split_compound(first_reply)
    if others or header.command != Command.NEGOTIATE or header.status != NtStatus.SUCCESS or header.message_id != 0:
        raise ProtocolError("the answer to the SMB1 NEGOTIATE is not the SMB2 one that it should be")
    answer = NegotiateResponse.decode(element)
    if answer.dialect_revision not in (DialectRevision.SMB_2_0_2, DialectRevision.WILDCARD):
        raise ProtocolError(f"the answer to the SMB1 NEGOTIATE chose dialect 0x{answer.dialect_revision:04X}")
    return answer


def _offer(target: Target, security: Security, network: Network, client_guid: bytes) -> NegotiateRequest:
    offered = _OFFERED[security.vers]
    contexts: tuple[NegotiateContext, ...] = ()
    if any(dialect.contexts for dialect in offered):
        contexts = (
            preauth_integrity(secrets.token_bytes(SALT_SIZE)),
            algorithms(ContextType.ENCRYPTION_CAPABILITIES, [_cipher(name) for name in security.ciphers]),
            algorithms(ContextType.SIGNING_CAPABILITIES, [_signing(name) for name in security.signing]),
            netname(target.host),
        )
        if network.unix_extensions:
            contexts += (posix_extensions_available(),)
    return NegotiateRequest(
        dialects=tuple(dialect.revision for dialect in offered),
        security_mode=SecurityMode.SIGNING_REQUIRED if security.sign else SecurityMode.SIGNING_ENABLED,
        capabilities=_CAPABILITIES if any(dialect.encryption for dialect in offered) else 0,
        client_guid=client_guid,
        contexts=contexts,
    )


def _cipher(name: str) -> Cipher:
    return Cipher[name.replace("-", "_")]


def _signing(name: str) -> SigningAlgorithm:
    return SigningAlgorithm[name.replace("-", "_")]


def _judge(offer: NegotiateRequest, answer: NegotiateResponse, target: Target, security: Security) -> Negotiated:
    """Check the server's choice against what was offered and demanded."""
    dialect = BY_REVISION.get(answer.dialect_revision)
    if dialect is None or dialect.revision not in offer.dialects:
        raise ProtocolError(f"{target.host} chose dialect 0x{answer.dialect_revision:04X}, which was not offered")
    if min(answer.max_read_size, answer.max_write_size, answer.max_transact_size) < SMALLEST_TRANSFER:
        raise ProtocolError(
            f"{target.host} reads at most {answer.max_read_size}, writes at most {answer.max_write_size} and lists at "
            f"most {answer.max_transact_size} bytes"
        )
    cipher: Cipher | None = None
    signing = dialect.default_signing
    if dialect.contexts:
        cipher, signing = _chosen_algorithms(answer, security, signing)
    elif dialect.encryption and answer.capabilities & Capabilities.ENCRYPTION and "AES-128-CCM" in security.ciphers:
        cipher = Cipher.AES_128_CCM
    if security.seal and cipher is None:
        raise SecurityRefused(no_sealing(target.host, dialect))
    return Negotiated(offer, answer, dialect, cipher, signing)


def _chosen_algorithms(
    answer: NegotiateResponse, security: Security, default: SigningAlgorithm | None
) -> tuple[Cipher | None, SigningAlgorithm | None]:
    """Read the contexts of a 3.1.1 answer: each at most once, one choice in each.  [MS-SMB2] 3.2.5.2."""
    found: dict[int, bytes] = {}
    for context_type, data in answer.contexts:
        if found.setdefault(context_type, data) is not data:
            raise ProtocolError(f"negotiate context {context_type} came twice")
    if ContextType.PREAUTH_INTEGRITY_CAPABILITIES not in found:
        raise ProtocolError("the server left out the pre-authentication hash, without which 3.1.1 is not safe")
    hashes, _salt = decode_preauth_integrity(found[ContextType.PREAUTH_INTEGRITY_CAPABILITIES])
    if hashes != [SHA_512]:
        raise ProtocolError(f"the server chose the hash algorithms {hashes}")
    cipher, signing = None, default
    # Cipher 0 says that none of those offered will do.
    if ContextType.ENCRYPTION_CAPABILITIES in found and (number := _choice(found[ContextType.ENCRYPTION_CAPABILITIES])):
        cipher = Cipher(_offered(number, [_cipher(name) for name in security.ciphers], "cipher"))
    if ContextType.SIGNING_CAPABILITIES in found:
        number = _choice(found[ContextType.SIGNING_CAPABILITIES])
        signing = SigningAlgorithm(_offered(number, [_signing(name) for name in security.signing], "signing algorithm"))
    return cipher, signing


def _choice(data: bytes) -> int:
    chosen = decode_algorithms(data)
    if len(chosen) != 1:
        raise ProtocolError(f"the server chose {len(chosen)} algorithms instead of one")
    return chosen[0]


def _offered(number: int, offered: list[Cipher] | list[SigningAlgorithm], what: str) -> int:
    if number not in offered:
        raise ProtocolError(f"the server chose {what} {number}, which was not offered")
    return number


def no_sealing(host: str, dialect: Dialect) -> str:
    """Return the sentence for a user who demands encryption of a server that has none."""
    if not dialect.encryption:
        return f"encryption is demanded, but {host} speaks only SMB {dialect.label}, which has none (3.0 or better has)"
    return f"encryption is demanded, but {host} has none, or none of the ciphers that were offered"
