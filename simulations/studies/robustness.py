"""The study ``robustness``: how far a change of the photo that nobody sees can move its painting.

For photos and heads, each photo is changed by at most 2 and 4 of 255 levels, at random and by the three attacks
of :mod:`simulations.studies.attacks`; the strongest one counts. What is found is a lower bound on what an
attacker could reach: nearest-neighbour look-ups have no useful Lipschitz bound.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from client.console import Console
from client.parser import Parser
from client.sheet import Tile, contact_sheet, heat
from shared_model.errors import InputError
from shared_model.files import write_atomic
from shared_model.images import encode_picture, find_pictures, load_tensor, resize_short, to_tensor, to_uint8
from shared_model.metrics import Painting, score_pair
from shared_model.stylize import Options
from simulations.studies import study_parser
from simulations.studies.attacks import Target, pgd, random_signs, search

__all__ = ["Finding", "attack", "parser", "run", "shipped_targets", "summary"]

_DRAWS = 3  # random changes, averaged


@dataclass(frozen=True)
class Finding:
    """What one attack did to one photo in one style.

    Parameters
    ----------
    photo, head, attack
        Names; ``attack`` is ``random`` or the strongest one's.
    epsilon
        Bound on the change of the photo, in levels of 255.
    given, draft, painting
        Mean absolute change of the photo, of the draft and of the painting, in [0, 1].
    content, content_before, headline, headline_before
        Scores of the changed and of the clean painting against the clean photo.
    """

    photo: str
    head: str
    attack: str
    epsilon: int
    given: float
    draft: float
    painting: float
    content: float
    content_before: float
    headline: float
    headline_before: float

    @property
    def gain(self) -> float:
        """Change of the painting over change of the photo."""
        return self.painting / max(self.given, 1e-12)


def attack(
    photo: Tensor, target: Target, *, epsilon: int, steps: int, trials: int, seed: int
) -> dict[str, list[Tensor]]:
    """Return changed photos by attack: ``random`` (a few draws), ``pgd-fixed``, ``pgd-through``, ``search``."""
    generator = torch.Generator().manual_seed(seed)
    found = {"random": [random_signs(photo, epsilon=epsilon, generator=generator) for _ in range(_DRAWS)]}
    for name, through in (("pgd-fixed", False), ("pgd-through", True)):
        found[name] = [pgd(photo, target, epsilon=epsilon, steps=steps, through=through, generator=generator)]
    found["search"] = [search(photo, target.paint, epsilon=epsilon, trials=trials, generator=generator)]
    return found


def parser() -> Parser:
    """Return the options of the study."""
    made = study_parser(
        "robustness",
        description="Change photos by a few levels, by chance and by attack, and measure what that does to paintings.",
        example="easel-sim study robustness --out runs/robustness",
    )
    made.add_argument("--out", default="runs/robustness", metavar="DIR", help="where the figures go")
    made.add_argument("--photos", default="", metavar="DIR", help="photos (default: three of scikit-image's)")
    made.add_argument("--heads", nargs="+", default=["oil", "sketch"], metavar="NAME", help="shipped heads")
    made.add_argument("--epsilon", type=int, nargs="+", default=[2, 4], metavar="LEVELS", help="bounds, of 255")
    made.add_argument("--steps", type=int, default=8, metavar="N", help="gradient steps of each PGD (default 8)")
    made.add_argument("--trials", type=int, default=24, metavar="N", help="trials of the search (default 24)")
    made.add_argument("--px", type=int, default=512, metavar="PX", help="short side (default: the canvas, 512)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="seed of attacks and strokes")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Attack every pair, print a table, write ``robustness.json`` and ``robustness.png``; returns the exit code."""
    _check(parsed)
    photos, targets = _photos(parsed.photos, parsed.px), shipped_targets(parsed.heads, Options(seed=parsed.seed))
    findings: list[Finding] = []
    rows: list[list[Tile]] = []
    jobs = [(p, h, e) for h in targets for p in photos for e in parsed.epsilon]
    paintings = {name: _painting(name) for name in targets}
    with console.progress("attacking") as advance:
        for number, (photo, head, epsilon) in enumerate(jobs):
            advance(number / len(jobs), f"{photo}, {head}, {epsilon}/255")
            found = attack(
                photos[photo],
                targets[head],
                epsilon=epsilon,
                steps=parsed.steps,
                trials=parsed.trials,
                seed=parsed.seed,
            )
            judge = _judge(photos[photo], targets[head], paintings[head])
            measured = {name: [judge(changed) for changed in all_of] for name, all_of in found.items()}
            chance = _mean(measured.pop("random"))
            strongest = max(measured, key=lambda name: measured[name][0]["painting"])
            findings.append(Finding(photo, head, "random", epsilon, **chance))
            findings.append(Finding(photo, head, strongest, epsilon, **measured[strongest][0]))
            rows.append(_row(photos[photo], found[strongest][0], targets[head], findings[-1]))
            console.note(_line(findings[-2]) + " | " + _line(findings[-1]))
    facts = {"findings": [asdict(f) | {"gain": round(f.gain, 3)} for f in findings], "summary": summary(findings)}
    out = Path(parsed.out)
    write_atomic(out / "robustness.json", json.dumps(facts, indent=2).encode())
    write_atomic(out / "robustness.png", encode_picture(contact_sheet(rows, tile_px=300), suffix=".png"))
    _print(findings, console)
    console.facts(facts)
    return 0


