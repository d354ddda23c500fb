"""Options that are no field of the configuration: those that set several, and mount.cifs's that change nothing here.

One table of everything that users paste from their fstab. What is harmless is taken and noted; what would change the
meaning of a mount, and cannot be had, is refused with the reason.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from smbfuse.cli import values
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.options import PARTS, Apply, Draft, Option, OptionTable, Takes, from_config
from smbfuse.config import CacheMode, NameMapping, Sec, Secret

# Headings of the manual: those of PARTS, and two of this file's own.
LOGIN: Final = PARTS["login"][1]
SERVER: Final = PARTS["target"][1]
CACHING: Final = PARTS["cache"][1]
FILES: Final = PARTS["view"][1]
MOUNT: Final = PARTS["mount"][1]
PROCESS: Final = PARTS["process"][1]
IGNORED: Final = "Taken and without effect"
REFUSED: Final = "Refused"

LOCKS_ARE_LOCAL: Final = (
    "locks are local to this machine, because pyfuse3 hands none over; nobrl says so in words, and programs that share "
    "a database between machines must not use this mount"
)

# Kernel flags of a mount that are passed on as they are.
_KERNEL_FLAGS: Final = ("noexec", "noatime", "nodiratime")

# name: why it has no effect. A value is taken and forgotten.
_IGNORED: Final[Mapping[str, str]] = {
    "rw": "this release only reads; the mount is ro",
    "exec": "the default",
    "atime": "access times are the server's affair",
    "diratime": "access times are the server's affair",
    "async": "the default",
    "sync": "files are not written",
    "dirsync": "files are not written",
    "relatime": "access times are the server's affair",
    "norelatime": "access times are the server's affair",
    "strictatime": "access times are the server's affair",
    "suid": "never passed on: a share's set-user-id programs are not trusted (mount.fuse3 adds it)",
    "dev": "never passed on: a share's device nodes are not trusted (mount.fuse3 adds it)",
    "nosuid": "always on",
    "nodev": "always on",
    "defaults": "for mount(8)",
    "auto": "for mount(8)",
    "noauto": "for mount(8)",
    "users": "for mount(8)",
    "nouser": "for mount(8)",
    "nousers": "for mount(8)",
    "owner": "for mount(8)",
    "group": "for mount(8)",
    "_netdev": "for mount(8)",
    "nofail": "for mount(8)",
    "comment": "for mount(8)",
    "mand": "for mount(8)",
    "nomand": "for mount(8)",
    "loud": "for mount(8)",
    "silent": "for mount(8)",
    "nobrl": LOCKS_ARE_LOCAL,
    "nolock": LOCKS_ARE_LOCAL,
    "ver": "the version of the mount helper; a dialect is chosen by vers=",
    "domainauto": "the default: an empty domain is the server's own",
    "cruid": "Kerberos tickets are those of the user who mounts",
    "upcall_target": "there is no upcall",
    "setuids": "files are not written",
    "nosetuids": "files are not written",
    "dynperm": "permissions are not written",
    "nodynperm": "permissions are not written",
    "wsize": "files are not written",
    "strictsync": "files are not written",
    "nostrictsync": "files are not written",
    "nosparse": "files are not written",
    "nodelete": "files are not written",
    "symlink": "links are not written",
    "reparse": "special files are not written",
    "symlinkroot": "targets of symlinks are shown as the server stores them",
    "mfsymlinks": "such links are shown as the small files that they are",
    "nomfsymlinks": "the default",
    "sfu": "special files are shown as the server stores them",
    "nosfu": "the default",
    "nativesocket": "special files are not written",
    "nonativesocket": "special files are not written",
    "idsfromsid": "owners are uid= and gid=, or those of the UNIX extensions",
    "setuidfromacl": "owners are uid= and gid=, or those of the UNIX extensions",
    "modefromsid": "modes are file_mode= and dir_mode=, or those of the UNIX extensions",
    "modesid": "modes are file_mode= and dir_mode=, or those of the UNIX extensions",
    "cifsacl": "modes are file_mode= and dir_mode=, or those of the UNIX extensions",
    "nocifsacl": "the default",
    "acl": "access control lists are not shown",
    "noacl": "the default",
    "user_xattr": "extended attributes are not shown",
    "nouser_xattr": "the default",
    "posixpaths": "names are mapped by mapposix, mapchars or nomapchars",
    "noposixpaths": "names are mapped by mapposix, mapchars or nomapchars",
    "nocase": "names are compared as the server compares them",
    "ignorecase": "names are compared as the server compares them",
    "esize": "messages are decrypted where they arrive",
    "min_enc_offload": "messages are decrypted where they arrive",
    "multichannel": "one connection is used",
    "nomultichannel": "the default",
    "max_channels": "one connection is used",
    "nosharesock": "the default: each mount has its own connection",
    "sharesock": "each mount has its own connection",
    "tcpnodelay": "the default",
    "notcpnodelay": "requests are always sent at once",
    "noautotune": "socket buffers are the kernel's affair",
    "noblocksend": "the default",
    "closetimeo": "files are closed on the server when they are closed here",
    "handlecache": "no handles are kept",
    "nohandlecache": "the default",
    "max_cached_dirs": "folders are kept for acdirmax=, without leases",
    "nolease": "the default: no leases are asked for",
    "lease": "no leases are asked for",
    "locallease": "no leases are asked for",
    "fsc": "file data is kept in memory only",
    "nofsc": "the default",
    "soft": "the default: a caller gets an error after timeo=",
    "hard": "a caller gets an error after timeo=, however long that is",
    "nohard": "the default",
    "nosoft": "a caller gets an error after timeo=, however long that is",
    "retrans": "requests are repeated until timeo= has passed",
    "handletimeout": "no durable handles are asked for",
    "persistenthandles": "no durable handles are asked for",
    "nopersistenthandles": "the default",
    "resilienthandles": "no durable handles are asked for",
    "noresilienthandles": "the default",
    "nodfs": "the default: referrals are not followed",
    "compress": "nothing is compressed",
    "nocompress": "the default",
    "rwpidforward": "locks are local",
    "norwpidforward": "locks are local",
    "intr": "for mount(8)",
    "nointr": "for mount(8)",
    "rootfs": "for the kernel's own root file system",
    "big_writes": "an old FUSE option",
    "auto_unmount": "smbfuse clears what it leaves behind at its next start",
}

_REFUSED: Final[Mapping[str, str]] = {
    "brl": LOCKS_ARE_LOCAL,
    "forcemandatorylock": LOCKS_ARE_LOCAL,
    "forcemand": LOCKS_ARE_LOCAL,
    "ignore_signature": "a signature that is not checked protects nothing; leave it out",
    "signloosely": "a signature that is not checked protects nothing; leave it out",
    "witness": "the witness protocol is not spoken; leave it out",
    "rdma": "RDMA cannot be had in user space; leave it out",
    "multiuser": "a mount has one login; mount once for each user",
    "snapshot": "earlier versions are not shown; leave it out",
    "backupuid": "files are not opened with backup rights; leave it out",
    "backupgid": "files are not opened with backup rights; leave it out",
    "remount": "a mount keeps its options; unmount it and mount it again",
    "allow_root": "fuse3 has no such option; use allow_other",
    "writeback_cache": "this release only reads",
    "blkdev": "a share is no block device",
}


def table() -> OptionTable:
    """Return every option that is understood."""
    return OptionTable([*_compound(), *from_config(), *_ignored(), *_refused()])


def _compound() -> Iterator[Option]:
    """Make the options that set several fields, or something that is no field."""
    yield from _login_options()
    yield from _file_options()
    yield Option(
        ("actimeo",),
        "sets acregmax= and acdirmax= at once; 0 asks the server each time",
        CACHING,
        _set_actimeo,
        metavar="TIME",
    )
    yield Option(("noac",), "the same as actimeo=0", CACHING, _disable_attribute_cache, Takes.FLAG)
    yield Option(("strictcache",), "old name of cache=strict", CACHING, _set_cache_mode(CacheMode.STRICT), Takes.FLAG)
    yield Option(
        ("forcedirectio", "directio", "direct"),
        "old names of cache=none",
        CACHING,
        _set_cache_mode(CacheMode.NONE),
        Takes.FLAG,
    )
    yield Option(
        ("prefixpath",), "a folder below the share, as in //host/share/folder", SERVER, _set_prefix, metavar="PATH"
    )
    yield Option(
        ("source", "unc", "target", "path"),
        "what to mount, instead of the first argument",
        SERVER,
        _set_source,
        metavar="SOURCE",
    )
    for flag in _KERNEL_FLAGS:
        yield Option((flag,), "passed on to the kernel", MOUNT, _add_kernel_option(flag), Takes.FLAG)
    yield Option(("ro",), "read only, which this release always is", MOUNT, _note("ro", "always on"), Takes.FLAG)
    yield Option(
        ("sloppy",), "note unknown options that follow, instead of refusing them", PROCESS, _set_sloppy, Takes.FLAG
    )


def _login_options() -> Iterator[Option]:
    yield Option(
        ("username",),
        r"the user's name, also as DOMAIN\user, user@realm or DOMAIN/user%password; default: $USER",
        LOGIN,
        _set_username,
        metavar="NAME",
    )
    yield Option(
        ("user",),
        "the same as username=; alone, without a value, it is for mount(8)",
        LOGIN,
        _set_user,
        takes=Takes.EITHER,
        metavar="NAME",
    )
    yield Option(
        ("password", "pass"),
        "the password, which everybody sees until smbfuse has read it: prefer credentials= or the prompt",
        LOGIN,
        _set_password("password"),
        metavar="PASSWORD",
    )
    yield Option(
        ("password2", "pass2"),
        "tried once when the first is refused, for the days on which it changes",
        LOGIN,
        _set_password("password2"),
        metavar="PASSWORD",
    )
    yield Option(
        ("credentials", "cred"),
        "a file of lines username=, password=, domain=, as mount.cifs reads it",
        LOGIN,
        _set_credentials,
        metavar="PATH",
    )
    yield Option(
        ("sec",),
        "how to log in; an `i` at the end demands signing as well",
        LOGIN,
        _set_sec,
        metavar="|".join(one.value for one in Sec),
        default=Sec.DEFAULT.value,
    )


def _file_options() -> Iterator[Option]:
    mappings = {
        ("mapposix",): (NameMapping.SFM, "characters that Windows forbids in names are carried as macOS does; default"),
        ("mapchars",): (NameMapping.SFU, "such characters are carried as Services for Unix did"),
        ("nomapchars", "nomapposix"): (NameMapping.NONE, "such characters are not mapped"),
    }
    for names, (mapping, help_text) in mappings.items():
        yield Option(names, help_text, FILES, _set_mapping(mapping), Takes.FLAG)
    yield Option(
        ("umask",),
        "permissions taken from files and folders, where file_mode= and dir_mode= are not given",
        FILES,
        _set_umask,
        metavar="MODE",
    )
    yield Option(
        ("iocharset",), "how names are written on this side: always UTF-8", FILES, _check_iocharset, metavar="utf8"
    )


def _ignored() -> Iterator[Option]:
    for name, why in _IGNORED.items():
        yield Option((name,), why, IGNORED, _note(name, why), Takes.EITHER)


def _refused() -> Iterator[Option]:
    for name, why in _REFUSED.items():
        yield Option((name,), why, REFUSED, _refuse(name, why), Takes.EITHER)


def _set_username(draft: Draft, text: str, on: bool) -> None:
    draft.username = text


def _set_user(draft: Draft, text: str, on: bool) -> None:
    if text:
        draft.username = text
    else:
        draft.notes.append("option user has no effect: for mount(8)")


def _set_password(name: str) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        draft.put("login", name, Secret(text))

    return apply


def _set_credentials(draft: Draft, text: str, on: bool) -> None:
    if not text:
        raise ValueError("must be the path of a file")
    draft.credentials = text


def _set_sec(draft: Draft, text: str, on: bool) -> None:
    spelled = text.lower()
    if spelled == "krb5p":
        raise ValueError("must be krb5 together with seal: that is how SMB encrypts")
    signed = spelled.endswith("i")
    try:
        sec = Sec(spelled[:-1] if signed else spelled)
    except ValueError:
        raise ValueError("must be one of " + ", ".join(one.value for one in Sec) + ", with or without i") from None
    draft.put("login", "sec", sec)
    if signed:
        draft.put("security", "sign", True)


def _set_actimeo(draft: Draft, text: str, on: bool) -> None:
    seconds = values.parse_duration(text)
    draft.put("cache", "attributes_s", seconds)
    draft.put("cache", "directories_s", seconds)


def _disable_attribute_cache(draft: Draft, text: str, on: bool) -> None:
    _set_actimeo(draft, "0", on)


def _set_cache_mode(mode: CacheMode) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        draft.put("cache", "mode", mode)

    return apply


def _set_mapping(mapping: NameMapping) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        draft.put("view", "mapping", mapping)

    return apply


def _set_umask(draft: Draft, text: str, on: bool) -> None:
    draft.umask = values.parse_mode(text)


def _check_iocharset(draft: Draft, text: str, on: bool) -> None:
    if text.lower().replace("-", "") not in ("utf8", "default"):
        raise ValueError("must be utf8: names are UTF-8 on this side")


def _set_prefix(draft: Draft, text: str, on: bool) -> None:
    draft.prefix = text


def _set_source(draft: Draft, text: str, on: bool) -> None:
    draft.source = text


def _add_kernel_option(flag: str) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        present = draft.get("mount", "kernel_options")
        draft.put("mount", "kernel_options", tuple(dict.fromkeys((*present, flag))))

    return apply


def _set_sloppy(draft: Draft, text: str, on: bool) -> None:
    draft.sloppy = True


def _note(name: str, why: str) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        draft.notes.append(f"option {name} has no effect: {why}")

    return apply


def _refuse(name: str, why: str) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        raise CannotMount(Exit.OPTION_REFUSED, f"option {name}: {why}")

    return apply
