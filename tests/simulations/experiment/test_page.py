"""Pages: figures with intervals, answers that the numbers carry, and nothing from outside."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_model.errors import MissingError, StorageError
from shared_model.images import save_picture
from simulations.cli import main
from simulations.experiment import words
from simulations.experiment.comparison import compare_runs
from simulations.experiment.contrasts import contrasts
from simulations.experiment.folder import Folders, claim, write_facts
from simulations.experiment.page import write_experiment_report
from simulations.experiment.plan import load_plan
from simulations.experiment.summary import read_groups

TEXT = """
name = "Paint & <compare>"
seeds = [0, 1]
{noise}
[population]
devices = 6
[federation]
unprotected = true
rounds = 2
[[method]]
name = "local"
[[method]]
name = "fedavg"
[[method]]
name = "fedprox"
[[method]]
name = "ditto"
[[method]]
name = "dp-fedavg"
federation = {{ unprotected = false, population = 1_000_000, cohort = 10_000 }}
"""
FINAL = {"local": 0.0, "fedavg": -0.2, "fedprox": 0.0, "ditto": -0.1, "dp-fedavg": 0.15}


def make_run(folder: Path, *, noise: str = "", methods: tuple[str, ...] = tuple(FINAL), devices: int = 6) -> Path:
    """Write a finished run by hand: each method changes every device's loss by about its number in `FINAL`."""
    folder.mkdir()
    source = folder.parent / f"{folder.name}.toml"
    source.write_text(TEXT.format(noise=noise))
    claim(folder, load_plan(source), folders=Folders(), weights="0")
    dice = np.random.default_rng(0)
    for seed in (0, 1):
        start = [1.0 + 0.1 * device + 0.01 * seed for device in range(devices)]
        for name in methods:
            jitter = dice.normal(0.0, 0.02, devices)
            jitter -= jitter.mean() if name == "fedprox" else 0.0
            end = [value + FINAL[name] + shift for value, shift in zip(start, jitter, strict=True)]
            private = name == "dp-fedavg"
            rows = [{"round": 0, "loss": 1.0, "devices": start}, {"round": 2, "loss": 0.9, "devices": end}]
            facts: dict[str, Any] = {
                "method": name, "name": name, "paper": "Somebody 2020", "seed": seed, "folder": f"{name}_seed-{seed}",
                "unit": "user", "own_networks": name in ("local", "ditto"), "protected": private, "delta": 1e-7,
                "epsilon": 1.5 if private else None, "run_epsilon": 1e6 if private else None,
                "bytes_up": 0 if name == "local" else 12_000_000, "cpu_seconds": 3.0, "rows": rows, "final": rows[-1],
                "pictures": ["photo-0_taste-0.png"] if seed == 0 else [],
            }  # fmt: skip
            write_facts(folder / "trials" / facts["folder"] / "result.json", facts)
            picture = dice.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            save_picture(folder / "trials" / facts["folder"] / "photo-0_taste-0.png", picture)
    for name in ("photo-0", "taste-0"):
        save_picture(folder / "pictures" / f"{name}.png", dice.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    return folder


class Links(HTMLParser):
    """Collects whatever a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data")]


def test_a_page_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    page = write_experiment_report(make_run(tmp_path / "run")).read_text()
    links = Links()
    links.feed(page)
    assert len(links.found) == 7 and all(link.startswith("data:image/jpeg") for link in links.found)
    assert "<script" not in page and "@import" not in page and not re.search(r"url\((?!data)", page)
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page
    assert "Paint &amp; &lt;compare&gt;" in page and "<compare>" not in page
    assert "NOT PRIVATE" not in page
    assert "this very run spends epsilon 1e+06" in page


def test_answers_are_what_the_numbers_carry(tmp_path: Path) -> None:
    group = read_groups([make_run(tmp_path / "run")])[0]
    found = contrasts(group)
    assert {item.better: item.answer for item in found["local"]} == {
        "fedavg": "yes",
        "fedprox": "not measurable",
        "ditto": "yes",
        "dp-fedavg": "no",
    }
    assert {item.better: item.answer for item in found["global"]} == {"ditto": "no"}
    gain = found["local"][0].gain
    assert gain.mean == pytest.approx(0.2, abs=0.02) and gain.low < gain.mean < gain.high and gain.count == 12
    assert group.start is not None and group.start.mean == pytest.approx(1.255)
    assert group.entries[0].worst is not None and group.entries[0].worst.mean == pytest.approx(1.5, abs=0.05)


def test_few_devices_carry_no_answer(tmp_path: Path) -> None:
    group = read_groups([make_run(tmp_path / "run", devices=2)])[0]
    assert {item.answer for item in contrasts(group)["local"]} == {"too few devices"}


def test_a_page_of_seeded_noise_says_that_nobody_is_protected(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", noise='noise = "seeded for tests"')
    assert "NOT PRIVATE" in write_experiment_report(run).read_text()


def test_runs_are_compared_on_one_page_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_run(tmp_path / "one"), make_run(tmp_path / "two", methods=("local", "fedavg"))
    assert main(["compare", str(first), str(second), "--out", str(tmp_path / "out"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((tmp_path / "out" / "compare.csv").read_text().splitlines()))
    assert [(row["run"], row["method"]) for row in rows] == [
        *(("one", method) for method in FINAL),
        ("two", "local"),
        ("two", "fedavg"),
    ]
    assert len(facts["rows"]) == 7 and float(rows[0]["personal_low"]) < float(rows[0]["personal"])
    text = (tmp_path / "out" / "compare.md").read_text()
    assert text.count("| local |") == 2 and "| fedavg | yes | +0.2" in text
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count('class="group"') == 2


def test_report_of_an_experiment_is_found_by_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").is_file()
    assert "report.html" in capsys.readouterr().out


def test_there_is_no_page_of_nothing_and_none_of_damage(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no trial is finished"):
        write_experiment_report(make_run(tmp_path / "empty", methods=()))
    with pytest.raises(MissingError, match="holds no experiment"):
        compare_runs([tmp_path], tmp_path / "out")
    run = make_run(tmp_path / "run")
    (run / "trials/local_seed-0/result.json").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        write_experiment_report(run)
    (run / "trials/local_seed-0/result.json").write_text("{}")
    with pytest.raises(StorageError, match="do not fit together"):
        write_experiment_report(run)


def test_people_and_records_are_told_apart_where_a_run_protects_both(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for path in run.glob("trials/fedprox_*/result.json"):
        facts = json.loads(path.read_text())
        write_facts(path, {**facts, "unit": "example", "protected": True, "epsilon": 8.0, "delta": 1e-5})
    text = words.privacy(read_groups([run])[0])
    people, records = text.split("The epsilon of fedprox ")
    assert people.startswith("The epsilon of dp-fedavg is that of the nominal fleet") and "1e+06" in people
    assert records.startswith("protects one record of a device, at delta 1e-05, in this very run")
    assert "e-05" not in people and "nominal" not in records


def test_seconds_of_workers_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    make_run(tmp_path / "alone")
    make_run(tmp_path / "many", noise="[engine]\nkind = 'processes'")
    alone, many = (write_experiment_report(tmp_path / name).read_text() for name in ("alone", "many"))
    assert "of CPU for all trials, without their workers" in many and "without its workers" in many
    assert "of CPU for all trials" in alone and "workers" not in alone


def test_a_curve_goes_on_over_all_seeds_where_one_was_stopped_early(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    path = run / "trials" / "fedavg_seed-1" / "result.json"
    facts = json.loads(path.read_text())
    for stopped, expected in ((False, 0.9), (True, 0.7)):
        early = {**facts["rows"][1], "round": 1, "loss": 0.5}
        write_facts(path, {**facts, "rows": [facts["rows"][0], early], "final": early, "stopped": stopped})
        fedavg = next(entry for entry in read_groups([run])[0].entries if entry.label == "fedavg")
        assert [number for number, _ in fedavg.curve("loss")] == [0, 1, 2]
        assert fedavg.curve("loss")[-1][1].mean == pytest.approx(expected)
        assert ("then: fedavg." in write_experiment_report(run).read_text()) is stopped
