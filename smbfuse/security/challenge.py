"""Answers to a bare 8-byte challenge: SMB1 logins without extended security. [MS-NLMP] 3.3, [MS-CIFS] 2.2.4.53.1.

NTLMv2 unless another is asked for by name: NTLMv1 and LM can be broken by whoever records them, plaintext needs no
breaking. Each answer brings the session key and the key for SMB1 signing that follow from it.
"""

import hmac
import os
import time
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from smbfuse.config import Login, Sec
from smbfuse.errors import ConfigError, ProtocolError
from smbfuse.security.md4 import md4

CHALLENGE_SIZE: Final = 8
HASH_SIZE: Final = 16

_LM_MAGIC: Final = b"KGS!@#$%"  # [MS-NLMP] 3.3.1: what the LM hash encrypts
_LM_PASSWORD_SIZE: Final = 14
_AV_EOL, _AV_NB_DOMAIN_NAME = 0, 2  # [MS-NLMP] 2.2.2.1
_FILETIME_OF_1970: Final = 116444736000000000  # in units of 100 ns


@dataclass(frozen=True, slots=True)
class ChallengeResponse:
    """What SESSION_SETUP_ANDX carries, or the TREE_CONNECT_ANDX of share-level security, and the keys behind it.

    `oem` goes into OEMPassword (CaseInsensitivePassword), `unicode` into UnicodePassword (CaseSensitivePassword). The
    keys are b"" for plaintext and for the anonymous user: such a session is never signed.
    """

    name: str
    oem: bytes = field(repr=False)
    unicode: bytes = field(repr=False)
    session_key: bytes = field(repr=False, default=b"")

    @property
    def signing_key(self) -> bytes:
        """The key of `Smb1Protection`: session key and response together. [MS-SMB] 3.2.5.3."""
        return self.session_key and self.session_key + (self.unicode or self.oem)


def respond(login: Login, challenge: bytes, *, oem_codepage: str, unicode: bool) -> ChallengeResponse:
    """Answer the server's `challenge` (8 bytes; b"" if it encrypts no passwords) as `login.sec` says.

    `unicode` tells whether Unicode strings were agreed on: it decides in which form a plaintext password travels.
    Raises: ConfigError (this password cannot be used in this way, or `sec=` needs extended security), ProtocolError.
    """
    if login.sec is Sec.NONE or not login.user:
        return ChallengeResponse("anonymous", oem=b"", unicode=b"")
    password = login.password.reveal() if login.password is not None else ""
    if login.sec is Sec.PLAINTEXT:
        return _plaintext(password, oem_codepage, unicode)
    if login.sec is Sec.KRB5:
        raise ConfigError("sec=krb5 needs a server with extended security, which this one does not offer")
    if not challenge:
        raise ConfigError("the server wants the password unencrypted: only sec=plaintext allows that")
    if len(challenge) != CHALLENGE_SIZE:
        raise ProtocolError(f"a challenge of {len(challenge)} bytes instead of {CHALLENGE_SIZE}")
    if login.sec is Sec.NTLM:
        return ntlm_v1(password, challenge)
    if login.sec is Sec.LM:
        return lm(password, challenge, oem_codepage)
    blob = client_blob(os.urandom(CHALLENGE_SIZE), time.time_ns(), login.domain)
    return ntlm_v2(ntowf_v2(nt_hash(password), login.user, login.domain), challenge, blob, os.urandom(CHALLENGE_SIZE))


def nt_hash(password: str) -> bytes:
    """Return NTOWFv1 of [MS-NLMP] 3.3.1: 16 bytes, as good as the password itself."""
    return md4(password.encode("utf-16-le", "surrogatepass"))


def lm_hash(password: str, oem_codepage: str) -> bytes:
    """Return LMOWFv1 of [MS-NLMP] 3.3.1. Raises ConfigError if the password cannot have one."""
    try:
        upper = password.upper().encode(oem_codepage)
    except UnicodeEncodeError:
        raise ConfigError(f"sec=lm: the password has characters that {oem_codepage} does not") from None
    if len(upper) > _LM_PASSWORD_SIZE:
        raise ConfigError("sec=lm: the password has more than 14 characters")
    padded = upper.ljust(_LM_PASSWORD_SIZE, b"\0")
    return b"".join(_des(padded[at : at + 7], _LM_MAGIC) for at in (0, 7))


