"""One picture: own painters paint theirs, others are named; one row per manner and hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared_model.errors import InputError
from shared_model.images import load_picture, to_tensor
from simulations.cli import main
from simulations.studies import fewshot
from simulations.studies.fewshot import MANNERS, Domain, domains, to_markdown
from simulations.studies.quality import PARTS


def test_own_painters_paint_their_picture_once_and_are_near_or_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def pictures(style: object, count: int) -> list[object]:
        made.append(str(style))
        return [to_tensor(np.full((16, 16, 3), 100, dtype=np.uint8)) for _ in range(count)]

    monkeypatch.setattr(fewshot, "builtin_pictures", pictures)
    for _ in range(2):
        known = domains(tmp_path, manners=list(MANNERS), art=None, names=[])
        assert {domain.near for domain in known} == {True, False}
        assert len({domain.picture for domain in known}) == len(MANNERS)
        assert load_picture(known[0].picture).rgb.mean() == 100
    assert len(made) == len(MANNERS), "painted once"


def test_unknown_manners_and_names_without_a_folder_are_refused(tmp_path: Path, gallery: Path) -> None:
    with pytest.raises(InputError, match="no manner 'batik'"):
        domains(tmp_path, manners=["batik"], art=None, names=[])
    with pytest.raises(InputError, match="--styles"):
        domains(tmp_path, manners=[], art=None, names=["slanted"])
    with pytest.raises(InputError, match="no picture called"):
        domains(tmp_path, manners=[], art=str(gallery / "art"), names=["weave"])


@pytest.mark.slow
def test_the_command_writes_one_row_per_manner_and_hand(gallery: Path, tmp_path: Path) -> None:
    arguments = [
        *("study", "fewshot", "--photos", str(gallery / "photos"), "--count", "1", "--manners"),
        *("--art", str(gallery / "art"), "--styles", "slanted", "--out", str(tmp_path / "out")),
    ]
    assert main(arguments) == 0
    facts = json.loads((tmp_path / "out" / "fewshot.json").read_text())
    assert [(row["style_image"], row["hand"]) for row in facts["rows"]] == [("slanted", "head")]
    text = (tmp_path / "out" / "fewshot.md").read_text()
    assert "| slanted (far) | head |" in text and "| all far | head |" in text and "all near" not in text
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_near_and_far_are_summed_apart_and_compared_with_the_first_hand() -> None:
    parts = (*PARTS, "identifiability")

    def row(manner: str, hand: str, value: float) -> dict[str, object]:
        return {"style_image": manner, "content_image": "p", "hand": hand} | dict.fromkeys(parts, value)

    known = [Domain("oil", True, Path("a")), Domain("weave", False, Path("b"))]
    values = {("oil", "head"): 0.5, ("oil", "new"): 0.7, ("weave", "head"): 0.4, ("weave", "new"): 0.3}
    text = to_markdown(known, [row(*key, value) for key, value in values.items()], ["head", "new"])
    assert "| weave (far) | new | 0.300 |" in text
    assert "| all near | new - head | 0.200 [0.200, 0.200]" in text
    assert "| all far | new - head | -0.100 [-0.100, -0.100]" in text
