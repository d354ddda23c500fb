"""The dialects as frozen rows: every "is this 3.x?" question is answered here.

[MS-SMB2] 1.7 and 3.2.5.2 (negotiation), 3.1.4.2 (keys), 3.2.4.1.5 (credit charge).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from smbfuse.wire.smb2.negotiate import DialectRevision


class Cipher(IntEnum):
    """Encryption algorithms.  [MS-SMB2] 2.2.3.1.2."""

    AES_128_CCM = 1
    AES_128_GCM = 2
    AES_256_CCM = 3
    AES_256_GCM = 4

    @property
    def label(self) -> str:
        """The name as options and status spell it: AES-128-GCM."""
        return self.name.replace("_", "-")

    @property
    def rank(self) -> int:
        """Strength, for "no weaker than before": the key's length counts, not the mode."""
        return 2 if self in (Cipher.AES_256_CCM, Cipher.AES_256_GCM) else 1


class SigningAlgorithm(IntEnum):
    """Signing algorithms.  [MS-SMB2] 2.2.3.1.7."""

    HMAC_SHA256 = 0
    AES_CMAC = 1
    AES_GMAC = 2

    @property
    def label(self) -> str:
        """The name as options and status spell it: AES-GMAC."""
        return self.name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one dialect can do. `revision` is the DialectRevision, 1 for SMB1: a greater one is a better one."""

    revision: int
    label: str
    credits: bool  # a window of credits, instead of MaxMpxCount
    multi_credit: bool  # one request may cost several credits (with SMB2_GLOBAL_CAP_LARGE_MTU)
    lease_version: int  # of leases (with SMB2_GLOBAL_CAP_LEASING); 0: oplocks alone
    durable_version: int  # of durable handles; 0: none. With version 2 came the channel sequence and replay
    resiliency: bool  # FSCTL_LMR_REQUEST_RESILIENCY
    encryption: bool  # may seal
    contexts: bool  # negotiate contexts: ciphers and signing algorithms are chosen, the login's messages are hashed
    validate_negotiate: bool  # the negotiation is proved afterwards by FSCTL_VALIDATE_NEGOTIATE_INFO, not by the hash
    default_signing: SigningAlgorithm | None  # without SIGNING_CAPABILITIES; None: MD5, SMB1's own


SMB1: Final = Dialect(
    revision=1,
    label="1.0",
    credits=False,
    multi_credit=False,
    lease_version=0,
    durable_version=0,
    resiliency=False,
    encryption=False,
    contexts=False,
    validate_negotiate=False,
    default_signing=None,
)
SMB_2_0_2: Final = Dialect(
    revision=DialectRevision.SMB_2_0_2,
    label="2.0.2",
    credits=True,
    multi_credit=False,
    lease_version=0,
    durable_version=1,
    resiliency=False,
    encryption=False,
    contexts=False,
    validate_negotiate=True,
    default_signing=SigningAlgorithm.HMAC_SHA256,
)
SMB_2_1: Final = Dialect(
    revision=DialectRevision.SMB_2_1,
    label="2.1",
    credits=True,
    multi_credit=True,
    lease_version=1,
    durable_version=1,
    resiliency=True,
    encryption=False,
    contexts=False,
    validate_negotiate=True,
    default_signing=SigningAlgorithm.HMAC_SHA256,
)
SMB_3_0: Final = Dialect(
    revision=DialectRevision.SMB_3_0,
    label="3.0",
    credits=True,
    multi_credit=True,
    lease_version=2,
    durable_version=2,
    resiliency=True,
    encryption=True,
    contexts=False,
    validate_negotiate=True,
    default_signing=SigningAlgorithm.AES_CMAC,
)
SMB_3_0_2: Final = Dialect(
    revision=DialectRevision.SMB_3_0_2,
    label="3.0.2",
    credits=True,
    multi_credit=True,
    lease_version=2,
    durable_version=2,
    resiliency=True,
    encryption=True,
    contexts=False,
    validate_negotiate=True,
    default_signing=SigningAlgorithm.AES_CMAC,
)
SMB_3_1_1: Final = Dialect(
    revision=DialectRevision.SMB_3_1_1,
    label="3.1.1",
    credits=True,
    multi_credit=True,
    lease_version=2,
    durable_version=2,
    resiliency=True,
    encryption=True,
    contexts=True,
    validate_negotiate=False,
    default_signing=SigningAlgorithm.AES_CMAC,
)

SMB2_FAMILY: Final = (SMB_2_0_2, SMB_2_1, SMB_3_0, SMB_3_0_2, SMB_3_1_1)

BY_REVISION: Final = {dialect.revision: dialect for dialect in (SMB1, *SMB2_FAMILY)}
