"""Sizes, times, modes and names of users, read and shown."""

import pytest

from smbfuse.cli import values


@pytest.mark.parametrize(
    "text, size",
    [("0", 0), ("4096", 4096), ("64k", 65536), ("64K", 65536), ("8MiB", 8 << 20), ("1.5g", 3 << 29), ("2 TB", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize("size, text", [(0, "0"), (1000, "1000"), (65536, "64k"), (8 << 20, "8M"), (3 << 30, "3G")])
def test_sizes_are_shown_as_they_are_written(size: int, text: str) -> None:
    assert values.show_size(size) == text
    assert values.parse_size(text) == size


@pytest.mark.parametrize(
    "text, seconds", [("30", 30.0), ("0.5", 0.5), ("250ms", 0.25), ("2min", 120.0), ("1h", 3600.0), ("9" * 30, 2.0**31)]
)
def test_times(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize("text, mode", [("755", 0o755), ("0644", 0o644), ("0o700", 0o700), ("02775", 0o2775)])
def test_modes(text: str, mode: int) -> None:
    assert values.parse_mode(text) == mode


def test_users_and_groups() -> None:
    assert values.parse_user("root") == values.parse_user("0") == values.parse_group("root") == 0
    for text in ("", "no such one", "-1", "²"):
        with pytest.raises(ValueError, match="must be"):
            values.parse_user(text)
        with pytest.raises(ValueError, match="must be"):
            values.parse_group(text)
