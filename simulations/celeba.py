"""The article's case as a recipe: faces to sketches, from a folder such as CelebA.

Some faces of the train split are drawn by easel's own sketch painter; a private head is made from a few of
these drawings, and the shipped backbone is fine-tuned on faces and drawings, unpaired. Faces of the
validation and test splits are then painted before and after. They were also drawn by the painter, so
for once there is a true answer to compare with, which neither training nor head ever saw.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.console import Console
from client.evaluation import Change, bootstrap
from client.sheet import Tile, contact_sheet
from shared_model.backbone import Backbone
from shared_model.config import TrainConfig, digest, load_toml, to_dict
from shared_model.errors import ConfigError, InputError, Interrupted
from shared_model.files import read_bytes, write_atomic
from shared_model.head import Head
from shared_model.images import encode_picture, load_tensor, to_tensor, to_uint8
from shared_model.metrics.content import content_score
from shared_model.pyramid import luminance
from shared_model.stylize import Options, stylize
from shared_model.training import Trainer
from shared_model.tuning import tune
from shared_model.weights import default_backbone, save_backbone
from simulations.faces import Faces, open_faces, read_attributes
from simulations.painters import Style

__all__ = ["CelebaConfig", "Face", "default_path", "load_config", "print_figures", "run_recipe"]

_WAYS = ("draft", "before", "after")
_MEASURES = ("agreement", "difference", "content")


@dataclass(frozen=True)
class CelebaConfig:
    """What the recipe does; see ``simulations/configs/celeba_sketch.toml`` for each setting in words."""

    train_faces: int = 64
    sketched_faces: int = 24
    head_faces: int = 4
    tune_s: float = 15.0
    judged_faces: int = 12
    size_px: int = 256
    stroke: float = 1.0
    skip: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    device: str = "cpu"
    seed: int = 0
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        bounds = {
            "train_faces": (1, 100_000),
            "sketched_faces": (1, self.train_faces),
            "head_faces": (1, self.sketched_faces),
            "tune_s": (0, 3600),
            "judged_faces": (1, 1000),
            "size_px": (64, 1024),
            "stroke": (0.3, 4.0),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be between {low} and {high}, not {getattr(self, name)}")


@dataclass(frozen=True)
class Face:
    """One judged face.

    Parameters
    ----------
    name
        Of its file.
    versions
        ``photo``, ``drawn`` (by the painter), ``draft``, ``before``, ``after``: ``(1, 3, H, W) float in [0, 1]``.
    scores
        For draft, before and after: ``agreement`` (content score against the drawing, higher is better),
        ``difference`` (mean absolute difference of the luminance to it) and ``content`` (score against the photo).
    """

    name: str
    versions: dict[str, Tensor]
    scores: dict[str, dict[str, float]]


def default_path() -> Path:
    """Where the settings that easel ships lie."""
    return Path(__file__).parent / "configs" / "celeba_sketch.toml"


def load_config(path: Path | str | None = None, *, steps: int | None = None) -> CelebaConfig:
    """Read settings, the shipped ones by default; the canvas of all heads is the recipe's."""
    config = load_toml(path or default_path(), CelebaConfig)
    head = dataclasses.replace(config.train.head, canvas_px=config.size_px)
    train = dataclasses.replace(config.train, head=head, seed=config.seed, steps=steps or config.train.steps)
    return dataclasses.replace(config, train=train)


