"""What another client changes is seen at once where the server tells of it, however long it would be believed."""

from collections.abc import Callable

import pytest

from tests.mounts.test_coherence import look_at_names
from tests.support.mounts import Options
from tests.support.pair import LONG_S, SOON_S, Pair, content, save, soon

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

every_dialect = pytest.mark.parametrize(
    "options",
    [{"vers": "1.0"}, {"vers": "1.0", "nounix": True}, {"vers": "2.0"}, {"vers": "3.1.1"}],
    ids=["1.0-unix", "1.0-nounix", "2.0", "3.1.1"],
)


@every_dialect
def test_names_are_seen_at_once_without_any_grant(pair_of: Callable[..., Pair], options: Options) -> None:
    pair = pair_of({**options, "actimeo": LONG_S, "nolease": True})
    look_at_names(pair, SOON_S)


@every_dialect
def test_sizes_and_content_are_seen_at_once_without_any_grant(pair_of: Callable[..., Pair], options: Options) -> None:
    pair = pair_of({**options, "actimeo": LONG_S, "nolease": True})
    save(pair.first, b"before")
    assert soon(lambda: pair.second.do("os.listdir(point)") == ["f"])
    assert pair.second.stat("f")["st_size"] == 6
    save(pair.first, b"after, and longer")
    assert soon(lambda: pair.second.stat("f")["st_size"] == 17)
    assert content(pair.second) == b"after, and longer"
