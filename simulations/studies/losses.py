"""Adversarial losses and trunks compared: same records, same steps, same seed; only the named part differs.

Each run is a short central training with :class:`shared_model.training.Trainer`. The pool of
training records is drafted once and shared, so runs see the same crops in the same order. Finished
runs are kept, with a digest of their configuration, and are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from client.central import split_pictures
from client.console import Console
from client.parser import Parser
from shared_model.backbone import Backbone
from shared_model.config import ADVERSARIAL, TRUNKS, TrainConfig, digest, load_toml, to_dict
from shared_model.errors import ConfigError, EaselError
from shared_model.files import read_bytes, write_atomic
from shared_model.images import load_tensor, resize_short
from shared_model.stylize import Options
from shared_model.training import Trainer
from shared_model.weights import default_backbone, load_backbone, save_backbone
from simulations.studies import study_parser
from simulations.studies.hands import content_hash
from simulations.studies.pairs import Pair, read_splits, split_files
from simulations.studies.plots import Line, write_plot
from simulations.studies.quality import compare, summarize_hands
from simulations.studies.scoring import Job, Row, Workplace, run_jobs

__all__ = ["Arm", "LossStudy", "arms_of", "parser", "run", "to_markdown", "train_arms"]

_KEEP_PX, _CURVE_EVERY = 640, 10
_WASSERSTEIN_RATE = 1e-4  # Gulrajani et al. 2017, algorithm 1
_COLUMNS = ("headline", "content", "texture", "joint", "color", "checker_db")


@dataclass(frozen=True)
class LossStudy:
    """What is compared.

    Parameters
    ----------
    losses
        Adversarial losses, each trained with the first trunk.
    trunks
        Trunks; all but the first are trained with the second loss of the list (the only one if there is but one).
    start
        Weights to begin from: empty (fresh ones), ``shipped`` or a file.
    pairs
        Held-out pairs that every run paints.
    photos
        Training photos read at most.
    train
        The training that all share.
    """

    losses: tuple[str, ...] = ("none", "hinge", "wasserstein-gp", "lsgan", "bce")
    trunks: tuple[str, ...] = ("resnet", "cnn")
    start: str = ""
    pairs: int = 12
    photos: int = 60
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name, known in (("losses", ADVERSARIAL), ("trunks", TRUNKS)):
            values = getattr(self, name)
            if not values or not set(values) <= set(known) or len(set(values)) < len(values):
                raise ConfigError(f"{name} must be different ones of {', '.join(known)}, not {list(values)}")
        if self.pairs < 1 or self.photos < 1:
            raise ConfigError("pairs and photos must be at least 1")


@dataclass(frozen=True)
class Arm:
    """One run of the comparison."""

    name: str
    config: TrainConfig


def arms_of(study: LossStudy) -> list[Arm]:
    """Return the runs: every loss with the first trunk, then the other trunks with the second loss.

    A Wasserstein critic takes steps no larger than its paper's; with those of the others it diverged.
    """
    combined = [(loss, study.trunks[0]) for loss in study.losses]
    combined += [(study.losses[min(1, len(study.losses) - 1)], trunk) for trunk in study.trunks[1:]]
    base = study.train
    return [
        Arm(
            f"{loss}-{trunk}",
            dataclasses.replace(
                base,
                critic_rate=min(base.critic_rate, _WASSERSTEIN_RATE if loss == "wasserstein-gp" else 1.0),
                loss=dataclasses.replace(base.loss, adversarial=loss),
                model=dataclasses.replace(base.model, trunk=trunk),
            ),
        )
        for loss, trunk in combined
    ]


def _read(paths: Sequence[Path]) -> list[Tensor]:
    pictures = (load_tensor(path) for path in paths)
    return [resize_short(p, _KEEP_PX) if min(p.shape[-2:]) > _KEEP_PX else p for p in pictures]


def train_arms(
    study: LossStudy, photos: Sequence[Path], paintings: Sequence[Path], folder: Path, console: Console
) -> dict[str, str]:
    """Train the runs that are not there yet.

    Returns
    -------
    dict
        Name of each run to how it ended: empty, or why it diverged.
    """
    start = _start(study.start)
    data = hashlib.sha256("".join(content_hash(p) for p in (*photos, *paintings)).encode()).hexdigest()[:12]
    ended: dict[str, str] = {}
    shared: Trainer | None = None
    for arm in arms_of(study):
        home = folder / "runs" / arm.name
        key = f"{digest(arm.config)}-{digest(study)}-{data}-{study.start and study.start + _identity(start)}"
        if (home / "run.json").is_file() and (facts := json.loads(read_bytes(home / "run.json")))["key"] == key:
            ended[arm.name] = facts["ended"]
            console.note(f"{arm.name}: kept")
            continue
        if shared is None:
            console.note(f"drafting records from {study.train.first_visits} paintings")
            shared = Trainer(study.train, photos=_read(photos), paintings=_read(paintings))
            shared.replenish(study.train.first_visits)
        trainer = Trainer(arm.config, photos=shared.photos, paintings=shared.paintings, start=start)
        trainer.pool, trainer.random = shared.pool, random.Random(study.train.seed)
        curve, ended[arm.name] = _train(trainer, arm, console)
        write_atomic(home / "curve.csv", _csv(curve))
        manifest = {"trained": "study losses", "steps": str(trainer.step_count)}
        save_backbone(home / f"{arm.name}.safetensors", trainer.averaged_backbone(), manifest=manifest)
        facts = {"key": key, "ended": ended[arm.name], "config": to_dict(arm.config)}
        write_atomic(home / "run.json", json.dumps(facts, indent=1).encode())
    return ended


def _start(name: str) -> Backbone | None:
    if not name:
        return None
    return default_backbone() if name == "shipped" else load_backbone(name)


def _identity(start: Backbone | None) -> str:
    from shared_model.weights import backbone_id

    return backbone_id(start) if start is not None else ""


def _train(trainer: Trainer, arm: Arm, console: Console) -> tuple[list[dict[str, float]], str]:
    """Take all steps; return the curve (means over a few steps) and how it ended."""
    curve: list[dict[str, float]] = []
    recent: list[dict[str, float]] = []
    while trainer.step_count < arm.config.steps:
        try:
            terms = trainer.step()
        except EaselError as error:
            console.warn(f"{arm.name}: {error.message}")
            return curve, error.message
        # The adversarial term compares a network with its own critic; what all runs minimise is the rest.
        terms["rest"] = terms["total"] - terms.pop("adversarial", 0.0)
        recent.append(terms)
        if len(recent) == _CURVE_EVERY or trainer.step_count == arm.config.steps:
            row = {key: sum(r[key] for r in recent) / len(recent) for key in recent[0]}
            curve.append({"step": trainer.step_count} | row)
            recent = []
            if trainer.step_count % (5 * _CURVE_EVERY) == 0:
                console.note(f"{arm.name}: step {trainer.step_count}/{arm.config.steps}, loss {row['rest']:.3f}")
    return curve, ""


def _csv(rows: Sequence[dict[str, float]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["step"])
    writer.writeheader()
    writer.writerows([{key: f"{value:.5g}" for key, value in row.items()} for row in rows])
    return text.getvalue().encode()


def _plot(folder: Path, names: Sequence[str]) -> None:
    """Draw what all runs minimise, and the discriminators' losses."""
    curves = {}
    for name in names:
        with (folder / "runs" / name / "curve.csv").open(newline="") as file:
            curves[name] = list(csv.DictReader(file))
    for key, title in (("rest", "Generator loss without its adversarial term"), ("critic", "Discriminator loss")):
        lines = [
            Line(name, tuple((float(row["step"]), float(row[key])) for row in rows))
            for name, rows in curves.items()
            if rows and key in rows[0]
        ]
        if lines:
            write_plot(folder / f"{key}.png", lines, title=title, x_name="steps", y_name="loss")


