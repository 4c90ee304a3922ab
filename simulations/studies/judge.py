"""An independent judge: who painted this? A classifier trained on real works names stylized photos.

Losses and metric of the model are relatives; this judge is neither. For every fold, one work of each
painter is set aside. The judge is trained on crops of the *other* works, heads are fitted on the works set aside, and
the photos they paint are shown to the judge. How good the judge is on real crops of the works set
aside is reported first; only painters that it tells apart there (at least twice chance, decided on real crops
alone) are painted and counted. Unit ``work`` asks the easier question "which work?": judge and heads
then see different halves of each work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from client.console import Console
from client.parser import Parser
from shared_model.errors import InputError
from shared_model.files import write_atomic
from shared_model.images import find_pictures, load_tensor
from shared_model.stylize import Options
from simulations.studies import classifier as classifier_module
from simulations.studies import study_parser
from simulations.studies.classifier import Classifier, train_classifier
from simulations.studies.folds import SCALE_PX, Fold, at_scale, folds_of
from simulations.studies.hands import content_hash
from simulations.studies.pairs import Pair
from simulations.studies.scoring import Job, Workplace, run_jobs
from simulations.studies.votes import Vote, compare_votes, confusion, mean_votes, real_accuracy, separable, vote

__all__ = ["parser", "run", "to_markdown"]


def _trained(fold: Fold, *, unit: str, gray: bool, steps: int, seed: int, folder: Path) -> Classifier:
    """Train a judge, or read the one kept from the same works, settings and source code."""
    code = Path(classifier_module.__file__).read_bytes()
    facts = [str((gray, steps, seed, unit)), *(content_hash(p) for files in fold.learned.values() for p in files)]
    key = hashlib.sha256(code + "|".join(facts).encode()).hexdigest()[:16]
    path = folder / f"{'gray' if gray else 'color'}-{key}.safetensors"
    if path.is_file():
        return Classifier.load(path)
    works = {name: [at_scale(file, unit) for file in files] for name, files in fold.learned.items()}
    judge = train_classifier(works, gray=gray, steps=steps, seed=seed)
    judge.save(path)
    return judge


def parser() -> Parser:
    """Return the options of ``easel-sim study judge``."""
    made = study_parser(
        "judge",
        description="Train a painter classifier on real works, say how good it is on works that it has not seen, and "
        "let it name photos painted with heads of those works: palette alone, head alone, backbones.",
        example="easel-sim study judge --painters painters --photos photos/val \\\n"
        "      --backbone new.safetensors --out runs/judge",
    )
    made.add_argument("--painters", required=True, metavar="DIR", help="one folder of works per painter")
    made.add_argument("--photos", required=True, metavar="DIR", help="photos to paint")
    made.add_argument("--backbone", nargs="+", action="extend", default=[], metavar="[NAME=]FILE", help="backbones")
    made.add_argument(
        "--own", type=float, default=0.0, metavar="SECONDS", help="each backbone also with hands tuned for so long"
    )
    made.add_argument("--broad", action="store_true", help="the head alone and each backbone also with broad strokes")
    made.add_argument("--out", required=True, metavar="DIR", help="folder of the study; what is there is used again")
    made.add_argument("--unit", choices=("painter", "work"), default="painter", help="what is named")
    made.add_argument("--folds", type=int, default=4, metavar="N", help="(default: %(default)s)")
    made.add_argument("--photos-per-head", type=int, default=3, metavar="N", help="(default: %(default)s)")
    made.add_argument("--steps", type=int, default=300, metavar="N", help="of a judge (default: %(default)s)")
    made.add_argument("--factor", type=float, default=2.0, help="painters count from this many times chance on")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="(default: %(default)s)")
    made.add_argument("--workers", type=int, default=1, metavar="N", help="processes that paint (default: %(default)s)")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Train, check on real works, paint, name, compare, write."""
    out, unit = Path(parsed.out), parsed.unit
    if parsed.folds < 2 or min(parsed.photos_per_head, parsed.steps) < 1:
        raise InputError("folds must be at least 2, photos per head and steps at least 1")
    folds = folds_of(Path(parsed.painters), count=parsed.folds, unit=unit, halves=out / "halves")
    options = Options(size_px=SCALE_PX, seed=parsed.seed)
    place = Workplace(out, tuple(parsed.backbone), True, options, parsed.own, parsed.broad)
    hands = [hand.name for hand in place.hands]  # a wrong file is found before the training
    photos = find_pictures([parsed.photos])
    random.Random(parsed.seed).shuffle(photos)
    judges: dict[str, list[Classifier]] = {}
    for kind in ("color", "gray"):
        for number, fold in enumerate(folds):
            seed = parsed.seed + number
            made = _trained(fold, unit=unit, gray=kind == "gray", steps=parsed.steps, seed=seed, folder=out / "judges")
            judges.setdefault(kind, []).append(made)
            console.note(f"{kind} judge {number + 1}/{len(folds)} is ready")
    accuracy = {kind: real_accuracy(_real_votes(folds, found, unit)) for kind, found in judges.items()}
    chosen = {kind: separable(found, factor=parsed.factor) for kind, found in accuracy.items()}
    jobs = _jobs(folds, photos, sorted({name for names in chosen.values() for name in names}), parsed.photos_per_head)
    total = sum(len(job.pairs) for _, _, job in jobs)
    console.note(f"painting {total} photos with {len(hands)} hands each")
    run_jobs(place, [job for _, _, job in jobs], scored=False, workers=parsed.workers, on_row=lambda row: None)
    facts: dict[str, Any] = {"unit": unit, "hands": hands, "judges": {}}
    for kind, found in judges.items():
        votes = {hand: _painted_votes(place, hand, jobs, found, chosen[kind]) for hand in hands}
        facts["judges"][kind] = {"real": accuracy[kind], "counted": chosen[kind]} | _verdict(votes, hands)
    text = to_markdown(facts)
    write_atomic(out / "judge.json", json.dumps(facts, indent=1).encode())
    write_atomic(out / "judge.md", text.encode())
    for line in text.splitlines():
        console.say(line)
    console.facts(facts)
    return 0


