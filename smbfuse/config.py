"""Every option, declared once: name, aliases, unit, default, help. Pure data; nothing here reads the world.

`Config` is one frozen tree; each constructor gets its own part of it. Option names are those of mount.cifs(8).
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20


class Secret:
    """Hold a password so that no log, repr, traceback or pickle can show it; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the password itself, for the login that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not pickled")


def option(
    default: Any,
    *,
    help: str,
    names: tuple[str, ...] = (),
    unit: str = "",
    parse: Callable[[str], Any] | None = None,
    metavar: str = "",
) -> Any:
    """Declare one option: a dataclass field whose metadata the parser and the docs are made from.

    The `-o` name is the field's own unless `names` gives others (the first is the one shown). `parse` turns the text
    behind '=' into the value and raises ValueError with a sentence; a bool without `parse` is a flag with a `no…` twin.
    """
    metadata: Mapping[str, Any] = {"help": help, "names": names, "unit": unit, "parse": parse, "metavar": metavar}
    return field(default=default, metadata=metadata)


class CacheMode(enum.Enum):
    """`cache=` as mount.cifs names it."""

    STRICT = "strict"
    LOOSE = "loose"
    NONE = "none"


class NameMapping(enum.Enum):
    """How characters that Windows forbids are carried in names."""

    SFM = "mapposix"
    SFU = "mapchars"
    NONE = "nomapchars"


class Sec(enum.Enum):
    """`sec=`: how the login is made. The trailing 'i' of mount.cifs (signing demanded) is kept in `Security.sign`."""

    DEFAULT = "default"  # the best of SPNEGO/NTLMv2 and raw NTLMSSP, or NTLMv2 against the bare challenge
    NONE = "none"  # anonymous
    NTLMSSP = "ntlmssp"
    NTLMV2 = "ntlmv2"
    NTLM = "ntlm"  # NTLMv1, weak: only when asked for
    LM = "lm"  # weaker still
    PLAINTEXT = "plaintext"
    KRB5 = "krb5"


class Vers(enum.Enum):
    """`vers=`: which dialects are offered."""

    DEFAULT = "default"  # the best of 2.0.2 to 3.1.1
    AUTO = "auto"  # as default, and SMB1 if the server answered an SMB1 negotiate
    SMB1 = "1.0"
    SMB202 = "2.0"
    SMB210 = "2.1"
    SMB3 = "3"  # 3.0 or better
    SMB300 = "3.0"
    SMB302 = "3.0.2"
    SMB311 = "3.1.1"


@dataclass(frozen=True, slots=True)
class Target:
    """What is mounted: `//host/share/path`, or `//host` for the whole server."""

    host: str
    share: str = ""  # '' with whole_server
    path: str = ""  # below the share, components joined by '/'
    port: int | None = None
    address: str | None = None  # `ip=`: connect here, keep the name

    @property
    def whole_server(self) -> bool:
        return not self.share

    def __str__(self) -> str:
        return "/".join(part for part in ("/", self.host, self.share, self.path) if part)


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in and how."""

    user: str = ""
    domain: str = ""
    password: Secret | None = None
    guest: bool = False  # a login answered as guest is accepted
    sec: Sec = Sec.DEFAULT
    workstation: str = ""


@dataclass(frozen=True, slots=True)
class Security:
    """What protection is demanded; what the server demands is honoured by itself."""

    vers: Vers = Vers.DEFAULT
    sign: bool = False
    seal: bool = False
    ciphers: tuple[str, ...] = ("AES-128-GCM", "AES-256-GCM", "AES-128-CCM", "AES-256-CCM")  # offered, best first
    signing: tuple[str, ...] = ("AES-GMAC", "AES-CMAC", "HMAC-SHA256")  # offered, best first


@dataclass(frozen=True, slots=True)
class Network:
    """How the server is reached and how long it may take."""

    timeo_s: float = 30.0  # deadline of a request, from its last progress
    connect_timeout_s: float = 10.0  # for one address
    netbios_name: str = ""  # calling name; '' is this machine's host name
    server_netbios_name: str = ""  # called name; '' tries *SMBSERVER, then the server's own
    netbios_session: bool | None = None  # session request: None on 139 only, True on any port, False never
    source_address: str = ""
    keepalive_s: int = 15  # TCP keepalive idle time
    rsize: int = 8 * MIB  # largest single READ, lowered to what the server takes
    max_credits: int = 512  # credits asked for at most
    smb1_unix: bool = True  # CIFS UNIX extensions where the server has them
    smb1_open_nt: bool = False  # `smb1_open=nt`: never OPEN_ANDX where NT_CREATE_ANDX is to be had
    smb1_extended_security: bool = True
    unicode: bool | None = None  # SMB1: None as negotiated
    oem_codepage: str = "cp850"  # SMB1 without Unicode


@dataclass(frozen=True, slots=True)
class Cache:
    """What may be kept, how much and how long."""

    mode: CacheMode = CacheMode.STRICT
    attributes_s: float = 1.0  # actimeo=
    directories_s: float = 1.0  # acdirmax=
    size: int = 256 * MIB  # cache_size=: bytes of file data kept
    readahead: int = 16 * MIB  # rasize=: most bytes read ahead for one file


@dataclass(frozen=True, slots=True)
class View:
    """How files look on this side: owners, modes, names, inode numbers."""

    uid: int = 0
    gid: int = 0
    force_uid: bool = False
    force_gid: bool = False
    file_mode: int = 0o755
    dir_mode: int = 0o755
    mapping: NameMapping = NameMapping.SFM
    server_inode: bool = True  # noserverino
    contain_symlinks: bool = True
    block_size: int = MIB  # bsize=


@dataclass(frozen=True, slots=True)
class Mount:
    """What the kernel is told."""

    mountpoint: str = ""
    allow_other: bool = False
    check_permissions: bool = False  # default_permissions
    kernel_options: tuple[str, ...] = ()  # noexec, noatime …


@dataclass(frozen=True, slots=True)
class Config:
    """Everything one mount needs to know."""

    target: Target
    login: Login = Login()
    security: Security = Security()
    network: Network = Network()
    cache: Cache = Cache()
    view: View = View()
    mount: Mount = Mount()
