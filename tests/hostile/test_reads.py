"""READ replies that hold more, or other, than was asked for; and attributes that no file has."""

from collections.abc import Callable
from struct import Struct

import pytest

from smbfuse.config import Vers
from smbfuse.errors import Busy, ProtocolError, SmbError
from smbfuse.share import FileStat, OpenIntent, Share
from smbfuse.status import NtStatus
from smbfuse.wire.fscc import (
    FileAllInformation,
    FileBasicInformation,
    FileFsFullSizeInformation,
    FileInternalInformation,
    FileStandardInformation,
)
from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb1.io import ReadResponse as ReadResponse1
from smbfuse.wire.smb2.create import CreateResponse
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import QueryInfoResponse
from smbfuse.wire.smb2.io import ReadResponse
from tests.hostile.shares import connected, is_sane, refused, serves_again, survives
from tests.support.script import Action, Answer, Asked
from tests.support.scripted_server import ScriptedServer
from tests.support.scripted_smb1 import body_of
from tests.support.scripted_smb2 import with_header

Start = Callable[..., ScriptedServer]

_FIXED = Struct("<HBxI8x")  # of a READ response: StructureSize, DataOffset, DataLength


async def read_four(share: Share) -> bytes:
    file = await share.open("file", OpenIntent())
    try:
        return bytes(await file.read(0, 4))
    finally:
        await file.aclose()


async def first_four(share: Share) -> bytes | None:
    file = await share.open("file", OpenIntent(first_bytes=4))
    await file.aclose()
    return None if file.first is None else bytes(file.first)


def says(body: bytes) -> Action:
    """Return the action that answers with success and this body."""

    def answer_with(_asked: Asked, answer: Answer) -> None:
        with_header(answer, status=NtStatus.SUCCESS)
        answer.body = body

    return answer_with


def says1(data: bytes) -> Action:
    """Return the action that answers a READ_ANDX with `data`; one that is chained behind an open is left alone."""

    def answer_with(asked: Asked, answer: Answer) -> None:
        if asked.header.command == Command1.READ_ANDX:
            answer.body = body_of([ReadResponse1(0xFFFF, 0, b"\0", data)])

    return answer_with


LIES = {
    "more than was asked for": ReadResponse(b"12345", 0, 0).encode(),
    "data that ends behind the message": _FIXED.pack(17, 80, 5) + b"1234",
    "data that is all behind the message": _FIXED.pack(17, 255, 4) + b"1234",
    "data within the header": _FIXED.pack(17, 0, 4) + b"1234",
    "data of 4 GiB": _FIXED.pack(17, 80, 0xFFFFFFFF) + b"1234",
    "another structure": _FIXED.pack(16, 80, 4) + b"1234",
    "nothing": b"",
}


@pytest.mark.parametrize("operation", [read_four, first_four])
@pytest.mark.parametrize("kind", LIES)
async def test_a_read_that_lies_is_an_error(hostile: Start, kind: str, operation: Callable[[Share], object]) -> None:
    server = hostile()
    async with connected(server) as share:
        server.script.on(Command.READ, says(LIES[kind]))
        await refused(share, operation, ProtocolError)  # type: ignore[arg-type]  # what it returns does not matter
        await serves_again(server, share)


@pytest.mark.parametrize("data", [b"12345", b"x" * 60_000], ids=len)
async def test_an_smb1_read_that_brings_too_much_is_an_error(hostile: Start, data: bytes) -> None:
    server = hostile()
    async with connected(server, vers=Vers.SMB1) as share:
        server.script.on(Command1.READ_ANDX, says1(data))
        await refused(share, read_four, ProtocolError)
        await serves_again(server, share)


async def test_a_read_refused_leaves_the_file_open_and_tells_whoever_reads(hostile: Start) -> None:
    def locked(_asked: Asked, answer: Answer) -> None:
        with_header(answer, status=NtStatus.FILE_LOCK_CONFLICT)
        answer.body = ErrorResponse().encode()

    server = hostile()
    async with connected(server) as share:
        server.script.on(Command.READ, locked)
        assert await first_four(share) is None
        await refused(share, read_four, Busy)
        await serves_again(server, share)


def information(size: int, allocation: int, moment: int) -> bytes:
    return FileAllInformation(
        FileBasicInformation(moment, moment, moment, moment, 0x20),
        FileStandardInformation(allocation, size, 0xFFFFFFFF, 0xFF, 0xFF),
        FileInternalInformation(2**64 - 1),
        0xFFFFFFFF,
        0xFFFFFFFF,
        -1,
        0xFFFFFFFF,
        0xFFFFFFFF,
        "\\" * 2000,
    ).encode()


@pytest.mark.parametrize("size", [-1, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("moment", [1, 2**63 - 1, 2**63, 2**64 - 1])
async def test_a_stat_of_impossible_numbers(hostile: Start, size: int, moment: int) -> None:
    server = hostile()
    async with connected(server) as share:
        server.script.on(Command.QUERY_INFO, says(QueryInfoResponse(information(size, size, moment)).encode()))
        stat = await survives(share, lambda share: share.stat("file"))
        assert isinstance(stat, SmbError) or is_sane(stat)  # type: ignore[arg-type]  # a FileStat
        await serves_again(server, share)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
async def test_an_open_of_impossible_numbers(hostile: Start, size: int) -> None:
    async def opened(share: Share) -> FileStat:
        file = await share.open("file", OpenIntent())
        await file.aclose()
        return file.stat

    server = hostile()
    async with connected(server) as share:
        body = CreateResponse(0xFF, 0xFF, 99, size, 0, 1, size, size, size, 0x20, bytes(range(16))).encode()
        server.script.on(Command.CREATE, says(body))
        stat = await survives(share, opened)
        assert isinstance(stat, SmbError) or is_sane(stat)  # type: ignore[arg-type]  # a FileStat
        await serves_again(server, share)


@pytest.mark.parametrize(
    "told", [(-1, -1, -1, 0xFFFFFFFF, 0xFFFFFFFF), (2**63 - 1, 2**63 - 1, 0, 0xFFFFFFFF, 0xFFFFFFFF), (5, 9, 9, 0, 0)]
)
async def test_a_volume_of_impossible_size(hostile: Start, told: tuple[int, int, int, int, int]) -> None:
    server = hostile()
    async with connected(server) as share:
        body = QueryInfoResponse(FileFsFullSizeInformation(*told).encode()).encode()
        server.script.on(Command.QUERY_INFO, says(body))
        space = await survives(share, lambda share: share.space())
        assert isinstance(space, SmbError) or min(space) >= 0  # type: ignore[call-overload]  # a Space is numbers
        await serves_again(server, share)