def _real_votes(folds: Sequence[Fold], judges: Sequence[Classifier], unit: str) -> list[Vote]:
    return [
        vote(judge, at_scale(file, unit), name)
        for fold, judge in zip(folds, judges, strict=True)
        for name, files in fold.aside.items()
        for file in files
    ]


def _jobs(folds: Sequence[Fold], photos: Sequence[Path], names: Sequence[str], each: int) -> list[tuple[int, str, Job]]:
    """Return the heads to fit and what they paint; every fold has photos of its own while they last."""
    jobs = []
    for number, fold in enumerate(folds):
        some = [photos[(number * each + index) % len(photos)] for index in range(min(each, len(photos)))]
        for name in names:
            arts = fold.aside[name]
            pairs = tuple((Pair(photo.stem, f"{name}-{number}"), photo) for photo in some)
            jobs.append((number, name, Job(arts, arts[0], pairs)))
    return jobs


def _painted_votes(
    place: Workplace,
    hand: str,
    jobs: Sequence[tuple[int, str, Job]],
    judges: Sequence[Classifier],
    counted: Sequence[str],
) -> list[Vote]:
    return [
        vote(judges[number], load_tensor(place.painting(hand, pair)), name)
        for number, name, job in jobs
        if name in counted
        for pair, _ in job.pairs
    ]


def _verdict(votes: Mapping[str, Sequence[Vote]], hands: Sequence[str]) -> dict[str, Any]:
    if not votes[hands[0]]:
        return {"stylized": {}, "differences": {}}
    pairs = [(b, a) for index, b in enumerate(hands) for a in hands[:index]]
    return {
        "stylized": {
            hand: {key: asdict(value) for key, value in mean_votes(found).items()} | {"confusion": confusion(found)}
            for hand, found in votes.items()
        },
        "differences": {
            f"{b} - {a}": {key: asdict(value) for key, value in compare_votes(votes, b, a).items()} for b, a in pairs
        },
    }


def to_markdown(facts: Mapping[str, Any]) -> str:
    """Return the tables that a lab book takes over."""
    lines = ["# An independent judge", ""]
    for kind, found in facts["judges"].items():
        real = found["real"]
        lines += [
            f"## {kind.capitalize()} judge",
            "",
            f"On real {'halves of works' if facts['unit'] == 'work' else 'works'} that it has not seen: "
            f"{real['crops']:.0%} of crops, {real['pictures']:.0%} of pictures named right "
            f"({real['pictures_among_three']:.0%} among the first three); chance is {1 / len(real['painters']):.0%}.",
            "",
            "Crops named right by painter: "
            + ", ".join(f"{name} {share:.0%}" for name, share in real["painters"].items()),
            "",
            f"Counted below: {', '.join(found['counted']) or 'nobody'}.",
            "",
        ]
        if found["stylized"]:
            lines += ["| hand | named right | among three | log-probability |", "|---|---|---|---|"]
            lines += [f"| {hand} | {_cells(row, '')}" for hand, row in found["stylized"].items()]
            lines += [f"| {name} | {_cells(row, '+')}" for name, row in found["differences"].items()]
            lines.append("")
        if facts["unit"] == "painter":
            lines += ["Confusion on real works (right painter: named):", ""]
            lines += [
                f"- {right}: " + ", ".join(f"{name} {count}" for name, count in sorted(row.items()))
                for right, row in real["confusion"].items()
            ]
            lines.append("")
    lines.append("Intervals: 95 % bootstrap over pictures; in the second, whole painters are drawn anew.")
    return "\n".join([*lines, ""])


def _cells(row: Mapping[str, Any], sign: str) -> str:
    cells = [
        f"{e['mean']:{sign}.3f} [{e['low']:{sign}.3f}, {e['high']:{sign}.3f}] "
        f"[{e['group_low']:{sign}.3f}, {e['group_high']:{sign}.3f}]"
        for e in (row[key] for key in ("top1", "top3", "log_probability"))
    ]
    return " | ".join(cells) + " |"
