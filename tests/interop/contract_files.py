"""The contract of open files: making, reading, writing, resizing, attributes."""

import errno as posix

import trio

from smbfuse.errors import Denied, Exists, NotFound, SmbError, Unsupported, WrongKind
from smbfuse.share import Attributes, Change, Creation, Features, Kind, OpenIntent
from tests.interop.contract import MAKING, READING, WRITING, Stage, check, refused, whole

TIME = 1_234_567_890_123_456_700


@check()
async def an_exclusive_open_makes_a_file_once(stage: Stage) -> None:
    file = await stage.share.open(stage.at("Größe [ä] 🐙"), MAKING)
    assert file.created
    assert (file.stat.kind, file.stat.size) == (Kind.FILE, 0)
    await file.aclose()
    with refused(Exists, posix.EEXIST):
        await stage.share.open(stage.at("Größe [ä] 🐙"), MAKING)
    assert await stage.names() == ["Größe [ä] 🐙"]


@check()
async def an_open_if_absent_makes_or_takes_the_file(stage: Stage) -> None:
    intent = OpenIntent(write=True, creation=Creation.IF_ABSENT)
    file = await stage.share.open(stage.at("file"), intent)
    assert file.created
    await file.write(0, [b"kept"])
    await file.aclose()
    again = await stage.share.open(stage.at("file"), intent)
    assert not again.created
    assert again.stat.size == 4
    assert await whole(again) == b"kept"
    await again.aclose()


@check()
async def an_open_makes_nothing_by_itself(stage: Stage) -> None:
    for intent in (READING, WRITING, OpenIntent(write=True, truncate=True)):
        with refused(NotFound, posix.ENOENT):
            await stage.share.open(stage.at("absent"), intent)
        with refused(NotFound, posix.ENOENT):
            await stage.share.open(stage.at("absent/file"), intent)
    with refused(NotFound, posix.ENOENT):
        await stage.share.open(stage.at("absent/file"), MAKING)
    assert await stage.names() == []


@check()
async def a_folder_is_no_file_to_open(stage: Stage) -> None:
    await stage.share.make_directory(stage.at("folder"))
    for intent in (READING, WRITING):
        with refused(WrongKind, posix.EISDIR):
            await stage.share.open(stage.at("folder"), intent)
    with refused(Exists, posix.EEXIST):
        await stage.share.open(stage.at("folder"), MAKING)


@check()
async def a_file_is_no_folder_to_look_into(stage: Stage) -> None:
    await stage.make("file")
    with refused(SmbError, posix.ENOTDIR, posix.ENOENT):
        await stage.share.stat(stage.at("file/below"))
    with refused(WrongKind, posix.ENOTDIR):
        await stage.share.open_directory(stage.at("file"))


@check()
async def an_open_empties_a_file_if_told_so(stage: Stage) -> None:
    await stage.make("file", b"to be gone")
    file = await stage.share.open(stage.at("file"), OpenIntent(write=True, truncate=True))
    assert not file.created
    assert file.stat.size == 0
    await file.write(0, [b"new"])
    await file.aclose()
    made = OpenIntent(write=True, truncate=True, creation=Creation.IF_ABSENT)
    assert await stage.read("file") == b"new"
    await (await stage.share.open(stage.at("file"), made)).aclose()
    assert await stage.read("file") == b""
    file = await stage.share.open(stage.at("made"), made)
    assert file.created
    await file.aclose()


@check()
async def the_first_bytes_may_come_with_the_open(stage: Stage) -> None:
    await stage.make("file", b"0123456789")
    file = await stage.share.open(stage.at("file"), OpenIntent(first_bytes=4))
    assert file.first is None or bytes(file.first) == b"0123"
    assert await whole(file) == b"0123456789"
    await file.aclose()


@check(without=Features.POSIX)
async def a_mode_without_write_bits_makes_a_file_read_only(stage: Stage) -> None:
    file = await stage.share.open(stage.at("file"), OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=0o444))
    await file.write(0, [b"by the handle that made it"])
    await file.aclose()
    assert (await stage.share.stat(stage.at("file"))).attributes & Attributes.READONLY
    with refused(Denied, posix.EACCES, posix.EPERM):
        await stage.share.open(stage.at("file"), WRITING)
    assert await stage.read("file") == b"by the handle that made it"
    await stage.share.change(stage.at("file"), Change(attributes=Attributes.ARCHIVE))
    await (await stage.share.open(stage.at("file"), WRITING)).aclose()


