"""Listings that never end, lead in circles or name what no folder can hold: an error in time, or the names."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest
import trio

from smbfuse.client import relisting
from smbfuse.config import Vers
from smbfuse.errors import ProtocolError, SmbError
from smbfuse.share import Share
from smbfuse.status import NtStatus
from smbfuse.wire.dirlist import DirectoryEntry, encode_page
from smbfuse.wire.fscc import FileInformation
from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb1.trans2 import FindFirst2Response, FindNext2Response, Subcommand
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import QueryDirectoryResponse
from tests.hostile.shares import IN_TIME_S, connected, is_sane, list_folder, refused, serves_again, survives
from tests.support.script import Action, Answer, Asked
from tests.support.scripted_server import ScriptedServer
from tests.support.scripted_smb1 import body_of, part_of
from tests.support.scripted_smb1 import with_header as with_header1
from tests.support.scripted_smb2 import with_header

Start = Callable[..., ScriptedServer]
Page = Sequence[DirectoryEntry]

EVIL_NAMES = (
    "..\\..\\etc",
    "a/b",
    "/",
    "nul\0byte",
    "\0",
    "",
    "\x1b]0;owned\x07",
    "new\nline",
    "x" * 255,
    "🐙" * 255,
    "\ud800",
    " trailing. ",
)


def entry(name: str, **changes: int) -> DirectoryEntry:
    values = DirectoryEntry(name, 1 << 57, 1 << 57, 1 << 57, 1 << 57, 5, 4096, 0x20, 0, 77)
    return values._replace(**changes)  # type: ignore[arg-type]  # all the other fields are numbers


def smb2_pages(pages: Iterator[Page]) -> Action:
    """Return the action that answers every QUERY_DIRECTORY with the next of `pages`."""

    def answer_with(_asked: Asked, answer: Answer) -> None:
        page = encode_page(FileInformation.ID_BOTH_DIRECTORY, next(pages))
        with_header(answer, status=NtStatus.SUCCESS)
        answer.body = QueryDirectoryResponse(memoryview(page)).encode()

    return answer_with


def smb1_pages(pages: Iterator[Page]) -> Action:
    """Return the action that answers every FIND_FIRST2 and FIND_NEXT2 with the next of `pages`, never the last."""

    def answer_with(asked: Asked, answer: Answer) -> None:
        subcommand = int.from_bytes(asked.element[61:63], "little")
        entries = next(pages)
        data = encode_page(FileInformation.ID_FULL_DIRECTORY, entries)
        if subcommand == Subcommand.FIND_FIRST2:
            parameters = FindFirst2Response(9, len(entries), 0, 0, 0).encode()
        elif subcommand == Subcommand.FIND_NEXT2:
            parameters = FindNext2Response(len(entries), 0, 0, 0).encode()
        else:
            return
        with_header1(answer, status=NtStatus.SUCCESS)
        answer.body = body_of([part_of(parameters, data)])

    return answer_with


def new_names() -> Iterator[Page]:
    for number in itertools.count():
        yield [entry(f"{number}-{index}") for index in range(100)]


def alternating() -> Iterator[Page]:
    return itertools.cycle([[entry("a"), entry("b")], [entry("c")]])


def same_page() -> Iterator[Page]:
    return itertools.repeat([entry("a"), entry("b")])


def only_dots() -> Iterator[Page]:
    return itertools.repeat([entry("."), entry("..")])


def nothing() -> Iterator[Page]:
    return itertools.repeat([])


ENDLESS = {
    "the same page": same_page,
    "the same pages in turn": alternating,
    "nothing but dots": only_dots,
    "nothing": nothing,
}
DIALECTS = pytest.mark.parametrize(
    "vers, command, script",
    [(Vers.SMB311, Command.QUERY_DIRECTORY, smb2_pages), (Vers.SMB1, Command1.TRANSACTION2, smb1_pages)],
    ids=["3.1.1", "1.0"],
)


@DIALECTS
@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_listing_that_never_ends_is_an_error(
    hostile: Start, vers: Vers, command: int, script: Callable[[Iterator[Page]], Action], kind: str
) -> None:
    server = hostile()
    async with connected(server, vers=vers) as share:
        server.script.on(command, script(ENDLESS[kind]()))
        await refused(share, list_folder)
        await serves_again(server, share)


@DIALECTS
async def test_ever_new_names_come_to_an_end(
    hostile: Start,
    vers: Vers,
    command: int,
    script: Callable[[Iterator[Page]], Action],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relisting, "MOST_NAMES", 5_000)
    server = hostile()
    async with connected(server, vers=vers) as share:
        server.script.on(command, script(new_names()))
        await refused(share, list_folder, ProtocolError)
        await serves_again(server, share)


async def names_of(share: Share) -> list[str]:
    return [listed.name for listed in await list_folder(share)]


@pytest.mark.parametrize("name", EVIL_NAMES, ids=ascii)
async def test_names_come_as_they_are_or_not_at_all(hostile: Start, name: str) -> None:
    """The waist carries any name; that no folder can hold it is for the filesystem to see (tests/vfs)."""
    server = hostile()
    async with connected(server) as share:
        pages = iter([[entry("."), entry(name), entry("good")]])
        server.script.on(Command.QUERY_DIRECTORY, smb2_pages(pages), times=1)
        listed = await survives(share, names_of)
        assert listed == [name, "good"] or isinstance(listed, SmbError)
        await serves_again(server, share)


@pytest.mark.parametrize(
    "changes",
    [
        {"end_of_file": -1},
        {"end_of_file": 2**63 - 1, "allocation_size": -(2**63)},
        {"creation_time": 2**64 - 1, "last_write_time": 2**63},
        {"last_access_time": 1, "change_time": 2**63 - 1},
        {"file_attributes": 0xFFFFFFFF, "ea_size": 0xFFFFFFFF},
        {"file_id": 2**64 - 1},
    ],
    ids=str,
)
async def test_numbers_out_of_this_world(hostile: Start, changes: dict[str, int]) -> None:
    server = hostile()
    async with connected(server) as share:
        pages = iter([[entry("strange", **changes), entry("good")]])
        server.script.on(Command.QUERY_DIRECTORY, smb2_pages(pages), times=1)
        listed = await survives(share, list_folder)
        assert isinstance(listed, SmbError) or all(is_sane(found.stat) for found in listed)  # type: ignore[attr-defined]
        await serves_again(server, share)


async def test_a_slow_endless_listing_does_not_hold_up_anybody_else(hostile: Start) -> None:
    server = hostile()
    async with connected(server) as share, trio.open_nursery() as nursery:
        server.script.on(Command.QUERY_DIRECTORY, smb2_pages(new_names()))
        nursery.start_soon(survives, share, list_folder)
        with trio.fail_after(IN_TIME_S):
            for _ in range(20):
                assert (await share.stat("file")).size == 10
        nursery.cancel_scope.cancel()
