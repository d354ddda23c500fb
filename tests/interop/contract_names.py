"""The contract of names: making, removing, renaming, linking, beside open files."""

import errno as posix
from collections.abc import Awaitable

from smbfuse.errors import Busy, Denied, Exists, NotEmpty, NotFound, SmbError, Unsupported, WrongKind
from smbfuse.share import Attributes, Change, Features, FileStat, Kind
from tests.interop.contract import MAKING, READING, WRITING, Stage, check, refused, whole

SPECIAL = (Kind.SYMLINK, Kind.FIFO, Kind.SOCKET)
NAMES = ["Größe [ä] 🐙", "a b", "UPPER lower", "x" * 200, "日本語", "#%&'()+,;=@^_`{}~$!"]


@check()
async def a_folder_is_made_once(stage: Stage) -> None:
    stat = await stage.share.make_directory(stage.at("folder"), 0o755)
    assert stat.kind is Kind.DIRECTORY
    assert (await stage.share.stat(stage.at("folder"))).file_id == stat.file_id
    with refused(Exists, posix.EEXIST):
        await stage.share.make_directory(stage.at("folder"))
    await stage.make("file")
    with refused(Exists, posix.EEXIST):
        await stage.share.make_directory(stage.at("file"))
    with refused(NotFound, posix.ENOENT):
        await stage.share.make_directory(stage.at("absent/folder"))
    await stage.share.make_directory(stage.at("folder/below"))
    assert await stage.names() == ["file", "folder"]
    assert await stage.names("folder") == ["below"]


@check()
async def names_are_kept_as_they_are(stage: Stage) -> None:
    for name in NAMES:
        await stage.make(name, name.encode())
        await stage.share.make_directory(stage.at(f"{name}.d"))
    assert await stage.names() == sorted([*NAMES, *(f"{name}.d" for name in NAMES)])
    for name in NAMES:
        assert await stage.read(name) == name.encode()


@check()
async def a_name_is_removed_once(stage: Stage) -> None:
    await stage.make("file")
    await stage.share.make_directory(stage.at("folder"))
    await stage.share.remove(stage.at("file"), Kind.FILE)
    with refused(NotFound, posix.ENOENT):
        await stage.share.stat(stage.at("file"))
    await stage.share.remove(stage.at("folder"), Kind.DIRECTORY)
    assert await stage.names() == []


@check(lossy=False)  # what is not there, and whose removal nobody answered, may have been removed
async def what_is_not_there_is_not_removed(stage: Stage) -> None:
    for kind in (Kind.FILE, Kind.DIRECTORY):
        with refused(NotFound, posix.ENOENT):
            await stage.share.remove(stage.at("absent"), kind)
        with refused(NotFound, posix.ENOENT):
            await stage.share.remove(stage.at("absent/file"), kind)


@check()
async def files_and_folders_are_removed_as_what_they_are(stage: Stage) -> None:
    await stage.make("file")
    await stage.share.make_directory(stage.at("folder"))
    with refused(WrongKind, posix.EISDIR):
        await stage.share.remove(stage.at("folder"), Kind.FILE)
    with refused(WrongKind, posix.ENOTDIR):
        await stage.share.remove(stage.at("file"), Kind.DIRECTORY)
    assert await stage.names() == ["file", "folder"]


@check()
async def a_folder_with_something_in_it_stays(stage: Stage) -> None:
    await stage.share.make_directory(stage.at("folder"))
    await stage.make("folder/file")
    with refused(NotEmpty, posix.ENOTEMPTY):
        await stage.share.remove(stage.at("folder"), Kind.DIRECTORY)
    assert await stage.names("folder") == ["file"]
    await stage.share.remove(stage.at("folder/file"), Kind.FILE)
    await stage.share.remove(stage.at("folder"), Kind.DIRECTORY)


@check(without=Features.POSIX)
async def a_read_only_file_is_removed_or_stays_as_it_is(stage: Stage) -> None:
    path = await stage.make("file", b"bytes")
    await stage.share.change(path, Change(attributes=Attributes.READONLY))
    try:
        await stage.share.remove(path, Kind.FILE)
    except Denied:
        assert (await stage.share.stat(path)).attributes & Attributes.READONLY
        assert await stage.read("file") == b"bytes"
        await stage.share.change(path, Change(attributes=Attributes.ARCHIVE))
        await stage.share.remove(path, Kind.FILE)
    assert await stage.names() == []


