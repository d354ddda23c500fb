"""Every option, declared once: name, aliases, unit, default, help. Pure data; nothing here reads the world.

`Config` is one frozen tree; each constructor gets its own part of it. Option names are those of mount.cifs(8). A field
without `option()` is set by no option of its own: by the command line's positions, or by one that sets several fields
(`cli/compatibility.py`).
"""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

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

    The `-o` name is the field's own unless `names` gives others (the first is the one shown). How the text behind '='
    is read follows from the field's type and its `unit`: "bytes" (4M), "seconds" (30, 500ms), "mode" (octal), "user",
    "group"; an Enum takes its values; a bool is a flag with a `no…` twin. `parse` overrides that, and raises ValueError
    with half a sentence ("must be …").
    """
    metadata: Mapping[str, Any] = {"help": help, "names": names, "unit": unit, "parse": parse, "metavar": metavar}
    return field(default=default, metadata=metadata)


class CacheMode(enum.Enum):
    """`cache=` as mount.cifs names it."""

    STRICT = "strict"
    LOOSE = "loose"
    NONE = "none"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # `ro` and `singleclient` are the user's promise that nobody else writes: `loose` then sees no difference.
        return cls.LOOSE if value in ("ro", "singleclient") else None


class NameMapping(enum.Enum):
    """How characters that Windows forbids are carried in names."""

    SFM = "mapposix"
    SFU = "mapchars"
    NONE = "nomapchars"


class SymlinkKind(enum.Enum):
    """`symlink=`: how a symlink is made where the server has none of its own (UNIX and POSIX extensions)."""

    DEFAULT = "default"  # mfsymlinks if those are on, else native
    NATIVE = "native"  # a reparse point IO_REPARSE_TAG_SYMLINK
    NFS = "nfs"  # a reparse point of Windows' NFS server
    WSL = "wsl"  # a reparse point of the Windows Subsystem for Linux
    MFSYMLINKS = "mfsymlinks"  # a small file, XSym
    NONE = "none"  # refused

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # mount.cifs's word for those of the extensions alone.
        return cls.NONE if value == "unix" else None


class ModeChanges(enum.Enum):
    """`modechanges=`: what chmod and chown do where the server keeps neither modes nor owners."""

    QUIET = "quiet"  # they succeed; of the mode the write bits alone are kept, as the read-only attribute
    REMEMBER = "remember"  # besides, what was set is shown until the file is forgotten (`dynperm`)
    REFUSE = "refuse"  # what cannot be kept is EPERM


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

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        spellings = {"1": "1.0", "2": "2.0", "2.002": "2.0", "2.0.2": "2.0", "3.02": "3.0.2", "3.11": "3.1.1"}
        return cls(spellings[value]) if isinstance(value, str) and value in spellings else None


@dataclass(frozen=True, slots=True)
class Target:
    """What is mounted: `//host/share/path`, or `//host` for the whole server."""

    host: str
    share: str = ""  # '' with whole_server
    path: str = ""  # below the share, components joined by '/'
    port: int | None = option(
        None, unit="port", help="the TCP port, instead of trying 445 and 139; 139 makes a NetBIOS session"
    )
    address: str | None = option(
        None, names=("ip", "addr"), metavar="ADDRESS", help="connect to this address, and keep the name for the login"
    )

    @property
    def whole_server(self) -> bool:
        return not self.share

    def __str__(self) -> str:
        return "/".join(part for part in ("/", self.host, self.share, self.path) if part)


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in and how."""

    user: str = ""  # '' is the anonymous user
    domain: str = option(
        "", names=("domain", "dom", "workgroup"), metavar="NAME", help="the user's domain or workgroup"
    )
    password: Secret | None = None
    password2: Secret | None = None  # tried once when `password` is refused
    guest: bool = option(False, help="log in as guest and ask for no password; a login answered as guest is accepted")
    sec: Sec = Sec.DEFAULT
    workstation: str = ""

    @property
    def is_guests(self) -> bool:
        """Whether it is a guest's login: asked for, and without a password."""
        return self.guest and not (self.password is not None and self.password.reveal())


