"""SMB1 with impacket's server: one request at a time, no chains, no 64-bit offsets, NTLM without integrity."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from smbfuse.client import transport
from smbfuse.client.smb1_session import Smb1Session
from smbfuse.client.smb1_share import Smb1Share
from smbfuse.config import Login, Network, Secret, Security, Target, Vers
from smbfuse.errors import Exists, NotEmpty, NotFound
from smbfuse.share import Change, Creation, Kind, OpenIntent
from tests.support.independent import PASSWORD, SHARE, USER, independent_server, missing

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "größe").write_bytes(CONTENT)
    (tmp_path / "sub").mkdir()
    for number in range(300):
        (tmp_path / "sub" / f"file {number}").touch()
    if reason := missing("impacket"):
        pytest.skip(reason)
    with independent_server("impacket", tmp_path, "smb1") as server:
        yield server.port


@asynccontextmanager
async def mounted(port: int) -> AsyncIterator[Smb1Share]:
    target, network = Target(host="127.0.0.1", share=SHARE, port=port), Network(timeo_s=10.0)
    stream = await transport.connect(target, network)
    async with trio.open_nursery() as nursery:
        session = await Smb1Session.establish(
            stream,
            nursery,
            target=target,
            login=Login(user=USER, password=Secret(PASSWORD)),
            security=Security(vers=Vers.SMB1),
            network=network,
        )
        share = await session.connect_share(SHARE)
        yield share
        await share.aclose()
        await session.aclose()


async def test_files_are_listed_and_read(port: int) -> None:
    async with mounted(port) as share:
        assert share.limits.in_flight == 1
        for _ in range(2):  # the second open knows what the server lacks
            file = await share.open("größe", OpenIntent(first_bytes=4096))
            data = bytes(file.first or b"")
            while piece := await file.read(len(data), share.limits.read):
                data += piece
            await file.aclose()
            assert data == CONTENT
            assert (file.stat.kind, file.stat.size) == (Kind.FILE, len(CONTENT))
        directory = await share.open_directory("sub")
        names = set()
        while page := await directory.page():
            names |= {entry.name for entry in page}
        assert names == {f"file {number}" for number in range(300)}
        with pytest.raises(NotFound):
            await share.open("nowhere", OpenIntent())


async def test_files_are_written_renamed_and_removed(port: int, tmp_path: Path) -> None:
    moment = 1_600_000_000_000_000_000
    async with mounted(port) as share:
        file = await share.open("neu", OpenIntent(write=True, creation=Creation.EXCLUSIVE))
        at = 0
        while at < len(CONTENT):
            at += await file.write(at, [CONTENT[at : at + share.limits.write]])
        await file.flush()
        await file.aclose()
        with pytest.raises(Exists):
            await share.open("neu", OpenIntent(write=True, creation=Creation.EXCLUSIVE))
        assert (await share.change("neu", Change(written_ns=moment))).written_ns == moment
        await share.rename("neu", "größe", replace=True)
        await share.make_directory("folder")
        await share.rename("größe", "folder/größe", replace=False)
        assert (tmp_path / "folder" / "größe").read_bytes() == CONTENT
        emptied = await share.open("folder/größe", OpenIntent(write=True, truncate=True))
        await emptied.aclose()
        assert (await share.stat("folder/größe")).size == 0
        with pytest.raises(NotEmpty):
            await share.remove("folder", Kind.DIRECTORY)
        await share.remove("folder/größe", Kind.FILE)
        await share.remove("folder", Kind.DIRECTORY)
        assert sorted(os.listdir(tmp_path)) == ["sub"]