@check()
async def a_file_is_renamed(stage: Stage) -> None:
    path = await stage.make("old", b"bytes")
    before = await stage.share.stat(path)
    await stage.share.make_directory(stage.at("folder"))
    await stage.share.rename(path, stage.at("new"), replace=False)
    await stage.share.rename(stage.at("new"), stage.at("folder/newer"), replace=True)
    assert await stage.names() == ["folder"]
    assert (await stage.share.stat(stage.at("folder/newer"))).file_id == before.file_id
    assert await stage.read("folder/newer") == b"bytes"
    with refused(NotFound, posix.ENOENT):
        await stage.share.rename(path, stage.at("x"), replace=True)
    with refused(NotFound, posix.ENOENT):
        await stage.share.rename(stage.at("folder/newer"), stage.at("absent/x"), replace=True)
    assert await stage.names("folder") == ["newer"]


@check()
async def a_folder_is_renamed_with_all_below(stage: Stage) -> None:
    await stage.share.make_directory(stage.at("old"))
    await stage.make("old/file", b"bytes")
    await stage.share.rename(stage.at("old"), stage.at("new"), replace=False)
    assert await stage.names() == ["new"]
    assert await stage.read("new/file") == b"bytes"


@check()
async def a_rename_replaces_only_if_told_so(stage: Stage) -> None:
    await stage.make("source", b"source")
    await stage.make("target", b"target")
    with refused(Exists, posix.EEXIST):
        await stage.share.rename(stage.at("source"), stage.at("target"), replace=False)
    assert await stage.read("target") == b"target"
    assert await stage.read("source") == b"source"
    await stage.share.rename(stage.at("source"), stage.at("target"), replace=True)
    assert await stage.names() == ["target"]
    assert await stage.read("target") == b"source"


@check()
async def a_rename_does_not_replace_what_it_may_not(stage: Stage) -> None:
    await stage.make("file", b"file")
    for name in ("empty", "full"):
        await stage.share.make_directory(stage.at(name))
    await stage.make("full/file")
    await stage.share.make_directory(stage.at("moving"))
    with refused(SmbError, posix.EISDIR, posix.EEXIST, posix.EACCES):
        await stage.share.rename(stage.at("file"), stage.at("empty"), replace=True)
    with refused(SmbError, posix.ENOTDIR, posix.EEXIST, posix.EACCES):
        await stage.share.rename(stage.at("moving"), stage.at("file"), replace=True)
    with refused(SmbError, posix.ENOTEMPTY, posix.EEXIST, posix.EACCES):
        await stage.share.rename(stage.at("moving"), stage.at("full"), replace=True)
    assert await stage.names() == ["empty", "file", "full", "moving"]
    assert await stage.read("file") == b"file"


@check(needs=Features.POSIX)
async def an_empty_folder_is_replaced_by_a_folder(stage: Stage) -> None:
    await stage.share.make_directory(stage.at("moving"))
    await stage.make("moving/file")
    await stage.share.make_directory(stage.at("empty"))
    await stage.share.rename(stage.at("moving"), stage.at("empty"), replace=True)
    assert await stage.names() == ["empty"]
    assert await stage.names("empty") == ["file"]


@check(without=Features.CASE_SENSITIVE)
async def a_rename_may_change_the_case_alone(stage: Stage) -> None:
    await stage.make("name", b"bytes")
    for replace in (False, True):
        await stage.share.rename(stage.at("name"), stage.at("NAME"), replace=replace)
        assert await stage.names() == ["NAME"]
        await stage.share.rename(stage.at("NAME"), stage.at("name"), replace=replace)
    assert await stage.read("nAmE") == b"bytes"


@check(needs=Features.CASE_SENSITIVE)
async def names_that_differ_by_case_are_two(stage: Stage) -> None:
    await stage.make("name", b"small")
    await stage.make("NAME", b"LARGE")
    assert await stage.names() == ["NAME", "name"]
    assert await stage.read("name") == b"small"
    await stage.share.remove(stage.at("NAME"), Kind.FILE)
    assert await stage.names() == ["name"]


