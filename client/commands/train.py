"""``easel train``: train a backbone in one place, without labels and without a pretrained network."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.console import Console, format_seconds
from shared_model.errors import InputError, MissingError

if TYPE_CHECKING:
    from client.central import Epoch, Run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--photos", metavar="DIR", help="folder of unlabelled photos")
    parser.add_argument("--art", metavar="DIR", help="folder of paintings")
    parser.add_argument("--config", metavar="FILE", help="TOML file with any setting of the run")
    parser.add_argument("-o", "--out", metavar="DIR", help="run folder (default runs/train-DATE-TIME)")
    parser.add_argument("--resume", metavar="RUN", help="go on with a stopped run")
    parser.add_argument("--start", metavar="FILE", help="begin from these weights instead of from scratch")
    parser.add_argument("--steps", type=int, metavar="N", help="optimiser steps (default from the configuration)")
    parser.add_argument("--adversarial", metavar="LOSS", help="hinge, wasserstein-gp, lsgan, bce or none")
    parser.add_argument("--trunk", metavar="KIND", help="resnet or cnn")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything random")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or mps")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Train, log, save; returns the exit code."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingError(
            "training curves need TensorBoard", hint="install it with: pip install 'easel[train]'"
        ) from error
    from client.engine import plan
    from shared_model.weights import load_backbone

    console = Console(json=arguments.json)
    start = load_backbone(arguments.start) if arguments.start else None
    job = _run_of(arguments)
    console.note(f"run folder: {job.folder} (curves: tensorboard --logdir {job.folder})")
    with SummaryWriter(str(job.folder / "tensorboard")) as writer, console.progress("training") as advance:

        def on_epoch(epoch: Epoch) -> None:
            for part, figures in (("train", epoch.train), ("validation", epoch.validation)):
                for name, value in figures.items():
                    writer.add_scalar(f"{part}/{name}", value, epoch.step)
            train, held_out = epoch.train, epoch.validation
            console.note(
                f"step {epoch.step}: G {train['total']:.4f}  D {train.get('critic', 0.0):.4f}"
                f"  validation {held_out['total']:.4f}  ({format_seconds(epoch.seconds)})"
            )

        test = job.train(
            device=str(plan(device=arguments.device).device),
            start=start,
            progress=advance,
            on_epoch=on_epoch,
            on_samples=lambda step, picture: writer.add_image("samples", picture, step),
        )
    weights = job.folder / "backbone.safetensors"
    console.say(f"weights: {weights}")
    console.say(f"test loss: {test.validation['total']:.4f} on pictures that played no part in training")
    console.facts({"run": str(job.folder), "weights": str(weights), "steps": test.step, "test": test.validation})
    return 0


def _run_of(arguments: argparse.Namespace) -> Run:
    from client.central import Run
    from shared_model.config import TrainConfig, load_toml

    given = [name for name in ("photos", "art", "config", "steps", "adversarial", "trunk", "seed", "out", "start")
             if getattr(arguments, name) is not None]  # fmt: skip
    if arguments.resume:
        if given:
            raise InputError(f"--resume takes everything from the run; drop --{given[0]}")
        return Run.open(Path(arguments.resume))
    if not arguments.photos or not arguments.art:
        raise InputError("training needs --photos DIR and --art DIR", hint="or go on with --resume RUN")
    config = load_toml(arguments.config, TrainConfig) if arguments.config else TrainConfig()
    changes: dict[str, Any] = {name: getattr(arguments, name) for name in ("steps", "seed") if name in given}
    if "adversarial" in given:
        changes["loss"] = dataclasses.replace(config.loss, adversarial=arguments.adversarial)
    if "trunk" in given:
        changes["model"] = dataclasses.replace(config.model, trunk=arguments.trunk)
    folder = Path(arguments.out or f"runs/train-{time.strftime('%Y%m%d-%H%M%S')}")
    return Run.create(folder, dataclasses.replace(config, **changes), photos=arguments.photos, art=arguments.art)