def ntowf_v2(nt_hash: bytes, user: str, domain: str) -> bytes:
    """Return NTOWFv2 of [MS-NLMP] 3.3.2. Only the user's name is upper-cased; the domain counts as it is sent."""
    return _hmac_md5(nt_hash, (user.upper() + domain).encode("utf-16-le", "surrogatepass"))


def ntlm_v1(password: str, challenge: bytes) -> ChallengeResponse:
    """Answer with NTLMv1, [MS-NLMP] 3.3.1, and without the still weaker LM response, whose place it takes."""
    key = nt_hash(password)
    response = _desl(key, challenge)
    return ChallengeResponse("NTLMv1", oem=response, unicode=response, session_key=md4(key))


def lm(password: str, challenge: bytes, oem_codepage: str) -> ChallengeResponse:
    """Answer with LM alone, for servers that know nothing else. [MS-NLMP] 3.3.1."""
    key = lm_hash(password, oem_codepage)
    return ChallengeResponse("LM", oem=_desl(key, challenge), unicode=b"", session_key=key[:8].ljust(HASH_SIZE, b"\0"))


def ntlm_v2(response_key: bytes, challenge: bytes, blob: bytes, client_challenge: bytes) -> ChallengeResponse:
    """Answer with NTLMv2 and LMv2. [MS-NLMP] 3.3.2.

    `response_key` is NTOWFv2; `blob` is what the specification calls temp; `client_challenge` is LMv2's.
    """
    proof = _hmac_md5(response_key, challenge + blob)
    return ChallengeResponse(
        "NTLMv2",
        oem=_hmac_md5(response_key, challenge + client_challenge) + client_challenge,
        unicode=proof + blob,
        session_key=_hmac_md5(response_key, proof),
    )


def client_blob(client_challenge: bytes, now_ns: int, domain: str) -> bytes:
    """Return an NTLMv2_CLIENT_CHALLENGE, [MS-NLMP] 2.2.2.7. A bare challenge has no target information to repeat."""
    filetime = now_ns // 100 + _FILETIME_OF_1970
    name = domain.encode("utf-16-le", "surrogatepass")
    target = b"".join(
        (_AV_NB_DOMAIN_NAME.to_bytes(2, "little"), len(name).to_bytes(2, "little"), name, bytes(4))  # MsvAvEOL
    )
    return b"\x01\x01" + bytes(6) + filetime.to_bytes(8, "little") + client_challenge + bytes(4) + target + bytes(4)


def _plaintext(password: str, oem_codepage: str, unicode: bool) -> ChallengeResponse:
    if unicode:
        return ChallengeResponse("plaintext", oem=b"", unicode=(password + "\0").encode("utf-16-le", "surrogatepass"))
    try:
        return ChallengeResponse("plaintext", oem=password.encode(oem_codepage) + b"\0", unicode=b"")
    except UnicodeEncodeError:
        raise ConfigError(f"sec=plaintext: the password has characters that {oem_codepage} does not") from None


def _hmac_md5(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "md5")


def _desl(key: bytes, challenge: bytes) -> bytes:
    """Return DESL of [MS-NLMP] 6: the challenge under the three DES keys that 16 bytes and five zeros make."""
    padded = key.ljust(21, b"\0")
    return b"".join(_des(padded[at : at + 7], challenge) for at in (0, 7, 14))


def _des(key: bytes, block: bytes) -> bytes:
    """Encrypt 8 bytes with single DES: triple DES with the same key three times. `key` is 7 bytes, without parity."""
    bits = int.from_bytes(key)
    spread = bytes((bits >> shift & 0x7F) << 1 for shift in range(49, -1, -7))
    encryptor = Cipher(TripleDES(spread * 3), modes.ECB()).encryptor()  # one block: no mode to speak of
    return encryptor.update(block) + encryptor.finalize()
