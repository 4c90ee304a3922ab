"""The command: a page, a JSON document, and an exit code that scripts can rely on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from client.console import Console
from shared_model.errors import InputError, PrivacyError
from simulations.audit import run
from simulations.audit.findings import Finding
from simulations.audit.subjects import BUGS, CONTROL
from simulations.audit.suite import SUBJECTS, AuditConfig, Verdict
from simulations.cli import main


def verdict(subject: str, bug: str, *, caught: bool) -> Verdict:
    checks = tuple(Finding(name, subject, bug, "epsilon", 10.0, 7.0, caught, 5e-8) for name in ("canaries", "one run"))
    return Verdict(subject, bug, checks)


def audits(monkeypatch: pytest.MonkeyPatch, wrong: str = "none") -> None:
    """Replace the measuring by a verdict per variant, all as they should be but for the bug ``wrong``."""

    def fake(config: object, *, bugs: tuple[str, ...], **rest: object) -> list[Verdict]:
        return [verdict(s, bug, caught=bool(bug) != (bug == wrong)) for bug in bugs for s in SUBJECTS]

    monkeypatch.setattr(run, "audit", fake)


def console() -> Console:
    return Console(json=True, out=io.StringIO(), err=io.StringIO())


def test_right_code_gives_a_page_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audits(monkeypatch)
    facts = run.run_audit(AuditConfig.quick(), tmp_path / "a", console=console())
    page = (tmp_path / "a" / "audit.html").read_text()
    assert facts["passed"] and json.loads((tmp_path / "a" / "audit.json").read_text()) == facts
    assert "leaks no more than it claims" in page and all(bug in page for bug in BUGS)
    assert "http" not in page.replace("http-equiv", ""), "the page asks for nothing from outside"
    run.run_audit(AuditConfig.quick(), tmp_path / "a", console=console())  # an older audit is replaced


@pytest.mark.parametrize(("wrong", "said"), [("", "leaks more"), (CONTROL, "blind"), ("half noise", "blind")])
def test_a_leak_or_a_blind_audit_is_a_privacy_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, said: str
) -> None:
    audits(monkeypatch, wrong)
    with pytest.raises(PrivacyError, match=said):
        run.run_audit(AuditConfig.quick(), tmp_path / "a", console=console())
    assert "found something wrong" in (tmp_path / "a" / "audit.html").read_text()


def test_a_planted_bug_makes_the_command_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audits(monkeypatch)
    assert main(["audit", "--quick", "--plant", "half noise", "--out", str(tmp_path / "a")]) == 6
    assert "leaks more than it claims" in capsys.readouterr().err
    assert main(["audit", "--quick", "--plant", "gremlins", "--out", str(tmp_path / "b")]) == 2


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        run.run_audit(AuditConfig.quick(), tmp_path, console=console())
