"""Fixtures of the hostile tests: a scripted server and shares connected to it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.shares import TREE
from tests.support.scripted_server import ScriptedServer


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Callable[..., ScriptedServer]]:
    """Provide `hostile(tree, sign=…, seal=…, dialects=…, smb1={…})`: a scripted server until the test's end."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> ScriptedServer:
            return stack.enter_context(ScriptedServer.started(TREE, accounts=tmp_path, **settings))

        yield start