def to_markdown(study: LossStudy, rows: Sequence[Row], ended: dict[str, str]) -> str:
    """Return the table: every run on the same held-out pairs, and against the run without an adversarial term."""
    hands = summarize_hands(rows)
    base = next((name for name in hands if name.startswith("none-")), "head")
    start = f"started from {study.start}" if study.start else "from scratch"
    lines = [
        "# Adversarial losses and trunks",
        "",
        f"{study.train.steps} steps each, batch {study.train.batch}, crops of {study.train.crop_px} px, {start}, seed "
        f"{study.train.seed}; same records in the same order. All held-out pairs: {len(rows) // len(hands)}.",
        "",
        f"| run | {' | '.join(_COLUMNS)} | headline against {base} | ended |",
        "|---" * (len(_COLUMNS) + 3) + "|",
    ]
    for name, summary in hands.items():
        difference = "" if name == base else str(compare(rows, name, base)["all"]["headline"])
        cells = " | ".join(str(summary["all"][part]) for part in _COLUMNS)
        lines.append(f"| {name} | {cells} | {difference} | {ended.get(name, '')} |")
    return "\n".join([*lines, "", "Intervals: 95 % bootstrap over pairs, one seed per run.", ""])


def parser() -> Parser:
    """Return the options of ``easel-sim study losses``."""
    made = study_parser(
        "losses",
        description="Train the backbone a little with every adversarial loss and trunk, and compare what they paint.",
        example="easel-sim study losses --photos photos --art art --out runs/losses",
    )
    made.add_argument("--photos", required=True, metavar="DIR", help="photos; without --splits a part is held out")
    made.add_argument("--art", required=True, metavar="DIR", help="paintings; likewise")
    made.add_argument("--splits", metavar="FILE", help="JSON: lists photos_train, photos_val, art_train, art_test")
    made.add_argument("--config", metavar="FILE", help="settings in TOML (default: the one that easel ships)")
    made.add_argument("--out", required=True, metavar="DIR", help="folder of the study; finished runs are kept")
    made.add_argument("--workers", type=int, default=1, metavar="N", help="processes that paint (default: %(default)s)")
    return made


