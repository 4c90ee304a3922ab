"""Quality of backbones on fixed pairs, against the head alone and against each other.

Every pair is painted by every hand; scores (:mod:`shared_model.metrics`) are compared pair by pair.
"all" means all pairs; "cut" leaves out pairs whose photo cannot be told from the painting by texture,
which depends on photo and painting only.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from client.console import Console
from client.parser import Parser
from shared_model.errors import InputError
from shared_model.files import write_atomic
from shared_model.images import load_picture
from shared_model.metrics import IDENTIFIABLE
from shared_model.stylize import Options
from simulations.studies import study_parser
from simulations.studies.intervals import Estimate, estimate
from simulations.studies.pairs import Pair, PictureIndex, read_pairs
from simulations.studies.scoring import Job, Row, Workplace, run_jobs
from simulations.studies.sheets import SheetRow, write_sheets

__all__ = ["PARTS", "compare", "jobs_of", "parser", "run", "summarize_hands", "to_markdown"]

#: What tables show, in their order.
PARTS = ("headline", "headline2", "content", "style", "color", "texture", "joint", "copy", "checker_db")
_DIFFERENCES = ("headline", "headline2", "content", "style", "color", "texture", "joint", "checker_db")

Summary = dict[str, dict[str, Estimate]]  # which pairs, which part


def jobs_of(pairs: Sequence[Pair], photos: PictureIndex, arts: PictureIndex) -> list[Job]:
    """Return one job per style, in the order in which styles come."""
    styles = dict.fromkeys(pair.style for pair in pairs)
    return [
        Job(
            (arts[style],),
            arts[style],
            tuple((pair, photos[pair.content]) for pair in pairs if pair.style == style),
        )
        for style in styles
    ]


def _subsets(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return all rows, and those that pass the cut (all if none does)."""
    return {"all": list(rows), "cut": [row for row in rows if row["identifiability"] >= IDENTIFIABLE] or list(rows)}


def summarize_hands(rows: Sequence[Row]) -> dict[str, Summary]:
    """Return the means of every hand with their intervals."""
    return {
        hand: {
            which: {part: estimate([row[part] for row in kept], [row["style_image"] for row in kept]) for part in PARTS}
            for which, kept in _subsets([row for row in rows if row["hand"] == hand]).items()
        }
        for hand in dict.fromkeys(row["hand"] for row in rows)
    }


def compare(rows: Sequence[Row], first: str, second: str) -> Summary:
    """Return the paired differences ``first - second`` with their intervals."""
    by_pair = {(row["content_image"], row["style_image"], row["hand"]): row for row in rows}
    base = _subsets([row for row in rows if row["hand"] == second])
    found: Summary = {}
    for which, kept in base.items():
        both = [(by_pair[row["content_image"], row["style_image"], first], row) for row in kept]
        styles = [row["style_image"] for row in kept]
        found[which] = {part: estimate([a[part] - b[part] for a, b in both], styles) for part in _DIFFERENCES}
    return found


def to_markdown(rows: Sequence[Row], differences: dict[str, Summary]) -> str:
    """Return the tables that a lab book takes over."""
    hands = summarize_hands(rows)
    lines = ["# Quality", ""]
    for which in ("all", "cut"):
        count = next(iter(hands.values()))[which]["headline"].count
        lines += [f"## {'All' if which == 'all' else 'Identifiable'} pairs: {count}", ""]
        lines += [f"| hand | {' | '.join(PARTS)} |", "|---" * (len(PARTS) + 1) + "|"]
        lines += [
            f"| {hand} | {' | '.join(str(summary[which][part]) for part in PARTS)} |" for hand, summary in hands.items()
        ]
        lines += ["", "Paired differences; the second interval draws whole styles anew; n of m pairs are higher.", ""]
        lines += [f"| difference | {' | '.join(_DIFFERENCES)} |", "|---" * (len(_DIFFERENCES) + 1) + "|"]
        for name, summary in differences.items():
            cells = [
                f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}] [{e.group_low:+.3f}, {e.group_high:+.3f}] "
                f"{e.positive}/{e.count}"
                for e in (summary[which][part] for part in _DIFFERENCES)
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["## Per style (all pairs, means)", "", "| style | n | hand | " + " | ".join(PARTS) + " |"]
    lines.append("|---" * (len(PARTS) + 3) + "|")
    for style, hand in itertools.product(dict.fromkeys(row["style_image"] for row in rows), hands):
        kept = [row for row in rows if row["style_image"] == style and row["hand"] == hand]
        means = [f"{sum(row[part] for row in kept) / len(kept):.3f}" for part in PARTS]
        lines.append(f"| {style} | {len(kept)} | {hand} | {' | '.join(means)} |")
    return "\n".join([*lines, ""])


def _plain(summaries: dict[str, Summary]) -> dict[str, Any]:
    return {
        name: {which: {p: dataclasses.asdict(e) for p, e in parts.items()} for which, parts in summary.items()}
        for name, summary in summaries.items()
    }


