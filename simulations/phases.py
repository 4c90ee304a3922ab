"""The phases of the demo, in order; each does its work, leaves files, and returns facts for ``run.json``.

A phase that was killed half-way is run again from its start, except the federation, which goes on
from the state saved after its last finished round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from client.console import format_bytes
from client.data import load_records
from shared_model.config import STROKES
from shared_model.files import read_bytes, write_atomic
from shared_model.head import Head
from shared_model.images import load_tensor, save_picture, to_uint8
from shared_model.stylize import stylize
from shared_model.tuning import tune
from simulations.federated_phase import federate, measure_start
from simulations.run_folder import RunFolder
from simulations.workshop import Workshop

__all__ = ["PHASES"]

Facts = dict[str, Any]


def make_people(workshop: Workshop, run: RunFolder) -> Facts:
    """Write every person's pictures and device settings."""
    config = workshop.config
    with workshop.console.progress("people") as follow:
        if config.photos:
            from simulations.dealt_people import deal_population

            population = deal_population(run.path, config=config, follow=follow, note=workshop.console.warn)
        else:
            from simulations.painted_people import paint_population

            population = paint_population(run.path, config=config, follow=follow)
    pictures = sum(len(person.photos) + len(person.art) for person in population.people)
    said = f"{len(population.people)} people with {pictures} pictures; {len(population.photos)} photos are held out"
    return {"said": said, **population.to_dict()}


def make_records(workshop: Workshop, run: RunFolder) -> Facts:
    """Let every device make its fixed training pairs."""
    people = workshop.population(run).people
    with workshop.console.progress("training pairs") as follow:
        for number, person in enumerate(people):
            follow(number / len(people), person.name)
            records = load_records(workshop.device_folder(person.id))
    return {"said": f"{len(records)} fixed (photo, artwork) pairs on each device; they stay there"}


def fit_heads(workshop: Workshop, run: RunFolder) -> Facts:
    """Fit a private head for some people: one for the first backbone, one tuned to the last."""
    first, last = workshop.first_backbone(), workshop.last_backbone()
    heads: list[Facts] = []
    population = workshop.population(run)
    chosen = population.people[: workshop.config.heads]
    config = STROKES["broad" if population.source == "built-in" else "fine"]  # the brushes of easel's own painters show
    for number, person in enumerate(chosen):
        art, photos = workshop.pictures(person.art), workshop.pictures(person.photos)
        started = workshop.clock()
        fresh = Head.fit(art, backbone=first, name=person.name, config=config, seed=workshop.config.seed)
        fitted = workshop.clock()
        losses: list[float] = []
        with workshop.console.progress(f"{person.name}'s head") as show:

            def follow(fraction: float, loss: float, losses: list[float] = losses, show: Any = show) -> None:
                losses.append(loss)
                show(fraction, f"loss {loss:.3f}")

            tuned = fresh.attuned(last, art, seed=workshop.config.seed)
            tuned = tune(
                tuned,
                art,
                backbone=last,
                photos=photos,
                budget_s=workshop.config.tune_s,
                seed=workshop.config.seed,
                clock=workshop.clock,
                progress=follow,
            )
        done = workshop.clock()
        _write_head(workshop, f"{person.id}.start", fresh)
        size = _write_head(workshop, str(person.id), tuned)
        heads.append(
            {
                "person": person.id,
                "bytes": size,
                "fit_seconds": fitted - started,
                "tune_seconds": done - fitted,
                "loss_before": losses[0],
                "loss_after": losses[-1],
            }
        )
        workshop.console.say(f"      {number + 1}/{len(chosen)} {person.name}: {person.style}")
    largest = format_bytes(max(head["bytes"] for head in heads))
    return {"said": f"{len(heads)} private heads of at most {largest}; they stay", "heads": heads}


def paint(workshop: Workshop, run: RunFolder) -> Facts:
    """Paint the held-out photos, before and after."""
    population = workshop.population(run)
    backbones = {"before": workshop.first_backbone(), "after": workshop.last_backbone()}
    options = workshop.options
    shots: list[Facts] = []
    chosen = population.people[: workshop.config.heads]
    total = len(chosen) * len(population.photos)
    with workshop.console.progress("paintings") as follow:
        for person in chosen:
            heads = {
                "before": _read_head(workshop, f"{person.id}.start"),
                "after": _read_head(workshop, str(person.id)),
            }
            for item in population.photos:
                follow(len(shots) / total, f"{item.title} for {person.name}")
                photo = load_tensor(run.path / item.file)
                stem = f"stylized/{Path(item.file).stem}_{person.id}"
                shot: Facts = {"person": person.id, "photo": item.file, "title": item.title}
                for when, backbone in backbones.items():
                    painted = stylize(photo, head=heads[when], backbone=backbone, options=options)
                    shot[when] = _save(run.path, f"{stem}_{when}.png", painted)
                canvas = load_tensor(run.path / item.file, heads["after"].config.canvas_px)
                draft = heads["after"].draft(canvas, seed=options.seed, detail=options.detail).painted
                shot["draft"] = _save(run.path, f"{stem}_draft.png", draft)
                shots.append(shot)
    return {"said": f"{total} paintings, each before and after, in {run.path / 'stylized'}", "paintings": shots}


PHASES: Mapping[str, Callable[[Workshop, RunFolder], Facts]] = MappingProxyType(
    {
        "people": make_people,
        "records": make_records,
        "start": measure_start,
        "federate": federate,
        "heads": fit_heads,
        "paintings": paint,
    }
)


def _write_head(workshop: Workshop, name: str, head: Head) -> int:
    data = head.to_bytes()
    write_atomic(workshop.folder / "heads" / f"{name}.head", data, mode=0o600)
    return len(data)


def _read_head(workshop: Workshop, name: str) -> Head:
    return Head.from_bytes(read_bytes(workshop.folder / "heads" / f"{name}.head"))


def _save(folder: Path, name: str, picture: Tensor) -> str:
    save_picture(folder / name, to_uint8(picture.clamp(0, 1)))
    return name
