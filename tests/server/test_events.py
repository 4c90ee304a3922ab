"""What a running fleet says: lines for people, lines for machines."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.cli import main
from server.events import EventLog, Speaker
from server.report import RoundReport


def clock() -> datetime:
    return datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_the_same_thing_in_both_formats() -> None:
    report = RoundReport(round=1, asked=3, accepted=2, reasons={"late": 1}, released=True, epsilon=0.5)
    text, machine = io.StringIO(), io.StringIO()
    for stream, name in ((text, "text"), (machine, "json")):
        say = Speaker(stream, format=name, clock=clock)
        say("note")
        say(report.line(rounds=4), event="round", facts=report.to_dict())
    assert text.getvalue().splitlines() == ["note", report.line(rounds=4)]
    note, told = (json.loads(line) for line in machine.getvalue().splitlines())
    assert note == {"time": "2026-11-24T12:00:00+00:00", "event": "note", "text": "note"}
    assert (told["event"], told["accepted"], told["reasons"]) == ("round", 2, {"late": 1})


def test_the_file_is_its_owners_and_grows(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", clock=clock)
    log.write("started", {"port": 1})
    EventLog(tmp_path / "events.jsonl", clock=clock).write("stopped")
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "stopped"] and lines[0]["port"] == 1
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600
    EventLog(tmp_path / "missing" / "events.jsonl", clock=clock).write("lost")  # and nobody is hurt


def test_a_reader_that_has_gone_does_not_end_a_fleet() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Speaker(Gone(), format="text", clock=clock)("note")


def test_errors_are_lines_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "none"), "--log-format", "json"]) == 3
    said = json.loads(capsys.readouterr().err)
    assert (said["event"], said["exit_code"]) == ("error", 3) and "is not a fleet's folder" in said["text"]