def run_recipe(config: CelebaConfig, images: Path | str, out: Path, *, console: Console) -> dict[str, object]:
    """Run the recipe, or go on with it; returns what ``recipe.json`` holds.

    Raises
    ------
    InputError
        If ``out`` belongs to another run, or the pictures do not suffice.
    Interrupted
        On Ctrl-C; the same command goes on from the last checkpoint.
    """
    faces = open_faces(images)
    _claim(out, config, faces)
    if faces.missing:
        console.note(f"{faces.missing} listed pictures are not there; going on with the others")
    if not faces.listed:
        console.note("there is no list of splits; the pictures were split by a hash of their names")
    skipped = _with_any(faces, config)
    photos = _load(faces.spread("train", config.train_faces, without=skipped), config)
    sketches = [_draw(photo, config) for photo in photos[: config.sketched_faces]]
    start = default_backbone()
    try:
        tuned = _fine_tune(config, photos, sketches, start, out / "checkpoint.safetensors", console)
        heads = {
            name: _head(sketches, photos, backbone, config) for name, backbone in (("before", start), ("after", tuned))
        }
        save_backbone(out / "backbone.safetensors", tuned, manifest={"trained": "recipe celeba", "parent": "shipped"})
        write_atomic(out / "sketch.head", heads["after"].to_bytes(), mode=0o600)
        judged = {
            split: _judge(
                faces.spread(split, config.judged_faces, without=skipped), heads, (start, tuned), config, console
            )
            for split in ("validation", "test")
        }
    except KeyboardInterrupt:
        raise Interrupted("stopped", hint="the same command goes on from the last checkpoint") from None
    for split, some in judged.items():
        write_atomic(out / f"{split}.png", encode_picture(_sheet(some), suffix=".png"))
    facts: dict[str, object] = {
        "faces": {"train": len(photos), "sketched": len(sketches), "head": config.head_faces, "listed": faces.listed},
        "steps": config.train.steps,
        "splits": {split: _figures(some) for split, some in judged.items()},
        "by_attribute": _by_attribute(faces, judged["test"], config),
    }
    write_atomic(out / "recipe.json", json.dumps(facts, indent=2).encode())
    return facts


def print_figures(facts: Mapping[str, Any], console: Console) -> None:
    """Print the figures of both splits."""
    rows = []
    for split, figures in facts["splits"].items():
        for measure in _MEASURES:
            row, change = figures[measure], figures[measure]["change"]
            span = f"{change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
            rows.append((f"{split} ({figures['faces']})", measure, *(f"{row[way]:.3f}" for way in _WAYS), span))
    console.table(rows, header=("SPLIT (FACES)", "", "HEAD ALONE", "SHIPPED", "FINE-TUNED", "CHANGE [95 %]"))
    console.say("agreement and difference: with the painter's own drawing of the same face; content: with the photo")


def _claim(out: Path, config: CelebaConfig, faces: Faces) -> None:
    """Make the folder of the run ours, or see that it is."""
    path = out / "config.json"
    mine = {
        "recipe": "celeba",
        "digest": digest(config),
        "images": str(faces.folder.resolve()),
        "config": to_dict(config),
    }
    if path.is_file():
        try:
            theirs = json.loads(read_bytes(path, limit=1 << 20))
            same = (theirs["digest"], theirs["images"]) == (mine["digest"], mine["images"])
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise InputError(f"{out} holds another run", hint="name another folder with --out")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty and no run of this recipe", hint="name another folder with --out")
    else:
        write_atomic(path, json.dumps(mine, indent=2).encode())


def _with_any(faces: Faces, config: CelebaConfig) -> set[str]:
    """Return the names of pictures that have an attribute to be skipped; none without a list."""
    if faces.attributes is None or not config.skip:
        return set()
    everyone = [*faces.train, *faces.validation, *faces.test]
    return {n for n, has in read_attributes(faces.attributes, everyone, config.skip).items() if any(has.values())}


def _load(paths: Sequence[Path], config: CelebaConfig) -> list[Tensor]:
    if not paths:
        raise InputError("no faces are left", hint="skip fewer attributes")
    return [load_tensor(path, config.size_px) for path in paths]


def _draw(photo: Tensor, config: CelebaConfig) -> Tensor:
    style = Style("sketch", palette="natural", stroke=config.stroke, seed=config.seed)
    return to_tensor(style.paint(to_uint8(photo)))


def _fine_tune(
    config: CelebaConfig,
    photos: Sequence[Tensor],
    sketches: Sequence[Tensor],
    start: Backbone,
    checkpoint: Path,
    console: Console,
) -> Backbone:
    train = dataclasses.replace(config.train, model=start.config)
    trainer = Trainer(train, photos=photos, paintings=sketches, device=config.device, start=start)
    if checkpoint.is_file():
        trainer.restore(checkpoint)
        console.note(f"going on at step {trainer.step_count}")
    with console.progress("fine-tuning") as advance:
        if trainer.step_count < train.steps:
            trainer.replenish(train.first_visits)
        while trainer.step_count < train.steps:
            terms = trainer.step()
            advance(trainer.step_count / train.steps, f"step {trainer.step_count}  G {terms['total']:.3f}")
            if trainer.step_count % train.epoch_steps == 0 or trainer.step_count == train.steps:
                trainer.save(checkpoint)
                console.note(f"step {trainer.step_count} of {train.steps}: G {terms['total']:.3f}")
                trainer.replenish(train.visits)
    return trainer.averaged_backbone()


