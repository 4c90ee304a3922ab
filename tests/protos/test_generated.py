"""The generated code in protos/ is that of its .proto files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "protos").glob("*.proto"))
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_generated_code_is_fresh(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="only developers have the compiler")
    outputs = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, str(source.relative_to(ROOT))]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    for suffix in SUFFIXES:
        name = f"{source.stem}{suffix}"
        fresh = (tmp_path / "protos" / name).read_text(encoding="utf-8")
        assert (ROOT / "protos" / name).read_text(encoding="utf-8") == fresh, f"{name} is stale: run `make proto`"


def test_every_service_and_method_is_answered() -> None:
    from client.daemon import catalog, choices, painter
    from protos import studio_pb2

    answered = {"Painter": painter.PainterService, "Heads": catalog.HeadsService}
    answered |= {"Privacy": catalog.PrivacyService, "About": catalog.AboutService}
    answered |= {"Preferences": choices.PreferencesService}
    services = studio_pb2.DESCRIPTOR.services_by_name
    assert set(services) == set(answered)
    for name, service in services.items():
        assert {method.name for method in service.methods} <= set(vars(answered[name]))
