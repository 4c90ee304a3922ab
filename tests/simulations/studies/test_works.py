"""More of a painter's pictures: rungs, paired gains, and the command on a small gallery."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared_model.errors import InputError
from shared_model.images import save_picture
from simulations.cli import main
from simulations.studies.works import Rung, find_painters, gains, rungs, to_markdown
from tests.simulations.studies.conftest import painting, photo


def test_rungs_never_ask_for_more_than_there_is() -> None:
    assert rungs([4, 10], available=3, tuned=False) == [Rung(1), Rung(4)]  # the smallest that takes all three
    assert rungs([4, 10], available=12, tuned=True) == [Rung(1), Rung(4), Rung(10), Rung(10, tuned=True)]
    assert Rung(1).name == "zero-shot, 1 picture" and Rung(4, tuned=True).name == "up to 4 pictures, tuned"


def test_painters_need_three_works(tmp_path: Path) -> None:
    for name, count in (("one", 1), ("three", 3)):
        for index in range(count):
            save_picture(tmp_path / name / f"{index}.png", painting(index))
    assert [painter.name for painter in find_painters(tmp_path)] == ["three"]
    with pytest.raises(InputError, match="no folder of three"):
        find_painters(tmp_path / "one")


def _row(painter: str, rung: str, value: float) -> dict[str, object]:
    parts = dict.fromkeys(("headline", "content", "texture", "joint", "color"), value)
    return {"painter": painter, "held": 0, "photo": "p", "rung": rung, **parts}


def test_gains_pair_the_same_photo_and_work() -> None:
    rows = [
        *(_row("a", Rung(1).name, 0.2), _row("a", Rung(3).name, 0.5)),
        *(_row("b", Rung(1).name, 0.4), _row("b", Rung(3).name, 0.5), _row("b", Rung(4).name, 0.1)),
    ]
    found = gains(rows, "headline")
    assert found["up to 3 pictures"].mean == pytest.approx(0.2) and found["up to 3 pictures"].positive == 2
    assert found["up to 4 pictures"].mean == pytest.approx(-0.3) and found["up to 4 pictures"].count == 1
    assert "| up to 3 pictures | 2 | +0.200 [+0.100, +0.300] 2/2 |" in to_markdown(rows)


@pytest.mark.slow
def test_the_command_compares_with_works_that_were_held_out(tmp_path: Path) -> None:
    for index in range(3):
        save_picture(tmp_path / "painters" / "slant" / f"{index}.png", painting(index))
    save_picture(tmp_path / "photos" / "0.png", photo(0))
    arguments = ["study", "works", "--painters", str(tmp_path / "painters"), "--photos", str(tmp_path / "photos")]
    arguments += ["--count", "1", "--held", "1", "--budget", "0.1", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    facts = json.loads((tmp_path / "out" / "works.json").read_text())
    assert [row["rung"] for row in facts["rows"]] == [
        "zero-shot, 1 picture",
        "up to 4 pictures",
        "up to 4 pictures, tuned",
    ]
    assert (tmp_path / "out" / "sheet.png").is_file()
