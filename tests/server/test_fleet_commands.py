"""``easel-server init | device | status | stop`` from the command line, and metrics."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.cli import main
from server.deployment import Fleet
from server.presence import running, stop_fleet
from shared_model.invitation import Invitation

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["init", str(tmp_path / "fleet"), "--host", "fleet.example.org"]) == 0
    assert "easel-server device add" in capsys.readouterr().out
    return tmp_path / "fleet"


def test_init_says_it_once(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(fleet)]) == 2
    assert "already: nothing was changed" in capsys.readouterr().err
    assert main(["init", str(fleet), "--renew-certificate", "--json"]) == 0
    assert "fleet.example.org" in json.loads(capsys.readouterr().out)["hosts"]
    before = (fleet / "signing.key").read_bytes()
    assert main(["init", str(fleet), "--rotate-signing-key"]) == 0
    assert (fleet / "signing.key").read_bytes() != before
    assert main(["init", str(fleet / "nothing"), "--rotate-signing-key"]) == 3
    with pytest.raises(SystemExit):
        main(["init", str(fleet), "--rotate-signing-key", "--renew-certificate"])


def test_devices_from_the_command_line(
    fleet: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["device", "list", "--folder", str(fleet)]) == 0
    assert "no devices yet" in capsys.readouterr().out
    assert main(["device", "add", "anna", "--folder", str(fleet), "--json"]) == 0
    added = json.loads(capsys.readouterr().out)
    assert Invitation.parse(added["code"]).authority == Fleet.open(fleet).authority_print()
    assert added["server"] == "fleet.example.org:39300"
    monkeypatch.setenv("EASEL_FLEET", str(fleet))
    assert main(["device", "add", "ben", "--hours", "1"]) == 0
    assert "easel join --server fleet.example.org:39300 --code " in capsys.readouterr().out
    assert main(["device", "revoke", "ben"]) == 0
    capsys.readouterr()
    assert main(["device", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["devices"]
    assert [(item["name"], item["state"]) for item in listed] == [("anna", "invited"), ("ben", "revoked")]
    assert "code" not in listed[0]
    assert main(["device", "revoke", "carl"]) == 3
    monkeypatch.setenv("EASEL_FLEET", str(fleet.parent))
    assert main(["device", "list"]) == 3


@pytest.mark.parametrize(
    ("host", "shown"), [("203.0.113.7", "203.0.113.7:39300"), ("2001:db8::1", "[2001:db8::1]:39300")]
)
def test_a_server_that_has_only_an_address(
    host: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "fleet"), "--host", host, "--json"]) == 0
    capsys.readouterr()
    assert main(["device", "add", "anna", "--folder", str(tmp_path / "fleet")]) == 0
    assert f"--server {shown} " in capsys.readouterr().out


def test_status_before_any_round(fleet: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["device", "add", "anna", "--folder", str(fleet)]) == 0
    capsys.readouterr()
    assert main(["status", str(fleet)]) == 0
    text = capsys.readouterr().out
    assert "not running" in text and "0 enrolled, 0 online, 1 invited" in text and "no round was started" in text
    assert main(["status", str(fleet), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["run"] is None and facts["fleet"]["certificate_days_left"] >= 395
    assert main(["status", str(fleet), "--metrics", "--out", str(tmp_path / "easel.prom")]) == 0
    metrics = (tmp_path / "easel.prom").read_text()
    assert 'easel_devices{state="invited"} 1\n' in metrics and "easel_up 0\n" in metrics
    assert "easel_rounds_done" not in metrics
    assert main(["status"]) == 2
    assert main(["status", str(fleet), "--run-dir", str(fleet)]) == 2


def test_resume_insists_on_something_to_resume(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(fleet)]) == 3
    assert "there is no run" in capsys.readouterr().err
    assert main(["run"]) == 2
    assert main(["run", str(fleet / "nothing")]) == 3


def test_stop_ends_the_process_that_holds_the_fleet(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", str(fleet)]) == 0
    assert "not running" in capsys.readouterr().out
    script = (
        "import sys, time; from pathlib import Path\n"
        "from server.deployment import Fleet; from server import presence\n"
        "with presence.only_one(Fleet.open(Path(sys.argv[1]))):\n    print('on', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(fleet)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"on\n"
        assert running(Fleet.open(fleet)) == process.pid
        assert main(["run", str(fleet)]) == 7
        assert f"another process runs this fleet: {process.pid}" in capsys.readouterr().err
        assert stop_fleet(Fleet.open(fleet), patience_s=60.0)
        assert process.wait(60) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert running(Fleet.open(fleet)) is None, "a lock file that is left over means nothing"


def test_help_is_quick_and_loads_neither_torch_nor_flower() -> None:
    code = (
        "import sys, server.cli\ntry:\n    server.cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'flwr', 'cryptography', 'uvicorn'} & set(sys.modules)))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert time.monotonic() - start < 30