@check()
async def an_open_file_may_be_renamed(stage: Stage) -> None:
    path = await stage.make("old", b"bytes")
    reader, writer = await stage.share.open(path, READING), await stage.share.open(path, WRITING)
    await reader.stand_aside()
    await writer.stand_aside()
    await stage.share.rename(path, stage.at("new"), replace=False)
    assert bytes(await reader.read(0, 10)) == b"bytes"
    await writer.write(5, [b" and more"])
    assert (await writer.refresh()).size == 14
    await reader.aclose()
    await writer.aclose()
    assert await stage.read("new") == b"bytes and more"
    assert await stage.names() == ["new"]


@check(lossy=False)
async def an_open_file_is_replaced_or_stays_as_it_is(stage: Stage) -> None:
    await stage.make("source", b"source")
    target = await stage.share.open(await stage.make("target", b"target"), READING)
    try:
        await stage.share.rename(stage.at("source"), stage.at("target"), replace=True)
    except (Denied, Busy):  # also Samba 4.22 with POSIX extensions
        assert await stage.names() == ["source", "target"]
        assert await whole(target) == b"target"
        await target.aclose()
        assert await stage.read("target") == b"target"
        await stage.share.rename(stage.at("source"), stage.at("target"), replace=True)
    else:
        assert await whole(target) == b"target"
        await target.aclose()
    assert await stage.names() == ["target"]
    assert await stage.read("target") == b"source"


@check(lossy=False)
async def a_folder_with_open_files_below_is_renamed_or_refused(stage: Stage) -> None:
    await stage.share.make_directory(stage.at("old"))
    file = await stage.share.open(await stage.make("old/file", b"bytes"), READING)
    await file.stand_aside()
    try:
        await stage.share.rename(stage.at("old"), stage.at("new"), replace=False)
    except (Denied, Busy):
        assert not stage.posix
        left = "old"
    else:
        left = "new"
    assert await whole(file) == b"bytes"
    await file.aclose()
    assert await stage.names() == [left]
    assert await stage.read(f"{left}/file") == b"bytes"


@check(needs=Features.POSIX, lossy=False)
async def an_open_file_lives_on_without_its_name(stage: Stage) -> None:
    file = await stage.share.open(await stage.make("file", b"bytes"), WRITING)
    await stage.share.remove(stage.at("file"), Kind.FILE)
    assert await stage.names() == []
    await file.write(5, [b" and more"])
    assert await whole(file) == b"bytes and more"
    assert (await file.refresh()).size == 14
    await stage.make("file", b"another")
    await file.aclose()
    assert await stage.read("file") == b"another"


@check(without=Features.POSIX, lossy=False)
async def an_open_file_keeps_its_name_until_its_last_close(stage: Stage) -> None:
    path = await stage.make("file", b"bytes")
    files = [await stage.share.open(path, READING), await stage.share.open(path, WRITING)]
    for file in files:
        await file.stand_aside()
    await stage.share.remove(path, Kind.FILE)
    await files[0].aclose()
    with refused(SmbError, posix.ENOENT, posix.EBUSY, posix.EACCES):
        await stage.share.open(path, READING)
    with refused(SmbError):
        await stage.share.open(path, MAKING)
    await files[1].write(5, [b" and more"])
    assert await whole(files[1]) == b"bytes and more"
    await files[1].aclose()
    await stage.share.echo()
    assert await stage.names() == []
    await stage.make("file", b"another")


@check()
async def a_handle_that_stands_aside_lets_others_remove(stage: Stage) -> None:
    path = await stage.make("file", b"bytes")
    file = await stage.share.open(path, READING)
    await file.stand_aside()
    assert await whole(file) == b"bytes"
    await stage.other.remove(path, Kind.FILE)
    await file.aclose()
    await stage.share.echo()
    assert await stage.names() == []


@check(needs=Features.HARD_LINKS)
async def a_file_has_two_names(stage: Stage) -> None:
    first = await stage.make("first", b"bytes")
    await stage.share.link(first, stage.at("second"))
    one, two = await stage.share.stat(first), await stage.share.stat(stage.at("second"))
    assert one.file_id == two.file_id
    assert one.links in (2, None)
    await stage.make("third")
    with refused(Exists, posix.EEXIST):
        await stage.share.link(first, stage.at("third"))
    await stage.share.remove(stage.at("third"), Kind.FILE)
    with refused(NotFound, posix.ENOENT):
        await stage.share.link(stage.at("absent"), stage.at("third"))
    with refused(NotFound, posix.ENOENT):
        await stage.share.link(first, stage.at("absent/third"))
    await stage.share.remove(first, Kind.FILE)
    assert await stage.names() == ["second"]
    assert await stage.read("second") == b"bytes"


