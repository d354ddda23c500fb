"""Where a symlink from the server may lead, and in which form a new one is kept there.

A hostile server, or a colleague with a sense of humour, can place a symlink to `/etc/passwd` or to `../../.ssh`: the
kernel would follow it on this machine. So a link that leads outside the mount is not read at all: EPERM, as sshfs
answers since 3.7.6 (CVE-2026-47187), rather than a changed target, which `cp -a` would carry on as if it were true.
`no_contain_symlinks` shows every target as it is.

What is judged is the text alone. `..` after a name is resolved here and not by the kernel: the name may be a symlink
itself, and going up from where *it* leads could pass the mount's root. A target is then some `..`, no more than the
link's folder is deep, followed by names: whatever those lead through is contained by the same rule.
"""

import errno as posix
import logging
from typing import Final

from smbfuse.config import SymlinkKind, View
from smbfuse.errors import SmbError
from smbfuse.share import Features, FileStat, LinkForm, Share
from smbfuse.vfs import mfsymlinks
from smbfuse.vfs.names import Names, from_wtf8, to_wtf8
from smbfuse.vfs.undoing import Undoing

log = logging.getLogger(__name__)

TARGET_MAX: Final = 4095  # bytes; the kernel takes one page

_FORMS: Final = {
    SymlinkKind.NATIVE: LinkForm.NATIVE,
    SymlinkKind.NFS: LinkForm.NFS,
    SymlinkKind.WSL: LinkForm.WSL,
}


async def make_symlink(
    share: Share, path: str, target: bytes, *, names: Names, view: View, undoing: Undoing
) -> FileStat:
    """Make a symlink in the form that `view` asks for, the server's own where it has one, and return what it is.

    `target` is shown again by `show_target` as it was given. A link that leads outside the mount may be made: other
    clients may follow it.
    Cost: as `Share.make_link`; 2 round trips and a close for an XSym.
    Raises: SmbError with EOPNOTSUPP (`symlink=none`, or the server keeps none of that form), EILSEQ (no text),
    ENAMETOOLONG, and as `Share.make_link`.
    """
    kind = _kind(share, view)
    if kind is SymlinkKind.NONE:
        raise SmbError("symlinks are not made here (symlink=none)", errno=posix.EOPNOTSUPP)
    if kind is SymlinkKind.MFSYMLINKS:
        return await mfsymlinks.make(share, path, target, undoing)
    text = from_wtf8(target)
    if not text:
        raise SmbError(f"{target!r} cannot be the target of a symlink", errno=posix.EILSEQ)
    if kind is SymlinkKind.NATIVE:
        # Such a target is a path of the server's: its names are spelled as the server has them.
        text = "/".join(_stored_component(component, names) for component in text.split("/"))
    return await share.make_link(path, text, _FORMS[kind])


def node_form(view: View) -> LinkForm:
    """Return the form in which special files are kept, where the server has none of its own."""
    return _FORMS.get(view.symlink, LinkForm.NATIVE)


def _kind(share: Share, view: View) -> SymlinkKind:
    if Features.POSIX in share.features:
        return SymlinkKind.NATIVE
    if view.symlink is SymlinkKind.DEFAULT:
        return SymlinkKind.MFSYMLINKS if view.mf_symlinks else SymlinkKind.NATIVE
    return view.symlink


def _stored_component(component: str, names: Names) -> str:
    if component in ("", ".", ".."):
        return component
    spelling, *_ = *names.spellings(to_wtf8(component)), component
    return spelling


def show_target(target: str, *, depth: int, names: Names, contain: bool) -> bytes:
    """Return what readlink(2) gives for the server's `target`.

    `depth` is how many folders the link lies below the mount's root (0: right in it).

    Raises: SmbError with EPERM (it leads outside the mount), EIO (no text that a link can hold), ENAMETOOLONG.
    """
    if not target or "\0" in target:
        raise SmbError(f"a symlink with the target {target!r} is none", errno=posix.EIO)
    if contain:
        target = contained(target, depth)
    shown = b"/".join(_show_component(component, names) for component in target.split("/"))
    if len(shown) > TARGET_MAX:
        raise SmbError("the target of a symlink is too long", errno=posix.ENAMETOOLONG)
    return shown


def contained(target: str, depth: int) -> str:
    """Return `target` with every `..` at its start, if it stays inside the mount.

    Raises: SmbError (EPERM). Absolute targets are outside, the server's own (`C:/x`, `/??/C:/x`, `//host/share/x`) too:
    what they mean there is not to be found here.
    """
    if target.startswith("/") or _has_drive(target):
        raise _outside(target)
    ups = 0
    names: list[str] = []
    for component in target.split("/"):
        if component == "..":
            if names:
                names.pop()
            else:
                ups += 1
        elif component not in ("", "."):
            names.append(component)
    if ups > depth:
        raise _outside(target)
    if ".." not in target.split("/")[ups:]:
        return target  # as written: nothing had to be resolved
    return "/".join([".."] * ups + names) or "."


def _has_drive(target: str) -> bool:
    # As a name of this folder "C:" would be shown mapped; in a target from Windows it is a drive.
    return len(target) >= 2 and target[1] == ":" and target[0].isascii() and target[0].isalpha()


def _outside(target: str) -> SmbError:
    log.info("symlink to %r leads outside the mount and is not followed (no_contain_symlinks would)", target)
    return SmbError(f"symlink to {target!r} leads outside the mount", errno=posix.EPERM)


def _show_component(component: str, names: Names) -> bytes:
    if component in ("", ".", ".."):
        return component.encode()
    return names.shown(component) or to_wtf8(component)
