"""The page: self-contained, escaped, honest about both privacy figures, and made from any stage of a run."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from shared_model.errors import MissingError, StorageError
from simulations import report_text
from simulations.report import write_report

VOID = {"br", "circle", "img", "input", "line", "link", "meta", "polyline"}


class Page(HTMLParser):
    """Collects text and whatever a browser would load; checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads.extend(value or "" for name, value in attrs if name in ("href", "src", "srcset", "poster"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_loads_nothing_from_outside(finished_run: Path) -> None:
    page = page_of(finished_run)
    html = (finished_run / "report.html").read_text(encoding="utf-8")
    assert page.open == []
    assert page.loads and all(item.startswith("data:image/") for item in page.loads)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "default-src 'none'" in html


def test_both_privacy_figures_are_stated_together(finished_run: Path) -> None:
    text = page_of(finished_run).text
    assert "ε = 1.75" in text and "1,000,000 devices" in text
    assert "are not protected to that level" in text and "about 85 million" in text


def test_what_a_person_wrote_is_shown_as_text_not_markup(finished_run: Path) -> None:
    page = page_of(finished_run)
    assert "oil & <ink>" in page.text
    assert "<ink>" not in (finished_run / "report.html").read_text(encoding="utf-8")


def test_the_words_follow_the_figures_also_when_training_made_it_worse(finished_run: Path) -> None:
    assert "loss fell from 2.100 to 1.950 and the picture quality rose by 0.020" in page_of(finished_run).text
    table = (finished_run / "rounds.csv").read_text().replace("2,1.95,0.720", "2,2.25,0.640")
    (finished_run / "rounds.csv").write_text(table)
    assert "loss rose from 2.100 to 2.250 and the picture quality fell by 0.060" in page_of(finished_run).text


def test_bytes_are_those_of_the_ledger(finished_run: Path) -> None:
    text = page_of(finished_run).text
    assert "1 Ada 5.0 kB 600 kB 8.0 kB 2.0 kB 2" in text
    assert "2 Bruno 5.0 kB not fitted here 8.0 kB 2.0 kB 2" in text


def test_an_unfinished_run_gives_a_shorter_page(finished_run: Path) -> None:
    run = json.loads((finished_run / "run.json").read_text())
    for phase in ("federate", "heads", "paintings"):
        del run["phases"][phase]
    (finished_run / "run.json").write_text(json.dumps(run))
    for name in ("rounds.csv", "privacy.json"):
        (finished_run / name).unlink()
    text = page_of(finished_run).text
    assert "The people and their styles" in text and "Before and after" not in text and "ε" not in text


def test_nothing_to_report_is_said_plainly(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run"):
        write_report(tmp_path / "elsewhere")
    run = json.loads((finished_run / "run.json").read_text())
    run["phases"] = {}
    (finished_run / "run.json").write_text(json.dumps(run))
    with pytest.raises(MissingError, match="nothing to report"):
        write_report(finished_run)


@pytest.mark.parametrize("name", ["stylized/00_0_after.png", "devices/1/art/00.png"])
def test_a_missing_or_damaged_picture_is_named(finished_run: Path, name: str) -> None:
    (finished_run / name).write_bytes(b"not a picture")
    with pytest.raises(StorageError, match=re.escape(name)):
        write_report(finished_run)
    (finished_run / name).unlink()
    with pytest.raises(StorageError, match=re.escape(name)):
        write_report(finished_run)


def test_a_damaged_table_does_not_become_a_page(finished_run: Path) -> None:
    (finished_run / "rounds.csv").write_text("round,loss\n0,a lot\n")
    with pytest.raises(StorageError, match="do not fit together"):
        write_report(finished_run)
    assert not (finished_run / "report.html").exists()


@pytest.mark.parametrize(
    ("after", "told"), [(0.8, "took its loss from 0.900 to 0.800"), (0.9, "found nothing better in that time")]
)
def test_the_report_says_whether_tuning_brought_anything(after: float, told: str) -> None:
    facts = {"bytes": 4e5, "fit_seconds": 1.0, "tune_seconds": 4.0, "loss_before": 0.9, "loss_after": after}
    assert told in report_text.head(facts)
    assert report_text.head(None) == ""