@check(needs=Features.HARD_LINKS, lossy=False)  # a name that leads to the file may be the one that was asked for
async def a_name_is_given_once(stage: Stage) -> None:
    first = await stage.make("first")
    await stage.share.link(first, stage.at("second"))
    with refused(Exists, posix.EEXIST):
        await stage.share.link(first, stage.at("second"))


@check(without=Features.HARD_LINKS)
async def where_there_are_no_links_it_is_said(stage: Stage) -> None:
    with refused(Unsupported, posix.EOPNOTSUPP):
        await stage.share.link(await stage.make("first"), stage.at("second"))


@check(needs=Features.MAKES_SYMLINKS | Features.SYMLINKS)
async def a_symlink_leads_where_it_was_told(stage: Stage) -> None:
    targets = ["file", "../up/and/over", "/absolute/path", "Größe [ä] 🐙", "./a", "deep/er/still"]
    for number, target in enumerate(targets):
        path = stage.at(f"link {number}")
        if not await made(stage, stage.share.make_link(path, target)):
            return
        assert (await stage.share.stat(path)).kind is Kind.SYMLINK
        assert await stage.share.read_link(path) == target
    with refused(Exists, posix.EEXIST):
        await stage.share.make_link(stage.at("link 0"), "file")
    with refused(NotFound, posix.ENOENT):
        await stage.share.make_link(stage.at("absent/link"), "file")
    assert await stage.names() == sorted(f"link {number}" for number in range(len(targets)))


@check(needs=Features.MAKES_SYMLINKS | Features.SYMLINKS)
async def a_symlink_is_not_followed(stage: Stage) -> None:
    link = stage.at("link")
    if not await made(stage, stage.share.make_link(link, "file")):
        return
    await stage.make("file", b"bytes")
    with refused(WrongKind, posix.EINVAL):
        await stage.share.read_link(stage.at("file"))
    with refused(WrongKind, posix.ELOOP):
        await stage.share.open(link, READING)
    await stage.share.rename(link, stage.at("moved"), replace=False)
    assert await stage.share.read_link(stage.at("moved")) == "file"
    await stage.share.remove(stage.at("moved"), Kind.SYMLINK)
    assert await stage.names() == ["file"]


async def made(stage: Stage, making: Awaitable[FileStat]) -> bool:
    """Await what makes a reparse point. Some servers say only by their refusal that they keep none: nothing is left."""
    try:
        assert (await making).kind in SPECIAL
    except Unsupported:
        assert not stage.posix
        assert await stage.names() == []
        return False
    return True


@check(without=Features.MAKES_SYMLINKS)
async def where_no_symlinks_are_made_it_is_said(stage: Stage) -> None:
    with refused(Unsupported, posix.EOPNOTSUPP):
        await stage.share.make_link(stage.at("link"), "file")
    assert await stage.names() == []


@check(needs=Features.SPECIAL_FILES)
async def special_files_are_what_they_are(stage: Stage) -> None:
    for kind in (Kind.FIFO, Kind.SOCKET):
        path = stage.at(kind.name)
        if not await made(stage, stage.share.make_node(path, kind, None, 0o644)):
            return
        assert (await stage.share.stat(path)).kind is kind
        with refused(Exists, posix.EEXIST):
            await stage.share.make_node(path, kind, None, 0o644)
        await stage.share.remove(path, kind)
    assert await stage.names() == []


@check(without=Features.SPECIAL_FILES)
async def where_there_are_no_special_files_it_is_said(stage: Stage) -> None:
    with refused(Unsupported, posix.EOPNOTSUPP):
        await stage.share.make_node(stage.at("fifo"), Kind.FIFO, None, 0o644)
    assert await stage.names() == []


@check(lossy=False)
async def what_is_closed_is_void(stage: Stage) -> None:
    file = await stage.share.open(await stage.make("file", b"bytes"), WRITING)
    await file.aclose()
    await file.aclose()
    with refused(SmbError):
        await file.read(0, 1)