def _head(sketches: Sequence[Tensor], photos: Sequence[Tensor], backbone: Backbone, config: CelebaConfig) -> Head:
    styles = sketches[: config.head_faces]
    head = Head.fit(styles, backbone=backbone, name="faces", config=config.train.head, seed=config.seed)
    if config.tune_s == 0:
        return head
    # Practised on faces that were not drawn for it.
    others = list(photos[config.head_faces : config.head_faces + 8]) or list(photos)
    return tune(head, styles, backbone=backbone, photos=others, budget_s=config.tune_s, seed=config.seed)


def _judge(
    paths: Sequence[Path],
    heads: dict[str, Head],
    backbones: tuple[Backbone, Backbone],
    config: CelebaConfig,
    console: Console,
) -> list[Face]:
    judged = []
    options = Options(seed=config.seed)
    with console.progress("judging") as advance:
        for number, path in enumerate(paths):
            advance(number / len(paths), path.name)
            photo = load_tensor(path, config.size_px)
            drawn = _draw(photo, config)
            versions = {"photo": photo, "drawn": drawn}
            versions["draft"] = heads["before"].draft(photo, seed=config.seed, detail=options.detail).painted
            for name, backbone in zip(("before", "after"), backbones, strict=True):
                versions[name] = stylize(photo, head=heads[name], backbone=backbone, options=options)
            judged.append(Face(path.name, versions, {way: _score(versions[way], photo, drawn) for way in _WAYS}))
    return judged


@torch.no_grad()
def _score(painted: Tensor, photo: Tensor, drawn: Tensor) -> dict[str, float]:
    return {
        "agreement": content_score(drawn, painted)["content"],
        "difference": float((luminance(painted) - luminance(drawn)).abs().mean()),
        "content": content_score(photo, painted)["content"],
    }


def _figures(faces: Sequence[Face]) -> dict[str, object]:
    """Return the mean of every measure for every way, and what fine-tuning changed, paired."""

    def column(way: str, measure: str) -> list[float]:
        return [face.scores[way][measure] for face in faces]

    figures: dict[str, object] = {"faces": len(faces)}
    for measure in _MEASURES:
        pairs = zip(column("before", measure), column("after", measure), strict=True)
        change = bootstrap([after - before for before, after in pairs])
        means = {way: sum(column(way, measure)) / len(faces) for way in _WAYS}
        figures[measure] = {k: round(v, 4) for k, v in means.items()} | {"change": _as_json(change)}
    return figures


def _as_json(change: Change) -> dict[str, object]:
    return {
        "mean": round(change.mean, 4),
        "low": round(change.low, 4),
        "high": round(change.high, 4),
        "clear": change.clear,
    }


def _by_attribute(faces: Faces, judged: Sequence[Face], config: CelebaConfig) -> dict[str, object]:
    """Return the agreement of finished pictures of faces with and without each reported attribute."""
    if faces.attributes is None or not config.report:
        return {}
    known = read_attributes(faces.attributes, [face.name for face in judged], config.report)

    def mean(attribute: str, present: bool) -> dict[str, object]:
        some = [face for face in judged if face.name in known and known[face.name][attribute] == present]
        values = [face.scores["after"]["agreement"] for face in some]
        return {"faces": len(values), "agreement": round(sum(values) / len(values), 4) if values else None}

    return {name: {"with": mean(name, True), "without": mean(name, False)} for name in config.report}


def _sheet(faces: Sequence[Face], *, rows: int = 8) -> NDArray[np.uint8]:
    names = {
        "photo": "photo",
        "drawn": "the painter's drawing",
        "draft": "head alone",
        "before": "shipped backbone",
        "after": "fine-tuned",
    }
    made = []
    for face in faces[:rows]:
        row = []
        for way, title in names.items():
            score = f": {face.scores[way]['agreement']:.2f}" if way in face.scores else ""
            row.append(Tile(to_uint8(face.versions[way]), f"{title}{score}"))
        made.append(row)
    return contact_sheet(made, tile_px=220, title="agreement with the painter's own drawing of the same face")
