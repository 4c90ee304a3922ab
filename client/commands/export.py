"""``easel export``: a head's whole painting as one ONNX file."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from client.console import Console, format_bytes, format_seconds
from shared_model.errors import CompatibilityError, InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("out", metavar="OUT.onnx", help="the file to write")
    parser.add_argument("--head", metavar="NAME", required=True, help="whose paintings (see: easel heads list)")
    parser.add_argument(
        "--strength", type=float, default=1.0, metavar="0..1", help="suggested strength; an input of the file"
    )
    parser.add_argument("--detail", type=float, default=0.5, metavar="0..1", help="fine structure, built in")
    parser.add_argument("--keep-color", action="store_true", help="keep the photo's own colors, built in")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="suggested seed; an input of the file")
    parser.add_argument("--photo", metavar="FILE", help="check with this photo (default: one that easel ships)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.onnx if it is there already")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Export, check against PyTorch, then write; returns 0."""
    from client.export.check import Comparison, compare
    from client.export.graph import OPSET, WARNING, assemble, import_onnx
    from client.models import backbone_in_use
    from client.recipe import Recipe
    from client.store import Home
    from shared_model.files import write_atomic
    from shared_model.images import load_tensor
    from shared_model.samples import sample_photos
    from shared_model.stylize import Options

    console = Console(json=arguments.json)
    target = _target(arguments.out, overwrite=arguments.overwrite)
    import_onnx()
    options = Options(
        strength=arguments.strength, detail=arguments.detail, keep_color=arguments.keep_color, seed=arguments.seed
    )
    file = Home.default().find(arguments.head)
    head, backbone = file.load(), backbone_in_use()
    photo = load_tensor(Path(arguments.photo).expanduser()) if arguments.photo else sample_photos()[0]
    recipe = Recipe.of(head, name=file.name, options=options)
    facts = {**recipe.to_settings(), "canvas_px": head.config.canvas_px}
    console.note("exporting takes a minute or two")
    data = assemble(head, backbone=backbone, options=options, facts=facts)
    found: Comparison = compare(data, photo, head=head, backbone=backbone, options=options)
    if not found.close:
        hint = "nothing was written; try another --photo, or report this with the versions from easel doctor"
        if found.unsteady:
            hint = (
                f"nothing was written; on this photo, with large even areas, PyTorch differs from itself by "
                f"{255 * found.own_mean:.1f} of 255, so that it cannot tell: check with another --photo"
            )
        raise CompatibilityError(
            f"the exported file paints otherwise than PyTorch (mean difference {255 * found.mean:.2f} of 255)",
            hint=hint,
        )
    write_atomic(target, data, mode=0o644 if file.shipped else 0o600)
    ratio = found.seconds / found.reference_seconds
    console.facts(
        {
            "path": str(target),
            "bytes": len(data),
            "opset": OPSET,
            "settings": facts,
            "check": dataclasses.asdict(found) | {"ratio": ratio},
            "warning": WARNING,
        }
    )
    console.say(f"{target} ({format_bytes(len(data))}, ONNX opset {OPSET})")
    console.say(
        f"checked against PyTorch: mean difference {255 * found.mean:.3f} of 255, {found.share:.2%} of values more "
        f"than 2 apart; {format_seconds(found.seconds)} a painting, PyTorch {format_seconds(found.reference_seconds)}"
    )
    if not file.shipped:
        console.warn(WARNING, hint="do not give it to anybody who may not see those pictures")
    return 0


def _target(out: str, *, overwrite: bool) -> Path:
    target = Path(out).expanduser()
    if target.suffix.lower() != ".onnx":
        raise InputError(f"{out} does not end in .onnx", hint="for example: easel export oil.onnx --head oil")
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already", hint="add --overwrite to replace it, or choose another name")
    return target