@check(needs=Features.POSIX)
async def a_mode_is_kept(stage: Stage) -> None:
    for mode in (0o640, 0o444, 0o755):
        path = stage.at(f"file {mode:o}")
        file = await stage.share.open(path, OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=mode))
        await file.write(0, [b"x"])
        await file.aclose()
        assert (await stage.share.stat(path)).mode == mode
        assert (await stage.share.change(path, Change(mode=0o600))).mode == 0o600
    assert (await stage.share.make_directory(stage.at("folder"), 0o711)).mode == 0o711


@check()
async def bytes_are_written_where_they_belong(stage: Stage) -> None:
    file = await stage.share.open(stage.at("file"), MAKING)
    assert await file.write(0, [b"one ", bytearray(b"two "), memoryview(b"three")]) == 13
    assert await file.write(4, [b"TWO"]) == 3
    assert await file.write(20, [b"end"]) == 3
    assert bytes(await file.read(0, 100)) == b"one TWO three" + bytes(7) + b"end"
    assert bytes(await file.read(21, 100)) == b"nd"
    assert bytes(await file.read(23, 100)) == b""
    assert bytes(await file.read(1000, 100)) == b""
    assert (await file.refresh()).size == 23
    await file.flush()
    await file.aclose()
    assert (await stage.share.stat(stage.at("file"))).size == 23
    assert len(await stage.read("file")) == 23


