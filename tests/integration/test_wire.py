"""The bytes that real SuperNodes send to a real SuperLink, recorded on their way and searched for private things."""

import contextlib
import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_object_type_from_object_content

from client.data import load_device, load_records
from client.ledger import Ledger
from client.private_training import LocalSettings, train_user_level
from client.trainer import round_seed
from server.bundle import run_config, write_bundle
from server.config import FederationConfig
from server.rounds import plan
from server.state import RoundState, StateStore
from server.superlink import SuperLink, environment, program, stop, superlink
from shared_model import objective
from shared_model.split import flatten
from shared_model.weights import load_backbone
from simulations.leaks import Scanner, device_secrets
from simulations.wiretap import Wiretap, requests, wiretap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LIMIT_S = 1200.0
USER = "marguerite"
PLANTED = """
    from pathlib import Path as _P
    import zlib as _z
    _photo = sorted((folder / "photos").iterdir())[0]
    content.config_records[REPLY]["note"] = f"from {_photo.name}"
    content.config_records[REPLY]["packed"] = _z.compress(b"...." + _photo.read_bytes()[200:400])
    return content
"""


@dataclass(frozen=True)
class Recorded:
    """What was recorded of one run."""

    data: bytes
    objects: list[Any]
    paths: set[str]
    state: RoundState
    log: str


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@contextlib.contextmanager
def supernodes(tmp_path: Path, folders: list[Path], port: int) -> Iterator[None]:
    """Start one SuperNode per device folder, under another user's name, talking to ``port``."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index, folder in enumerate(folders):
            home = tmp_path / f"node{index}"
            (home / "empty").mkdir(parents=True)
            with (home / "log").open("wb") as log:
                command = [
                    *(program("flower-supernode"), "--insecure", "--superlink", f"127.0.0.1:{port}"),
                    *("--host", "127.0.0.1", "--port", str(free_port())),
                    *("--node-config", f'device-dir="{folder}"'),
                ]
                named = {"USER": USER, "LOGNAME": USER, "USERNAME": USER}
                processes.append(
                    subprocess.Popen(
                        command,
                        cwd=home / "empty",
                        env={**environment(home), **named},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        yield
    finally:
        for process in processes:
            stop(process)


def free_port() -> int:
    import socket

    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def finish(link: SuperLink, run: str) -> None:
    end = time.monotonic() + LIMIT_S
    status = ""
    while time.monotonic() < end and not status.startswith("finished"):
        time.sleep(2)
        status = link.status(run)
    assert status == "finished:completed", link.run_log(run)[-3000:]


def objects_of(tap: Wiretap) -> tuple[list[Any], set[str]]:
    """Return every record that was pushed, inflated, and the paths of all requests."""
    found: list[Any] = []
    paths: set[str] = set()
    for stream in tap.sent:
        for request in requests(bytes(stream)):
            paths.add(request.path)
            if "push" in request.path and "object" in request.path:
                content = PushObjectRequest.FromString(request.body).object_content
                kind = get_object_type_from_object_content(content)
                found += [cls.inflate(content) for cls in (ConfigRecord,) if cls.__name__ == kind]
                found += [content] if kind not in ("ConfigRecord",) else []
    return found, paths


def record(
    link: SuperLink, tap: Wiretap, config: FederationConfig, *, run_dir: Path, weights: Path, app: Path | None = None
) -> Recorded:
    """Run one federation and return what passed the tap meanwhile."""
    marks = [len(stream) for stream in tap.sent]
    run = link.submit(run_config(config, run_dir=run_dir, backbone=str(weights)), app=app)
    finish(link, run)
    fresh = Wiretap(tap.port, [stream[mark:] for stream, mark in zip(tap.sent, marks, strict=False)])
    fresh.sent += tap.sent[len(marks) :]
    state = StateStore(run_dir).load()
    assert state is not None
    objects, paths = objects_of(fresh) if not marks else objects_of(Wiretap(tap.port, tap.sent))
    return Recorded(tap.bytes_sent(), objects, paths, state, link.run_log(run))


def losses_of(folder: Path, config: FederationConfig, state: RoundState, weights: Path) -> dict[str, float]:
    """Train again as the device did (everything but noise repeats) and return every loss that it saw."""
    start = load_backbone(weights)
    begun = RoundState(**{**vars(state), "round": 0, "reserved": 1, "backbone": flatten(start)})
    request = plan(begun, [1, 2, 3], config=config).request
    settings = LocalSettings(
        steps=request.local_steps, batch=request.batch, lr=request.learning_rate, critic_lr=request.learning_rate
    )
    found: dict[str, float] = {}
    original = objective.generator_loss

    def spy(*args: Any, **named: Any) -> Any:
        losses, output = original(*args, **named)
        for value in (*losses.detach().tolist(), float(losses.detach().mean())):
            found[f"loss {len(found)} of {folder.name}"] = value
        return losses, output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "generator_loss", spy)
        seed = round_seed(request, load_device(folder).seed)
        train_user_level(start, load_records(folder), settings=settings, seed=seed)
    return found


@pytest.mark.parametrize("secure", [False, True])
def test_nothing_private_crosses_the_wire(
    secure: bool,
    tmp_path: Path,
    config: FederationConfig,
    private_devices: Callable[[int], list[Path]],
    weights: Path,
) -> None:
    """SuperLink, three SuperNodes with a recording relay between; a planted run shows that the search works."""
    folders = private_devices(3)
    for folder in folders:
        (folder / "policy.toml").write_text("simulation = true\nmin_noise_multiplier = 0.0\n")
    one = FederationConfig(
        **{**vars(config), "rounds": 1, "local_steps": 2, "secure_aggregation": secure, "deadline_s": 300.0}
    )
    port = free_port()
    with superlink(tmp_path / "link", port=port) as link, wiretap(port) as tap:
        with supernodes(tmp_path, folders, tap.port):
            clean = record(link, tap, one, run_dir=tmp_path / "run", weights=weights)
            assert clean.state.reports[0].accepted == 3, clean.log[-3000:]
            texts = {"user": USER, "real user's home": os.path.expanduser("~"), "node's folder": str(tmp_path)}
            found = [
                device_secrets(folder, texts=texts, numbers=losses_of(folder, one, clean.state, weights))
                for folder in folders
            ]
            assert all(len(device.numbers) >= 4 for device in found)
            seeker = Scanner(*found)
            assert seeker.scan(clean.data) == []
            check_records(clean, secure=secure)
            if not secure:
                planted = planted_app(tmp_path / "planted")
                leak = record(link, tap, one, run_dir=tmp_path / "run2", weights=weights, app=planted)
                labels = {finding.what for finding in seeker.scan(leak.data)}
                assert "name of photos/our-photos-in-lisbon-0.png" in labels
                assert "file photos/our-photos-in-lisbon-0.png" in labels
    for folder in folders:
        entry = Ledger.open(folder / "ledger.json").entries()[0]
        assert entry.bytes_sent == len(clean.state.backbone) * (4 if secure else 1) + (0 if secure else 4)
    assert getpass.getuser() != USER


def check_records(recorded: Recorded, *, secure: bool) -> None:
    """Every record that was pushed has known keys; no number in it is a count of pictures or records."""
    configs = [item for item in recorded.objects if isinstance(item, ConfigRecord)]
    contents = [item for item in recorded.objects if isinstance(item, bytes)]
    assert contents
    assert recorded.paths
    named = {"protocol", "run", "round"}
    plain = named | {"scale", "ledger", "entry"}
    staged = {"stage", "attempt"}
    own = ({"mask_key", "seal_key"}, {"sealed", "promise"}, set(), {"about", "shares"})
    allowed = [named | staged | more for more in own] if secure else [plain]
    assert len(configs) >= 3
    for item in configs:
        assert set(item) in allowed
        assert {value for value in item.values() if isinstance(value, int)} <= {1}
    size = len(recorded.state.backbone)
    pushed = sum(len(item) for item in contents)
    per_number = 4 if secure else 1
    assert 3 * size * per_number < pushed < 3 * size * per_number * 1.1


def planted_app(folder: Path) -> Path:
    """Write the app with one line too many: it sends a file name and a compressed piece of a photo."""
    write_bundle(folder)
    path = folder / "client" / "app.py"
    text = path.read_text()
    assert text.count("    ledger.commit(reservation)\n    return content\n") == 1
    path.write_text(text.replace("    return content\n", PLANTED, 1))
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return folder
