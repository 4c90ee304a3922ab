"""The command line of `easel` as a whole: help, usage errors, bugs, doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from client import cli
from client.cli import COMMANDS, main
from tests.client.conftest import Easel, is_one_error

ROOT = Path(__file__).resolve().parents[2]


def test_help_in_a_process_of_its_own_loads_neither_torch_nor_rich() -> None:
    code = (
        "import sys\nfrom client.cli import main\ncode = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich', 'flwr'} & set(sys.modules)\nassert not heavy, heavy\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)
    assert "130" in done.stdout and "example" in done.stdout


def test_help_takes_well_under_half_a_second_of_the_processor() -> None:
    """Its own work, whatever else this machine does: the median of five, start of Python included."""
    call = "import os, sys\nfrom client.cli import main\nmain(['--help'])\nprint(sum(os.times()[:2]), file=sys.stderr)"
    spent = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=True)
        spent.append(float(done.stderr.splitlines()[-1]))
    assert sorted(spent)[2] < 0.5, spent


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example_and_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"easel {name}" in out and "example:" in out and "exit codes:" in out


def test_no_command_prints_help(easel: Easel) -> None:
    code, out, _ = easel()
    assert code == 0 and "usage: easel" in out


def test_version(easel: Easel) -> None:
    code, out, _ = easel("--version")
    assert code == 0 and out.startswith("easel ")


@pytest.mark.parametrize("arguments", [["paint"], ["stylize"], ["stylize", "a.png", "--seed", "x"], ["--nonsense"]])
def test_usage_errors_are_two_lines(easel: Easel, arguments: list[str]) -> None:
    code, out, err = easel(*arguments)
    assert code == 2 and not out and is_one_error(err)


def test_stylizing_in_a_process_of_its_own_loads_only_what_it_needs(photos: Path, weights_folder: Path) -> None:
    weights = weights_folder / "backbone.safetensors"
    code = (
        f"import pathlib, sys\nimport client.cli\nimport shared_model.weights\n"
        f"shared_model.weights.default_backbone_path = lambda: pathlib.Path({str(weights)!r})\n"
        f"code = client.cli.main(['stylize', {str(photos / 'a.png')!r}, '--head', 'tiny'])\n"
        "heavy = {'av', 'flwr', 'matplotlib', 'onnx', 'opacus', 'ray', 'rich', 'scipy', 'sympy', 'torch._dynamo'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (photos / "a-tiny.png").exists()


def test_doctor(easel: Easel) -> None:
    code, out, _ = easel("doctor")
    assert code == 0 and "backbone" in out
    code, out, _ = easel("doctor", "--json")
    assert code == 0 and json.loads(out)["verdict"] in ("ok", "warn")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_interrupt_anywhere_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert main([]) == 130
    assert capsys.readouterr().err == "stopped\n"
