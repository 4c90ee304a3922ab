"""The study ``speed``: what precision, compiling and the height of the bands cost or save, on this machine, in one run.

With ``--rates DEVICE`` it counts pictures a second instead, by the clock, on a processor or a GPU.

CPU seconds of one thread, the smallest of a few alternating runs; only ratios of one run say something on a shared
machine. The difference of two ways to paint is given in levels of 255. Memory is the peak of a fresh process that
reads, paints and writes a file, as the command line does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from client.batch import Painter
from client.console import Console
from client.engine import Engine, plan
from client.parser import Parser
from client.placement import DEVICES
from client.recipe import Recipe
from client.store import Home
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import load_picture, resize_short, save_picture, to_tensor, to_uint8
from shared_model.stylize import Options, stylize
from shared_model.weights import default_backbone
from simulations.benchmark import peak_mib
from simulations.pictures import default_photos
from simulations.studies import study_parser

__all__ = ["FRAMES", "bands", "compiled", "memory", "parser", "precisions", "rates", "run"]

LARGE = (4320, 7680)  # 8K
FRAMES = {"512": (512, 512), "1080p": (1080, 1920), "4K": (2160, 3840)}


def parser() -> Parser:
    """Return the options of the study."""
    made = study_parser(
        "speed",
        description="Time precisions, bands and compiling against each other; weigh an 8K photo.",
        example="easel-sim study speed --compile --memory",
    )
    made.add_argument("--sizes", type=int, nargs="+", default=[512, 2048], metavar="PX", help="sides of the photo")
    made.add_argument("--rows", type=int, nargs="+", default=[8, 128, 2048], metavar="N", help="heights of the bands")
    made.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each, the fastest counts")
    made.add_argument("--head", default="oil", metavar="NAME", help="a head")
    made.add_argument("--compile", action="store_true", help="torch.compile too (minutes, needs a C++ compiler)")
    made.add_argument("--memory", action="store_true", help="the peak memory of an 8K photo too")
    made.add_argument("--rates", choices=DEVICES, metavar="DEVICE", help="pictures a second there instead of all else")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Measure, print a table; returns the exit code."""
    if not (64 <= min(parsed.sizes) and max(parsed.sizes) <= 8192 and 1 <= parsed.runs <= 100 and min(parsed.rows) > 0):
        raise InputError("--sizes must be 64 to 8192, --runs 1 to 100, --rows at least 1")
    head = Home.default().load_head(parsed.head)
    if parsed.rates:
        counted = rates(head, device=parsed.rates, runs=parsed.runs)
        console.table([[name, *map(str, row.values())] for name, row in counted.items()], header=_RATES)
        console.facts(counted)
        return 0
    torch.set_num_threads(1)
    photo = to_tensor(default_photos()["astronaut"])
    facts: dict[str, object] = {"auto": str(plan().dtype).removeprefix("torch.")}
    for size in parsed.sizes:
        facts[f"precision, {size} px"] = precisions(head, resize_short(photo, size), runs=parsed.runs)
    largest = resize_short(photo, max(parsed.sizes))
    facts[f"rows, {max(parsed.sizes)} px"] = bands(head, largest, parsed.rows, runs=parsed.runs)
    if parsed.compile:
        facts["compile, backbone alone, 512 px"] = compiled(head, runs=parsed.runs)
    if parsed.memory:
        facts["peak MiB"] = {"8K": memory(parsed.head)}
    for what, found in facts.items():
        console.note(f"{what}: {found}")
    console.facts(facts)
    return 0


def precisions(head: Head, photo: Tensor, *, runs: int) -> dict[str, dict[str, float]]:
    """Time the engine in every precision: CPU seconds, over fp32's, and the largest difference in levels of 255."""
    engines = {name: Engine(default_backbone(), device="cpu", precision=name) for name in ("fp32", "bf16", "fp16")}
    made = {name: engine.stylize(photo, head) for name, engine in engines.items()}
    spent = _fastest({n: lambda e=e: e.stylize(photo, head) for n, e in engines.items()}, runs)  # type: ignore[misc]
    return {
        name: {
            "seconds": round(spent[name], 3),
            "ratio": round(spent[name] / spent["fp32"], 3),
            "levels": round(float((made[name] - made["fp32"]).abs().max()) * 255, 3),
        }
        for name in engines
    }