def summary(findings: Sequence[Finding]) -> dict[str, dict[str, float]]:
    """Return, for every bound, means over photos and heads: of random changes and of the strongest attacks."""
    made = {}
    for epsilon in sorted({f.epsilon for f in findings}):
        chance = [f for f in findings if f.epsilon == epsilon and f.attack == "random"]
        worst = [f for f in findings if f.epsilon == epsilon and f.attack != "random"]
        made[str(epsilon)] = {
            "random": _average(chance, lambda f: f.painting),
            "attack": _average(worst, lambda f: f.painting),
            "attack_most": max(f.painting for f in worst),
            "random_gain": _average(chance, lambda f: f.gain),
            "attack_gain": _average(worst, lambda f: f.gain),
            "amplification": _average(worst, lambda f: f.gain) / _average(chance, lambda f: f.gain),
            "content_before": _average(worst, lambda f: f.content_before),
            "content": _average(worst, lambda f: f.content),
            "headline_before": _average(worst, lambda f: f.headline_before),
            "headline": _average(worst, lambda f: f.headline),
        }
    return made


def _average(findings: Sequence[Finding], value: Callable[[Finding], float]) -> float:
    return sum(map(value, findings)) / len(findings)


def _judge(photo: Tensor, target: Target, painting: Painting) -> Callable[[Tensor], dict[str, float]]:
    """Return the function that measures a changed photo; the clean one is measured once."""
    seed, detail = target.options.seed, target.options.detail
    clean, draft = target.paint(photo), target.head.draft(photo, seed=seed, detail=detail).painted
    before = score_pair(to_uint8(clean), to_uint8(photo), painting)

    def measure(changed: Tensor) -> dict[str, float]:
        painted = target.paint(changed)
        after = score_pair(to_uint8(painted), to_uint8(photo), painting)
        other = target.head.draft(changed, seed=seed, detail=detail).painted
        return {
            "given": float((changed - photo).abs().mean()),
            "draft": float((other - draft).abs().mean()),
            "painting": float((painted - clean).abs().mean()),
            "content": after["content"],
            "content_before": before["content"],
            "headline": after["headline"],
            "headline_before": before["headline"],
        }

    return measure


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def _check(parsed: argparse.Namespace) -> None:
    if min(parsed.epsilon) < 1 or max(parsed.epsilon) > 64:
        raise InputError("--epsilon must be between 1 and 64 levels")
    if parsed.steps < 1 or parsed.trials < 1:
        raise InputError("--steps and --trials must be 1 or more")
    if not 64 <= parsed.px <= 2048:
        raise InputError("--px must be between 64 and 2048")


def _photos(folder: str, short_px: int) -> dict[str, Tensor]:
    """Return photos on whole 8-bit levels, both sides multiples of four."""
    from simulations.pictures import default_photos

    if folder:
        loaded = {path.stem: load_tensor(path) for path in find_pictures([folder])}
    else:
        built_in = default_photos()
        loaded = {name: to_tensor(built_in[name]) for name in ("astronaut_face", "chelsea", "coffee")}
    sized = {name: resize_short(photo, short_px) for name, photo in loaded.items()}
    return {n: (p[:, :, : p.shape[2] // 4 * 4, : p.shape[3] // 4 * 4] * 255).round() / 255 for n, p in sized.items()}


def shipped_targets(names: Sequence[str], options: Options) -> dict[str, Target]:
    """Return heads of this computer, with the backbone they belong to.

    Raises
    ------
    MissingError
        If there is no such head.
    CompatibilityError
        If it is for another backbone.
    """
    from client.store import Home
    from shared_model.stylize import check_match
    from shared_model.weights import default_backbone

    backbone, home = default_backbone(), Home.default()
    targets = {}
    for name in names:
        head = home.load_head(name)
        check_match(head, backbone)
        targets[name] = Target(head, backbone, options)
    return targets


def _painting(name: str) -> Painting:
    """Return a picture to judge by: the first that a shipped head was made from."""
    from simulations.shipped_heads import MANNERS, paintings

    if name not in MANNERS:
        raise InputError(f"{name!r} is no shipped head", hint=f"one of {', '.join(MANNERS)}")
    return Painting.of(to_uint8(paintings(MANNERS[name])[0]))


def _row(photo: Tensor, changed: Tensor, target: Target, finding: Finding) -> list[Tile]:
    clean, painted = target.paint(photo), target.paint(changed)
    bound = finding.epsilon / 255
    return [
        Tile(to_uint8(changed), f"{finding.photo}, changed by {finding.epsilon}/255"),
        Tile(to_uint8(0.5 + (changed - photo) / bound / 2), f"the change ({finding.attack}), enlarged"),
        Tile(to_uint8(clean), f"{finding.head}, clean photo"),
        Tile(to_uint8(painted), f"{finding.head}, changed photo"),
        Tile(heat((painted - clean).abs().mean(1)[0].numpy(), top=0.25), f"difference: mean {finding.painting:.3f}"),
    ]


def _line(finding: Finding) -> str:
    return f"{finding.photo}, {finding.head}, {finding.epsilon}/255 {finding.attack}: {finding.painting:.4f}"


def _print(findings: Sequence[Finding], console: Console) -> None:
    rows = [
        (
            f.photo,
            f.head,
            f"{f.epsilon}/255",
            f.attack,
            f"{f.painting:.4f}",
            f"{f.draft:.4f}",
            f"{f.gain:.2f}",
            f"{f.content_before:.3f} -> {f.content:.3f}",
            f"{f.headline_before:.3f} -> {f.headline:.3f}",
        )
        for f in findings
    ]
    header = ("PHOTO", "HEAD", "BOUND", "CHANGE", "PAINTING", "DRAFT", "GAIN", "CONTENT", "HEADLINE")
    console.table(rows, header=header)
    for epsilon, row in summary(findings).items():
        console.say(
            f"{epsilon}/255: random changes move the painting by {row['random']:.4f}, the strongest attack by "
            f"{row['attack']:.4f} (at most {row['attack_most']:.4f}), {row['amplification']:.2f} times as far"
        )