def _sheet_rows(place: Workplace, jobs: Sequence[Job], rows: Sequence[Row]) -> list[SheetRow]:
    """Return one row per pair: photo, painting, every hand, with headline and texture below."""
    scores = {(row["content_image"], row["style_image"], row["hand"]): row for row in rows}
    made = []
    for job in jobs:
        art = load_picture(job.reference).rgb
        for pair, photo in job.pairs:
            found = [scores[pair.content, pair.style, hand.name] for hand in place.hands]
            painted = [load_picture(place.painting(hand.name, pair)).rgb for hand in place.hands]
            notes = [
                f"headline {row['headline']:.2f}  content {row['content']:.2f}  texture {row['texture']:.2f}"
                for row in found
                if "headline" in row
            ]
            made.append(
                SheetRow(
                    f"{pair.content} / {pair.style}",
                    (load_picture(photo).rgb, art, *painted),
                    ("", "", *notes) if notes else (),
                )
            )
    return made


def _faces(listed: str, styles: Sequence[str]) -> list[Pair]:
    """Return the portraits, each with one of the styles in turn."""
    path = Path(listed)
    names = path.read_text(encoding="utf-8").split() if path.is_file() else listed.split(",")
    found = [name.strip() for name in names if name.strip()]
    if not found:
        raise InputError("--faces names no photo", hint="give names with commas between, or a file with one per line")
    return [Pair(name, styles[index % len(styles)]) for index, name in enumerate(found)]


def parser() -> Parser:
    """Return the options of ``easel-sim study quality``."""
    made = study_parser(
        "quality",
        description="Paint pairs with the head alone and with backbones, score them, compare pair by pair. Leaves "
        "quality.json, quality.md and contact sheets in --out; what is there already is used again.",
        example="easel-sim study quality --photos photos --art art --pairs pairs.json \\\n"
        "      --backbone old.safetensors new.safetensors --out runs/quality",
    )
    made.add_argument("--photos", required=True, metavar="DIR", help="folder of photos")
    made.add_argument("--art", required=True, metavar="DIR", help="folder of paintings")
    made.add_argument("--pairs", required=True, metavar="FILE", help="what to paint (see `easel-sim study pairs`)")
    made.add_argument("--backbone", nargs="+", action="extend", default=[], metavar="[NAME=]FILE", help="backbones")
    made.add_argument("--out", required=True, metavar="DIR", help="folder of the study")
    made.add_argument(
        "--own", type=float, default=0.0, metavar="SECONDS", help="each backbone also with hands tuned for so long"
    )
    made.add_argument("--broad", action="store_true", help="the head alone and each backbone also with broad strokes")
    made.add_argument("--faces", default="", metavar="LIST", help="portraits (names, or a file) for a sheet of faces")
    made.add_argument("--size", type=int, default=512, metavar="PX", help="short side (default: %(default)s)")
    made.add_argument("--detail", type=float, default=0.5, metavar="0..1", help="(default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="of heads and strokes (default: %(default)s)")
    made.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Paint, score, compare, write."""
    options = Options(size_px=parsed.size, seed=parsed.seed, detail=parsed.detail)
    place = Workplace(Path(parsed.out), tuple(parsed.backbone), False, options, parsed.own, parsed.broad)
    photos, arts, pairs = PictureIndex(parsed.photos), PictureIndex(parsed.art), read_pairs(parsed.pairs)
    jobs = jobs_of(pairs, photos, arts)
    names = [hand.name for hand in place.hands]
    total, done = len(pairs) * len(names), 0

    def tell(row: Row) -> None:
        nonlocal done
        done += 1
        if done % len(names) == 0:
            console.note(f"{done}/{total} {row['content']} / {row['style']}")

    rows = run_jobs(place, jobs, workers=parsed.workers, on_row=tell)
    differences = {f"{b} - {a}": compare(rows, b, a) for a, b in itertools.combinations(names, 2)}
    facts = {
        "pairs": len(pairs),
        "hands": {hand.name: hand.identity for hand in place.hands},
        "options": dataclasses.asdict(options),
        "summary": _plain(summarize_hands(rows)),
        "differences": _plain(differences),
        "rows": rows,
    }
    text = to_markdown(rows, differences)
    write_atomic(place.folder / "quality.json", json.dumps(facts, indent=1).encode())
    write_atomic(place.folder / "quality.md", text.encode())
    columns = ("photo", "style", *names)
    sheets = write_sheets(place.folder, "sheet", _sheet_rows(place, jobs, rows), columns=columns)
    if parsed.faces:
        faces = jobs_of(_faces(parsed.faces, list(dict.fromkeys(p.style for p in pairs))), photos, arts)
        painted = run_jobs(place, faces, scored=False, workers=parsed.workers, on_row=lambda row: None)
        rows_of_faces = _sheet_rows(place, faces, painted)
        sheets += write_sheets(place.folder, "faces", rows_of_faces, columns=columns, tile_px=320)
    for line in text.splitlines():
        console.say(line)
    console.say(f"wrote {place.folder / 'quality.md'}, quality.json and {len(sheets)} sheets")
    console.facts({key: facts[key] for key in ("pairs", "hands", "summary", "differences")})
    return 0