@dataclass(frozen=True, slots=True)
class Security:
    """What protection is demanded; what the server demands is honoured by itself."""

    vers: Vers = option(  # noqa: RUF009 - an option is a dataclasses.field()
        Vers.DEFAULT,
        help="the dialect: `default` is the best of 2.0.2 to 3.1.1, `3` is 3.0 or better, `auto` takes SMB1 too if the "
        "server answers in it",
    )
    sign: bool = option(False, help="demand that every message is signed")
    seal: bool = option(False, help="demand that every message is encrypted (SMB 3.0 or better)")
    ciphers: tuple[str, ...] = ("AES-128-GCM", "AES-256-GCM", "AES-128-CCM", "AES-256-CCM")  # offered, best first
    signing: tuple[str, ...] = ("AES-GMAC", "AES-CMAC", "HMAC-SHA256")  # offered, best first


def _parse_smb1_open(text: str) -> bool:
    if text not in ("nt", "andx"):
        raise ValueError("must be nt or andx")
    return text == "nt"


@dataclass(frozen=True, slots=True)
class Network:
    """How the server is reached and how long it may take."""

    timeo_s: float = option(
        30.0, names=("timeo",), unit="seconds", help="longest wait for an answer, counted from the last sign of life"
    )
    hard: bool = option(
        False,
        help="wait for the server for ever, instead of giving callers an error after timeo=; `smbfuse release` ends it",
    )
    connect_timeout_s: float = option(
        10.0, names=("connect_timeout",), unit="seconds", help="longest wait for a connection to one address"
    )
    netbios_name: str = option(
        "", names=("netbiosname",), metavar="NAME", help="calling name of a NetBIOS session; default: this host's name"
    )
    server_netbios_name: str = option(
        "",
        names=("servern",),
        metavar="NAME",
        help="called name of a NetBIOS session; default: *SMBSERVER, then the name that the server gives itself",
    )
    netbios_session: bool | None = option(
        None, names=("nbsessinit",), help="begin with a NetBIOS session request on any port; default: on 139 only"
    )
    source_address: str = option("", names=("srcaddr",), metavar="ADDRESS", help="connect from this local address")
    echo_interval_s: float = option(
        15.0,
        names=("echo_interval",),
        unit="seconds",
        help="ask an idle server for a sign of life (ECHO) after so long a silence; 10 s without one, and it is gone",
    )
    rsize: int = option(8 * MIB, unit="bytes", help="largest single read, lowered to what the server takes")
    wsize: int = option(8 * MIB, unit="bytes", help="largest single write, lowered to what the server takes")
    leases: bool = option(
        True, names=("lease",), help="ask for leases and oplocks: what they grant is kept until they break"
    )
    max_credits: int = option(512, unit="count", help="most credits asked for: the requests under way at once")
    unix_extensions: bool = option(
        True,
        names=("unix", "posix", "linux"),
        help="use the CIFS UNIX extensions of SMB1, or the POSIX extensions of 3.1.1, where the server has them",
    )
    smb1_open_nt: bool = option(
        False,
        names=("smb1_open",),
        metavar="nt|andx",
        parse=_parse_smb1_open,
        help="SMB1: open files with NT_CREATE_ANDX only (nt), or with OPEN_ANDX + READ_ANDX in one round trip (andx)",
    )
    smb1_extended_security: bool = option(
        True, names=("extsec",), help="SMB1: offer extended security, that is SPNEGO logins"
    )
    unicode: bool | None = option(None, help="SMB1: insist on Unicode names, or never use them; default: as negotiated")
    oem_codepage: str = option(
        "cp850", names=("oemcp",), metavar="CODEC", help="SMB1 without Unicode: the server's code page"
    )

    @property
    def patience_s(self) -> float:
        """Longest wait of a caller: `timeo_s`, or for ever."""
        return math.inf if self.hard else self.timeo_s


