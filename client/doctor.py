"""Looks over an installation and says, line by line, what is fine and how to fix what is not."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared_model.errors import EaselError, MissingError

__all__ = ["Check", "examine", "worst"]

PACKAGES = ("client", "protos", "server", "shared_model", "simulations")
# What is optional, which extra brings it, and what it is for.
OPTIONAL = (
    ("flwr", "client", "training together with other devices"),
    ("opacus", "client", "training under example-level differential privacy"),
    ("grpc_reflection", "daemon", "easel serve, painting for other programs"),
    ("skimage", "sim", "the demo's default photos"),
    ("ray", "sim", "simulating many devices in parallel"),
    ("starlette", "studio", "the studio in your browser"),
    ("tensorboard", "train", "curves and sample grids of easel train"),
    ("onnx", "export", "easel export, heads for other programs and the browser"),
    ("onnxscript", "export", "easel export"),
    ("onnxruntime", "export", "checking what easel export has written"),
    ("av", "video", "painting videos"),
    ("pi_heif", "heic", "reading HEIC, the photos of iPhones"),
    ("cryptography", "passphrase", "heads sealed with a passphrase"),
)
_STATES = ("ok", "warn", "fail")
_ELSEWHERE = "set EASEL_HOME to a folder that you may write to"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes
    ----------
    topic
        What was looked at.
    state
        ``ok``, ``warn`` (works, but could be better) or ``fail`` (something will not work).
    message
        What was found.
    hint
        What to do about it; empty if nothing.
    """

    topic: str
    state: str
    message: str
    hint: str = ""

    def __post_init__(self) -> None:
        if self.state not in _STATES:
            raise ValueError(f"state must be one of {_STATES}, not {self.state!r}")


def worst(checks: Sequence[Check]) -> str:
    """Return the worst state among ``checks``; ``ok`` if there are none."""
    return max((check.state for check in checks), key=_STATES.index, default="ok")


def examine(*, environ: Mapping[str, str] | None = None) -> list[Check]:
    """Run every check; one that breaks, for want of torch for example, is a finding too.

    Parameters
    ----------
    environ
        Environment variables; default: this process's.
    """
    from client.machine import check_disk, check_memory, look_at_gpu
    from client.paths import home_folder

    home = home_folder(environ=environ)
    steps: tuple[tuple[str, Callable[[], list[Check]]], ...] = (
        ("python", _python),
        ("packages", check_shadows),
        ("torch", _torch),
        ("gpu", look_at_gpu),
        ("memory", check_memory),
        ("disk", lambda: check_disk(home)),
        ("backbone", _backbone),
        ("home", lambda: check_home(home)),
        ("heads", lambda: _heads(environ)),
        ("ledger", lambda: check_ledger(home / "device")),
        ("extras", lambda: check_extras(_is_installed)),
    )
    checks: list[Check] = []
    for topic, step in steps:
        try:
            checks += step()
        except EaselError as error:
            checks.append(Check(topic, "fail", error.message, error.hint))
        except OSError as error:
            checks.append(Check(topic, "fail", f"cannot look at {error.filename}: {error.strerror}", _ELSEWHERE))
        except ImportError as error:
            checks.append(
                Check(topic, "fail", f"cannot import {error.name}: {error}", "pip install --force-reinstall easel")
            )
    return checks


def _python() -> list[Check]:
    where = f"{platform.system()} {platform.machine()}, {sys.executable}"
    return [Check("python", "ok", f"Python {platform.python_version()} on {where}")]


def check_shadows() -> list[Check]:
    """Tell whether another project's ``client`` or ``server`` would be imported instead of ours."""
    root = Path(__file__).resolve().parent.parent
    foreign = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin is not None and origin.parent.parent != root:
            foreign.append(f"{name} ({origin})")
    if foreign:
        return [
            Check(
                "packages",
                "fail",
                f"another package hides ours: {', '.join(foreign)}",
                "run easel from another folder, or install it in an environment of its own",
            )
        ]
    return [Check("packages", "ok", f"easel's packages come from {root}")]


