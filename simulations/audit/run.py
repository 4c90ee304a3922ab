"""The command ``easel-sim audit``: every audit, the attacks, and a page about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.console import Console
from shared_model.errors import InputError, PrivacyError
from shared_model.weights import default_backbone
from simulations.audit.attacks import AttackConfig, attack
from simulations.audit.page import rows_of, write_audit
from simulations.audit.subjects import BUGS
from simulations.audit.suite import AuditConfig, Verdict, audit

__all__ = ["run_audit"]

Facts = dict[str, Any]


def run_audit(
    config: AuditConfig,
    out: Path | str,
    *,
    console: Console,
    plant: str = "",
    attacks: AttackConfig | None = None,
) -> Facts:
    """Audit, attack, and write ``audit.json`` and ``audit.html`` into ``out``.

    Parameters
    ----------
    config
        How thorough.
    out
        The folder; empty, or with an older audit, which is replaced.
    console
        Where the table goes.
    plant
        Pretend that the code had this bug: audits that work then find it, and this function fails.
    attacks
        How hard the attacks try; None leaves them out.

    Raises
    ------
    PrivacyError
        If the code leaks more than it claims, the control without noise shows no leak, or a
        planted bug is missed. The page is written before.
    InputError
        If the folder holds something else or there is no such bug.
    """
    folder = Path(out)
    if folder.exists() and not (folder / "audit.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty and holds no audit", hint="choose another folder with --out")
    if plant and plant not in BUGS:
        raise InputError(f"no bug is called {plant!r}", hint=f"one of: {', '.join(BUGS)}")
    backbone = default_backbone()
    with console.progress("audit") as follow:
        bugs = (plant,) if plant else ("", *BUGS)
        verdicts = list(audit(config, backbone=backbone, bugs=bugs, follow=follow))
    wrong = _wrong(verdicts, plant)
    facts: Facts = {
        "passed": not wrong,
        "wrong": wrong,
        "false_alarm": config.alarm,
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "attacks": None,
    }
    if attacks is not None:
        with console.progress("attacks") as follow:
            facts["attacks"] = attack(backbone, folder, config=attacks, follow=follow)
    page = write_audit(folder, facts, verdicts)
    header = ("mechanism", "planted", "epsilon", "at least", "outcome")
    console.table(rows_of(verdicts), header=header)
    _tell_attacks(facts["attacks"], console)
    console.say(f"wrote {page}")
    console.facts(facts)
    if wrong:
        raise PrivacyError(wrong[0], hint=f"see {page}")
    return facts


def _wrong(verdicts: list[Verdict], plant: str) -> list[str]:
    """Say what is not as it should be; with a planted bug, that it was found."""
    said = []
    for verdict in verdicts:
        where = f"{verdict.subject}{' with ' + verdict.bug if verdict.bug else ''}"
        if plant or (not verdict.bug and verdict.caught):
            if verdict.caught:
                said.append(f"{where} leaks more than it claims: {', '.join(verdict.caught)}")
        elif not verdict.as_it_should_be:
            said.append(f"{where} was not caught: the audit is blind")
    return said


def _tell_attacks(attacks: Facts | None, console: Console) -> None:
    if attacks is None:
        return
    console.table(
        [
            (
                row["sight"],
                f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]",
                f"{100 * row['tpr']:.1f} % [{100 * row['tpr_low']:.1f}, {100 * row['tpr_high']:.1f}]",
            )
            for row in attacks["membership"]
        ],
        header=("membership, seen", "AUC", "found at 1 % false positives"),
    )
    console.table(
        [
            (row["sight"], str(row["victim"]), f"{row['match']:.3f}", f"{row['likeness']:.2f}", f"{row['chance']:.2f}")
            for row in attacks["inversion"]
        ],
        header=("inversion, seen", "record", "match", "likeness", "chance"),
    )
