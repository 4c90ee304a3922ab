"""Every study of the registry exists, explains itself and is refused what it does not know."""

from __future__ import annotations

import importlib

import pytest

from simulations.cli import main
from simulations.studies import STUDIES


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_a_study_has_a_parser_and_a_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(STUDIES[name][0])
    assert callable(module.run)
    assert main(["study", name, "--help"]) == 0
    assert f"easel-sim study {name}" in capsys.readouterr().out
    assert main(["study", name, "--nonsense"]) == 2


def test_unknown_studies_are_refused_and_the_known_ones_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "alchemy"]) == 2
    assert "alchemy" in capsys.readouterr().err
    assert main(["study", "--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in STUDIES)