def _torch() -> list[Check]:
    import torch

    from client.engine import available_devices

    devices = available_devices()
    count = torch.get_num_threads()
    threads = f"{count} thread" if count == 1 else f"{count} threads"
    checks = [Check("torch", "ok", f"torch {torch.__version__}, {threads}, devices: {', '.join(devices)}")]
    if devices == ("cpu",):
        checks.append(Check("torch", "ok", "no GPU found: easel paints on the CPU, about a second a picture"))
    return checks


def _backbone() -> list[Check]:
    from client.models import Models, backbone_in_use, models_folder
    from shared_model.weights import backbone_id, default_backbone_path

    backbone = backbone_in_use()
    count = sum(parameter.numel() for parameter in backbone.parameters())
    release = Models(models_folder()).in_use()
    where = default_backbone_path() if release is None else f"release {release.version}, {release.weights}"
    return [Check("backbone", "ok", f"{backbone_id(backbone)}, {count / 1e6:.2f} M parameters, {where}")]


def check_home(home: Path) -> list[Check]:
    """Look at the home folder: there, writable, closed to others."""
    there = next(path for path in (home, *home.parents) if os.path.exists(path))
    rights = os.W_OK | os.X_OK | (os.R_OK if there == home else 0)
    if not there.is_dir() or not os.access(there, rights):
        return [Check("home", "fail", f"{there} is not a folder that you may read and write", _ELSEWHERE)]
    if there != home:
        return [Check("home", "ok", f"{home} (made when the first head is)")]
    open_to_others = [
        path
        for path in (home, home / "heads", home / "device", *sorted((home / "heads").glob("*.head")))
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if open_to_others:
        first = open_to_others[0]
        hint = f"chmod -R go-rwx '{home}'"
        return [Check("home", "warn", f"{first} can be reached by other users of this computer", hint)]
    return [Check("home", "ok", f"{home}, closed to other users")]


def _heads(environ: Mapping[str, str] | None) -> list[Check]:
    from client.models import backbone_in_use
    from client.store import Home
    from shared_model.weights import backbone_id

    ours = backbone_id(backbone_in_use())
    checks = []
    good = []
    for file in Home.default(environ=environ).heads():
        try:
            head = file.load()
        except EaselError as error:
            checks.append(Check("heads", "fail", error.message, error.hint))
            continue
        if head.backbone != ours:
            hint = "install easel again" if file.shipped else f"easel personalize {file.name} ... --overwrite"
            checks.append(Check("heads", "warn", f"head {file.name!r} was made for another backbone", hint))
        else:
            good.append(file.name)
    summary = f"{len(good)} ready: {', '.join(good)}" if good else "none yet"
    hint = "" if good else "easel personalize NAME PICTURE ..."
    return [Check("heads", "ok", summary, hint), *checks]


def check_extras(installed: Callable[[str], bool]) -> list[Check]:
    """Say which optional packages are missing, what for, and how to get them."""
    checks = []
    for package, extra, purpose in OPTIONAL:
        if installed(package):
            checks.append(Check("extras", "ok", f"{package} is installed: {purpose}"))
        else:
            hint = f"only if you want it: pip install 'easel[{extra}]'"
            checks.append(Check("extras", "ok", f"{package} is not installed: no {purpose}", hint))
    return checks


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def check_ledger(folder: Path) -> list[Check]:
    """Look at the privacy ledger of a device folder: whole, and within its limit."""
    path = folder / "ledger.json"
    from client.ledger import Ledger
    from client.paths import witness_folder

    try:
        book = Ledger.open(path, witness=witness_folder()).book()
    except MissingError:
        return [Check("ledger", "ok", "none: this device has never taken part in training together")]
    if book.incomplete:
        return [Check("ledger", "warn", f"an old copy: all of the budget counts as spent, {path}")]
    return [Check("ledger", "ok", f"{len(book.entries)} entries, limit epsilon {book.max_epsilon:g}, {path}")]