@dataclass(frozen=True, slots=True)
class Cache:
    """What may be kept, how much and how long."""

    mode: CacheMode = option(  # noqa: RUF009 - an option is a dataclasses.field()
        CacheMode.STRICT,
        names=("cache",),
        help="what is kept of a file's data: with `strict` an open shows what the server had at most actimeo= ago, "
        "with `loose` 30 times as long, `none` keeps nothing",
    )
    attributes_s: float = option(
        1.0, names=("acregmax",), unit="seconds", help="how long a file's attributes are believed"
    )
    directories_s: float = option(
        1.0,
        names=("acdirmax",),
        unit="seconds",
        help="how long a folder's listing is believed, and its attributes and names, these no longer than acregmax=",
    )
    notify: bool = option(
        True,
        help="have the server tell what others change, where it can: then names and attributes are asked for again at "
        "once, and not only when acregmax= or acdirmax= are over",
    )
    size: int = option(256 * MIB, names=("cache_size",), unit="bytes", help="most file data kept in memory")
    close_timeout_s: float = option(
        1.0,
        names=("closetimeo",),
        unit="seconds",
        help="how long a file stays open on the server after its last close here, while a lease allows it",
    )
    dirty_limit: int = option(
        64 * MIB, unit="bytes", help="most bytes written here and not yet on the server, where a lease allows to wait"
    )
    strict_sync: bool = option(
        True, names=("strictsync",), help="fsync has the server write to its disk; without, only that it has the data"
    )
    readahead: int = option(16 * MIB, names=("rasize",), unit="bytes", help="most bytes read ahead for one file")


@dataclass(frozen=True, slots=True)
class View:
    """How files look on this side: owners, modes, names, inode numbers."""

    uid: int = option(0, unit="user", help="who owns the files; default: the mounting user")
    gid: int = option(0, unit="group", help="which group the files belong to; default: the mounting user's")
    force_uid: bool = option(False, names=("forceuid",), help="show uid= even where the server knows owners")
    force_gid: bool = option(False, names=("forcegid",), help="show gid= even where the server knows groups")
    file_mode: int = option(
        0o755, names=("file_mode", "fmask"), unit="mode", help="permissions of files, where the server knows none"
    )
    dir_mode: int = option(
        0o755,
        names=("dir_mode", "dirmode", "dmask", "dirm"),
        unit="mode",
        help="permissions of folders, where the server knows none",
    )
    mapping: NameMapping = NameMapping.SFM
    server_inode: bool = option(
        True, names=("serverino",), help="inode numbers are the server's file ids, where these can be trusted"
    )
    symlink: SymlinkKind = option(  # noqa: RUF009 - an option is a dataclasses.field()
        SymlinkKind.DEFAULT,
        help="how symlinks are made where the server has none of its own; special files are made as with `wsl`, or "
        "with `nfs`, where it keeps such",
    )
    mf_symlinks: bool = option(
        False,
        names=("mfsymlinks",),
        help="show files in the form of Minshall and French (XSym) as symlinks, and make such",
    )
    mode_changes: ModeChanges = option(  # noqa: RUF009 - an option is a dataclasses.field()
        ModeChanges.QUIET,
        names=("modechanges",),
        help="chmod and chown where the server keeps no modes: `quiet` keeps the write bits and succeeds, `remember` "
        "shows what was set until the file is forgotten, `refuse` fails",
    )
    user_xattrs: bool = option(
        False, names=("user_xattr",), help="show extended attributes as user.*; costs two calls for every write"
    )
    acls: bool = option(
        False,
        names=("cifsacl", "acl"),
        help="show Windows' security descriptors as system.cifs_acl; costs as user_xattr",
    )
    contain_symlinks: bool = option(True, help="refuse symlinks that lead out of the share")
    block_size: int = option(MIB, names=("bsize",), unit="bytes", help="st_blksize, a hint to programs that copy")


@dataclass(frozen=True, slots=True)
class Mount:
    """What the kernel is told. A mount is always `nosuid,nodev`."""

    mountpoint: str = ""
    read_only: bool = option(False, names=("ro",), help="refuse every change with EROFS")
    allow_other: bool = option(False, help="let other users in; implied when root mounts")
    check_permissions: bool = option(
        False,
        names=("perm", "default_permissions"),
        help="let the kernel check modes and owners; implied by allow_other unless noperm",
    )
    nonempty: bool = option(False, help="mount over a folder that has entries, which are hidden meanwhile")
    kernel_options: tuple[str, ...] = ()  # noexec, noatime …


@dataclass(frozen=True, slots=True)
class Process:
    """How the process behind a mount behaves."""

    foreground: bool = option(False, help="stay in the foreground (as -f)")
    log_file: str = option("", metavar="PATH", help="write the log here instead of to syslog; opened by the daemon")
    flush_timeout_s: float = option(
        60.0,
        names=("flush_timeout",),
        unit="seconds",
        help="when told to end (SIGTERM): how long to save what is written and to serve who has files open; a second "
        "signal ends it at once",
    )
    verbosity: int = 0  # 0 warnings, 1 life events (-v), 2 every message (-d)


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
    process: Process = Process()
