"""Run folders: ours are resumed or replaced, foreign ones are never touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared_model.errors import InputError, MissingError, StorageError
from simulations.run_folder import open_run, read_run

WHEN = "2026-01-01T00:00:00+00:00"


def test_completed_phases_survive_and_the_marker_is_written_at_once(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", digest="d", config={"seed": 1}, created=WHEN) as run:
        run.with_phase("people", {"seconds": 1.5})
    with open_run(tmp_path / "run", digest="d", config={"seed": 1}, created="later") as run:
        assert run.done("people") and run.facts("people") == {"seconds": 1.5}
        assert run.values["created"] == WHEN
        with pytest.raises(MissingError):
            run.facts("paintings")


def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for fresh in (False, True):
        with (
            pytest.raises(InputError, match="not a run"),
            open_run(tmp_path, digest="d", config={}, created=WHEN, fresh=fresh),
        ):
            pass
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.txt"]


def test_someone_elses_run_json_is_not_our_marker(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"model": "theirs"}')
    with pytest.raises(StorageError), open_run(tmp_path, digest="d", config={}, created=WHEN, fresh=True):
        pass
    assert json.loads((tmp_path / "run.json").read_text()) == {"model": "theirs"}


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match="is a file"), open_run(tmp_path / "run", digest="d", config={}, created=WHEN):
        pass


def test_a_finished_run_is_replaced_and_strangers_files_in_it_stay(tmp_path: Path) -> None:
    with open_run(tmp_path, digest="d", config={}, created=WHEN) as run:
        (tmp_path / "devices" / "0").mkdir(parents=True)
        (tmp_path / "report.html").write_text("old")
        run.with_phase("people", {}).finish(WHEN)
    (tmp_path / "notes.txt").write_text("mine")
    with open_run(tmp_path, digest="other", config={}, created="new") as run:
        assert not run.done("people") and run.values["digest"] == "other"
    assert sorted(item.name for item in tmp_path.iterdir()) == [".lock", "notes.txt", "run.json"]


def test_an_unfinished_run_with_other_settings_needs_fresh(tmp_path: Path) -> None:
    with open_run(tmp_path, digest="d", config={}, created=WHEN) as run:
        run.with_phase("people", {})
    with pytest.raises(InputError, match="other settings"), open_run(tmp_path, digest="e", config={}, created=WHEN):
        pass
    with open_run(tmp_path, digest="e", config={}, created=WHEN, fresh=True) as run:
        assert not run.done("people")


def test_two_processes_cannot_share_a_run(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, digest="d", config={}, created=WHEN),
        pytest.raises(InputError, match="another easel-sim"),
        open_run(tmp_path, digest="d", config={}, created=WHEN),
    ):
        pass


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"easel": "demo", "for')
    with pytest.raises(StorageError, match="damaged"):
        read_run(tmp_path)
    with pytest.raises(MissingError, match="no run"):
        read_run(tmp_path / "nowhere")