@check()
async def the_largest_write_is_written_whole(stage: Stage) -> None:
    most = min(stage.share.limits.write, 1 << 20)
    data = bytes(range(251)) * (most // 251 + 1)
    file = await stage.share.open(stage.at("file"), MAKING)
    done = 0
    while done < most:
        done += await file.write(done, [data[done:most]])
    await file.aclose()
    assert await stage.read("file") == data[:most]


@check()
async def writes_under_way_together_do_not_mix(stage: Stage) -> None:
    file = await stage.share.open(stage.at("file"), MAKING)
    pieces = [bytes([65 + number]) * 5000 for number in range(16)]

    async def write(number: int) -> None:
        assert await file.write(number * 5000, [pieces[number][:17], pieces[number][17:]]) == 5000

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(write, number)
    await file.aclose()
    assert await stage.read("file") == b"".join(pieces)


@check(in_memory=False)
async def a_file_may_be_larger_than_four_gibibytes(stage: Stage) -> None:
    far = 5 << 30
    file = await stage.share.open(stage.at("file"), MAKING)
    assert await file.write(far, [b"far"]) == 3
    assert bytes(await file.read(far, 10)) == b"far"
    assert (await file.refresh()).size == far + 3
    await file.change(Change(size=far + 1))
    assert (await file.refresh()).size == far + 1
    await file.aclose()
    assert (await stage.share.stat(stage.at("file"))).size == far + 1
    await stage.share.remove(stage.at("file"), Kind.FILE)


@check()
async def a_handle_that_reads_does_not_write(stage: Stage) -> None:
    await stage.make("file", b"kept")
    file = await stage.share.open(stage.at("file"), READING)
    with refused(Denied, posix.EACCES, posix.EPERM):
        await file.write(0, [b"lost"])
    with refused(Denied, posix.EACCES, posix.EPERM):
        await file.change(Change(size=0))
    await file.aclose()
    assert await stage.read("file") == b"kept"


@check()
async def several_handles_see_one_file(stage: Stage) -> None:
    path = await stage.make("file")
    writer, reader = await stage.share.open(path, WRITING), await stage.share.open(path, READING)
    await writer.write(0, [b"seen"])
    assert bytes(await reader.read(0, 10)) == b"seen"
    other = await stage.other.open(path, READING)
    assert bytes(await other.read(0, 10)) == b"seen"
    for file in (writer, reader, other):
        await file.aclose()


@check()
async def a_size_is_changed_by_handle_and_by_path(stage: Stage) -> None:
    file = await stage.share.open(stage.at("file"), MAKING)
    await file.write(0, [b"0123456789"])
    await file.change(Change(size=4))
    assert await whole(file) == b"0123"
    await file.change(Change(size=8))
    assert await whole(file) == b"0123" + bytes(4)
    await file.aclose()
    assert (await stage.share.change(stage.at("file"), Change(size=2))).size == 2
    assert await stage.read("file") == b"01"
    assert (await stage.share.change(stage.at("file"), Change(size=0))).size == 0
    with refused(NotFound, posix.ENOENT):
        await stage.share.change(stage.at("absent"), Change(size=0))
    assert await stage.names() == ["file"]


@check()
async def times_are_set_one_by_one(stage: Stage) -> None:
    path = await stage.make("file")
    await stage.share.make_directory(stage.at("folder"))
    for at in (path, stage.at("folder")):
        set_first = await stage.share.change(at, Change(accessed_ns=TIME + 100, written_ns=TIME))
        assert (set_first.accessed_ns, set_first.written_ns) == (TIME + 100, TIME)
        await stage.share.change(at, Change(written_ns=TIME + 7_777_777_700))
        after = await stage.share.stat(at)
        assert (after.accessed_ns, after.written_ns) == (TIME + 100, TIME + 7_777_777_700)
        await stage.share.change(at, Change(accessed_ns=-TIME))
        after = await stage.share.stat(at)
        assert (after.accessed_ns, after.written_ns) == (-TIME, TIME + 7_777_777_700)


@check()
async def a_time_is_cut_to_100_ns(stage: Stage) -> None:
    path = await stage.make("file")
    assert (await stage.share.change(path, Change(written_ns=TIME + 99))).written_ns == TIME


@check()
async def a_time_set_by_a_handle_is_not_moved_by_its_close(stage: Stage) -> None:
    file = await stage.share.open(stage.at("file"), MAKING)
    await file.write(0, [b"before"])
    await file.change(Change(written_ns=TIME, accessed_ns=TIME + 100))
    assert (await file.refresh()).written_ns == TIME
    await file.flush()
    await file.aclose()
    assert (await stage.share.stat(stage.at("file"))).written_ns == TIME


@check(without=Features.POSIX)  # where it is as POSIX has it, a write moves the time
async def a_time_set_by_a_handle_is_not_moved_by_its_writes(stage: Stage) -> None:
    file = await stage.share.open(stage.at("file"), MAKING)
    await file.change(Change(written_ns=TIME))
    await file.write(0, [b"after"])
    await file.aclose()
    assert (await stage.share.stat(stage.at("file"))).written_ns == TIME
    assert await stage.read("file") == b"after"


@check(without=Features.POSIX)
async def dos_attributes_are_set_together(stage: Stage) -> None:
    path = await stage.make("file")
    for wanted in (Attributes.HIDDEN | Attributes.ARCHIVE, Attributes.READONLY, Attributes.SYSTEM):
        assert (await stage.share.change(path, Change(attributes=wanted))).attributes & 0x27 == wanted
        assert (await stage.share.stat(path)).attributes & 0x27 == wanted
    await stage.share.change(path, Change(attributes=Attributes.NORMAL))
    assert (await stage.share.stat(path)).attributes & 0x27 == 0


@check(without=Features.POSIX)
async def modes_and_owners_are_not_for_every_server(stage: Stage) -> None:
    path = await stage.make("file")
    file = await stage.share.open(path, WRITING)
    for change in (Change(mode=0o600), Change(uid=1), Change(gid=1)):
        with refused(Unsupported, posix.EOPNOTSUPP):
            await stage.share.change(path, change)
        with refused(Unsupported, posix.EOPNOTSUPP):
            await file.change(change)
    await file.aclose()


@check(needs=Features.EXTENDED_ATTRIBUTES)
async def extended_attributes_are_kept(stage: Stage) -> None:
    path = await stage.make("file")
    share = stage.share
    assert await share.extended_attributes(path) == {}
    await share.set_extended_attribute(path, "ONE", b"first")
    await share.set_extended_attribute(path, "TWO", bytes(range(256)))
    await share.set_extended_attribute(path, "ONE", b"changed")
    found = await share.extended_attributes(path)
    assert {name.upper(): bytes(value) for name, value in found.items()} == {
        "ONE": b"changed",
        "TWO": bytes(range(256)),
    }
    await share.set_extended_attribute(path, "ONE", b"")
    assert [name.upper() for name in await share.extended_attributes(path)] == ["TWO"]
    with refused(NotFound, posix.ENOENT):
        await share.extended_attributes(stage.at("absent"))


@check()
async def a_security_descriptor_is_read_and_set(stage: Stage) -> None:
    path = await stage.make("file")
    descriptor = await stage.share.security_descriptor(path)
    assert descriptor[0] == 1  # Revision.  [MS-DTYP] 2.4.6
    assert descriptor[3] & 0x80  # self-relative
    await stage.share.set_security_descriptor(path, descriptor)
    await (await stage.share.open(path, WRITING)).aclose()
    with refused(NotFound, posix.ENOENT):
        await stage.share.security_descriptor(stage.at("absent"))


@check()
async def the_room_is_told(stage: Stage) -> None:
    space = await stage.share.space()
    assert space.total >= space.free >= space.available >= 0
    assert space.block_size > 0
    await stage.share.echo()
