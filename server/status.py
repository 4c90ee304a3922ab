"""What ``easel-server status`` and ``easel-server doctor`` say."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from server.config import FederationConfig
from server.ledger import ServerLedger
from server.outputs import BACKBONE, privacy_facts
from server.places import resolve_backbone
from server.reasons import explain
from server.report import shown
from server.state import RoundState, StateStore
from server.superlink import program
from shared_model.config import parse
from shared_model.errors import EaselError, MissingError
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon
from shared_model.weights import load_backbone

__all__ = ["examine", "facts", "show"]

_PROGRAMS = ("flwr", "flower-superlink", "flower-superexec", "flwr-serverapp")
_PACKAGES = ("flwr", "opacus", "torch", "safetensors")


def facts(run_dir: Path) -> dict[str, Any]:
    """Return how a run stands, JSON-ready.

    Raises
    ------
    MissingError
        If the folder holds no run.
    """
    state = StateStore(run_dir).load()
    if state is None:
        raise MissingError(f"there is no run in {run_dir}", hint="start one with easel-server run")
    config = parse(state.config, FederationConfig, source=str(run_dir))
    reasons: dict[str, int] = {}
    for report in state.reports:
        for reason, count in report.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    backbone = run_dir / BACKBONE
    return {
        "run": state.run,
        "rounds_done": state.round,
        "rounds_planned": config.rounds,
        "under_way": state.reserved > state.round,
        "finished": state.round >= config.rounds,
        "accepted": sum(report.accepted for report in state.reports),
        "asked": sum(report.asked for report in state.reports),
        "cohort": {"population": config.population, "planned": config.planned, "needed": config.needed},
        "dropped": dict(sorted(reasons.items())),
        "dropped_in_words": {reason: explain(reason) for reason in sorted(reasons)},
        "skipped_rounds": [report.round for report in state.reports if not report.released],
        "bytes_down": sum(report.bytes_down for report in state.reports),
        "bytes_up": sum(report.bytes_up for report in state.reports),
        "privacy": privacy_facts(state, config),
        "ledger": _ledger(run_dir, state, config),
        "backbone": str(backbone) if backbone.exists() else None,
        "rounds": [report.to_dict() for report in state.reports],
    }


def show(run_dir: Path, *, as_json: bool) -> str:
    """Return the status as text or as JSON."""
    found = facts(run_dir)
    if as_json:
        return json.dumps(found, indent=2)
    planned, privacy = found["rounds_planned"], found["privacy"]
    state = StateStore(run_dir).load()
    lines = [f"run {found['run']}: {found['rounds_done']} of {planned} rounds"]
    lines += [f"  {report.line(rounds=planned)}" for report in (state.reports if state else ())]
    if found["under_way"]:
        lines.append(f"  round {found['rounds_done'] + 1} is under way; its privacy is charged")
    cohort = found["cohort"]
    lines.append(
        f"cohort: {cohort['planned']} of {cohort['population']} devices planned a round, {cohort['needed']} needed; "
        f"{found['accepted']} of {found['asked']} replies used so far"
    )
    lines += [f"  not used: {count} {reason}. {explain(reason)}".rstrip() for reason, count in found["dropped"].items()]
    lines.append(f"traffic: {found['bytes_down'] / 1e6:.3g} MB down, {found['bytes_up'] / 1e6:.3g} MB up")
    lines.append(f"privacy: {privacy['says']}")
    if privacy["simulated"]:
        lines.append(f"  nominal epsilon {shown(privacy['epsilon'])}, this run's own {shown(privacy['run_epsilon'])}")
    lines.append(_ledger_line(found["ledger"]))
    if found["backbone"]:
        lines.append(f"backbone: {found['backbone']}")
    return "\n".join(lines)


def examine(*, as_json: bool) -> tuple[str, bool]:
    """Check the installation; return what to print and whether all is well."""
    checks: list[tuple[str, bool, str]] = [("python", sys.version_info >= (3, 11), sys.version.split()[0])]
    for name in _PACKAGES:
        try:
            checks.append((name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            checks.append((name, False, "not installed: pip install 'easel[server]'"))
    checks += [(name, *_attempt(partial(program, name))) for name in _PROGRAMS]
    checks.append(("starting backbone", *_attempt(_starting_backbone)))
    checks.append(("privacy accountant", *_attempt(_accountant)))
    healthy = all(good for _, good, _ in checks)
    if as_json:
        listed = [{"check": name, "ok": good, "detail": detail} for name, good, detail in checks]
        return json.dumps({"ok": healthy, "checks": listed}, indent=2), healthy
    return "\n".join(f"{'ok ' if good else 'BAD'} {name}: {detail}" for name, good, detail in checks), healthy


def _ledger(run_dir: Path, state: RoundState, config: FederationConfig) -> dict[str, Any]:
    """Say what the folder's ledger has charged: this run, and all runs in the folder together."""
    account = ServerLedger(run_dir).load()
    history = [item for item in account.history() if item[0].unit == config.unit]
    total = epsilon(history, delta=config.effective_delta)
    return {
        "rounds_charged": account.rounds(state.run),
        "rounds_before_an_older_state_was_put_back": state.extra,
        "attempts": state.attempt,
        "runs": list(dict.fromkeys(charge.run for charge in account.charges)),
        "epsilon_all_runs": total if math.isfinite(total) else None,
        "charges": [dataclasses.asdict(charge) for charge in account.charges],
    }


def _ledger_line(ledger: dict[str, Any]) -> str:
    runs, charged = len(ledger["runs"]), ledger["rounds_charged"]
    text = f"ledger: {charged} round{'s' if charged != 1 else ''} of this run charged in {ledger['attempts']} attempts"
    if ledger["rounds_before_an_older_state_was_put_back"]:
        text += f", {ledger['rounds_before_an_older_state_was_put_back']} of them before an older state was put back"
    if runs > 1:
        text += f"; all {runs} runs in this folder: epsilon {shown(ledger['epsilon_all_runs'])}"
    return text


def _attempt(check: Callable[[], object]) -> tuple[bool, str]:
    try:
        return True, str(check())
    except EaselError as error:
        return False, f"{error.message} ({error.hint})" if error.hint else error.message


def _starting_backbone() -> str:
    path = resolve_backbone("")
    backbone = load_backbone(path)
    return f"{path}, {sum(p.numel() for p in backbone.parameters())} parameters"


def _accountant() -> str:
    value = epsilon([(Mechanism(1.0, 0.01, "user"), 100)], delta=1e-5)
    return f"100 rounds at noise 1.0 and rate 0.01 cost epsilon {value:.3f}"
