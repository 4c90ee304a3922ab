from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from client.daemon.replies import status_of, without_paths
from client.job_queue import BusyError
from client.jobs import DroppedError
from shared_model import errors
from shared_model.errors import EaselError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.PictureError("x"), "INVALID_ARGUMENT"),
        (errors.MissingError("x"), "NOT_FOUND"),
        (errors.CompatibilityError("x"), "FAILED_PRECONDITION"),
        (errors.LedgerError("x"), "FAILED_PRECONDITION"),
        (errors.StorageError("x"), "INTERNAL"),
        (BusyError("x", retry_after_s=1), "RESOURCE_EXHAUSTED"),
        (DroppedError("cancelled"), "CANCELLED"),
        (DroppedError("late"), "DEADLINE_EXCEEDED"),
        (DroppedError("stopping"), "UNAVAILABLE"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_error_has_its_status(error: EaselError, code: str) -> None:
    assert status_of(error) is grpc.StatusCode[code]


@pytest.mark.parametrize(
    "text", ["cannot read /srv/a b/c.head: no", "'/etc/passwd' is bad", "see (/opt/x)", "/a/b", "at x: /var/lib/y, ok"]
)
def test_paths_are_left_out(text: str) -> None:
    told = without_paths(text)
    assert not any(part in told for part in ("srv", "etc", "opt", "/a/b", "var"))


def test_the_home_is_called_so_even_with_a_space_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "Application Support"
    monkeypatch.setenv("EASEL_HOME", str(home))
    assert without_paths(f"cannot write {home}/heads/a.head: full") == "cannot write <home>: full"


@pytest.mark.parametrize("text", ["use 1/2 or 3", "a result of 3 x 4", "and/or", "easel heads list", "30 %"])
def test_other_text_stays(text: str) -> None:
    assert without_paths(text) == text


def test_messages_are_one_line_of_reasonable_length() -> None:
    told = without_paths("a\nb " * 10_000)
    assert "\n" not in told and len(told) <= 1000