def default_config() -> Path:
    """Return the settings that easel ships."""
    return Path(__file__).parents[1] / "configs" / "compare_losses.toml"


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Train, paint, score, compare, write."""
    study = load_toml(parsed.config or default_config(), LossStudy)
    folder = Path(parsed.out)
    photos, held_photos = _split(parsed.photos, "photos", ("train", "val"), parsed.splits, study)
    paintings, held_paintings = _split(parsed.art, "art", ("train", "test"), parsed.splits, study)
    ended = train_arms(study, photos[: study.photos], paintings, folder, console)
    files = tuple(str(folder / "runs" / name / f"{name}.safetensors") for name in ended)
    place = Workplace(folder, files, False, Options(size_px=512))
    console.note(f"painting {study.pairs} held-out pairs with {len(ended)} backbones")
    jobs = _jobs(held_photos, held_paintings, study.pairs)
    rows = run_jobs(place, jobs, workers=parsed.workers, on_row=lambda row: None)
    _plot(folder, list(ended))
    text = to_markdown(study, rows, ended)
    facts: dict[str, Any] = {"config": to_dict(study), "ended": ended, "rows": rows}
    write_atomic(folder / "losses.json", json.dumps(facts, indent=1).encode())
    write_atomic(folder / "losses.md", text.encode())
    for line in text.splitlines():
        console.say(line)
    console.facts(facts)
    return 0


def _split(
    folder: str, kind: str, parts: tuple[str, str], splits: str | None, study: LossStudy
) -> tuple[list[Path], list[Path]]:
    """Return the files to train on and those held out: as a splits file says, or by their content."""
    if splits:
        table = read_splits(splits)
        found = [[Path(folder) / name for name in split_files(table, f"{kind}_{part}", folder)] for part in parts]
        return found[0], found[1]
    pictures = split_pictures(folder, study.train)
    return list(pictures.train), [*pictures.test, *pictures.validation]


def _jobs(photos: Sequence[Path], arts: Sequence[Path], count: int) -> list[Job]:
    """Pair held-out photos and paintings in turn, ``count`` pairs or as many as there are."""
    distinct = dict.fromkeys((photos[i % len(photos)], arts[i % len(arts)]) for i in range(count))
    by_art: dict[Path, list[Path]] = {}
    for photo, art in distinct:
        by_art.setdefault(art, []).append(photo)
    return [
        Job((art,), art, tuple((Pair(p.stem, f"{art.parent.name}-{art.stem}"), p) for p in some))
        for art, some in by_art.items()
    ]