def rates(
    head: Head, *, device: str, runs: int, frames: Mapping[str, tuple[int, int]] = FRAMES, side: int = 4096
) -> dict[str, dict[str, float]]:
    """Count the pictures that one warm engine paints in a second, by the clock, on ``device``.

    Photos lie on the device before, paintings on the processor's side after. The roofline is measured in the same
    run: no picture can take less than its convolutions and matrix products at the rate of one large matrix product of
    ``side`` numbers in the engine's precision, nor less than reading the photo and writing the painting at the rate
    of a large copy.

    Returns
    -------
    dict
        For each size: pictures a ``second``, the least milliseconds by the ``roofline``, and the ``share`` of that
        in the time taken, in percent.
    """
    engine = Engine(default_backbone(), device=device)
    place, sized = engine.plan.device, to_tensor(default_photos()["coffee"])
    a = torch.randn(side, side, device=place, dtype=engine.plan.dtype)
    b = torch.empty_like(a)
    product = 2 * side**3 / _by_the_clock(lambda: torch.mm(a, a, out=b), runs, place)
    copy = 2 * a.nbytes / _by_the_clock(lambda: b.copy_(a), runs, place)
    found = {}
    for name, size in frames.items():
        photo = torch.nn.functional.interpolate(sized, size=size, mode="bicubic").clamp(0, 1).to(place)
        with FlopCounterMode(display=False) as counter:
            engine.stylize(photo, head)
        took = _by_the_clock(lambda photo=photo: engine.stylize(photo, head), runs, place)  # type: ignore[misc]
        least = max(counter.get_total_flops() / product, 2 * photo.nbytes / copy)
        found[name] = {
            "second": round(1 / took, 3),
            "roofline": round(1000 * least, 4),
            "share": round(100 * least / took, 3),
        }
    return found


def bands(head: Head, photo: Tensor, rows: Sequence[int], *, runs: int) -> dict[str, dict[str, float]]:
    """Time heights of the bands of a large photo, and how far each is from the photo finished at once."""
    backbone = default_backbone()

    def paint(count: int) -> Tensor:
        return stylize(photo, head=head, backbone=backbone, rows=count)

    whole = paint(photo.shape[2])
    off = {str(count): float((paint(count) - whole).abs().max()) for count in rows}
    spent = _fastest({str(count): lambda c=count: paint(c) for count in rows}, runs)  # type: ignore[misc]
    first = next(iter(spent.values()))
    return {name: {"seconds": round(s, 3), "ratio": round(s / first, 3), "off": off[name]} for name, s in spent.items()}


def compiled(head: Head, *, runs: int) -> dict[str, dict[str, float]]:
    """Time the backbone alone, eager and compiled, and the first compiled call by the clock."""
    generator = torch.Generator().manual_seed(0)
    drafts = torch.rand(1, 3, 512, 512, generator=generator)
    noise = torch.randn(1, 1, 512, 512, generator=generator)
    found = {}
    for precision in ("fp32", "bf16"):
        hand = Engine(default_backbone(), device="cpu", precision=precision).hand
        fast = torch.compile(hand.paint)
        with torch.inference_mode():
            began = time.perf_counter()
            fast(drafts, drafts, head.modulation[None], noise)
            first = time.perf_counter() - began
            ways: dict[str, Callable[[], object]] = {
                "eager": lambda h=hand: h.paint(drafts, drafts, head.modulation[None], noise),  # type: ignore[misc]
                "compiled": lambda f=fast: f(drafts, drafts, head.modulation[None], noise),  # type: ignore[misc]
            }
            spent = _fastest(ways, runs)
        found[precision] = {name: round(s, 3) for name, s in spent.items()} | {"first call": round(first, 1)}
    return found


def memory(head: str, *, size: tuple[int, int] = LARGE) -> int:
    """Return the peak memory, in MiB, of a process that reads, paints and writes a photo of ``size``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photo.jpg")
        short = resize_short(to_tensor(default_photos()["coffee"]), 720)
        save_picture(path, _enlarged(to_uint8(short), size))
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            return pool.apply(_peak, (str(path), head))


def _enlarged(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    rows, columns = (
        np.linspace(0, old - 1, new).round().astype(int) for old, new in zip(rgb.shape, size, strict=False)
    )
    enlarged: NDArray[np.uint8] = rgb[rows[:, None], columns[None]]
    return enlarged


def _peak(path: str, name: str) -> int:
    torch.set_num_threads(1)
    head = Home.default().load_head(name)
    recipe = Recipe.of(head, name=name, options=Options())
    painter = Painter(engine=Engine(default_backbone(), device="cpu"), head=head, recipe=recipe)
    Path(path).with_suffix(".png").write_bytes(painter.encode(painter.paint(load_picture(path)), suffix=".png"))
    return round(peak_mib())


def _by_the_clock(way: Callable[[], object], runs: int, place: torch.device) -> float:
    """Seconds of the fastest of a few runs, after one to warm up, until the device is done."""
    best = float("inf")
    for run in range(runs + 1):
        began = time.perf_counter()
        way()
        if place.type != "cpu":
            getattr(torch, place.type).synchronize()
        best = min(best, time.perf_counter() - began) if run else best
    return best


def _fastest(ways: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Run all in turns; CPU seconds of each one's fastest run."""
    best = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way()  # warm-up
    for _ in range(runs):
        for name, way in ways.items():
            began = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - began)
    return best


_RATES = ("FRAME", "PICTURES/S", "ROOFLINE MS", "SHARE %")
