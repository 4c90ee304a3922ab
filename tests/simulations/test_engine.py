"""The same federation in process, over processes and on Ray: the same bits, and the same first causes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.app import read_request
from server.config import FederationConfig
from server.state import RoundState
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import ConfigError, FederationError, MissingError
from shared_model.messages import ARRAY, PROTOCOL, REPLY
from shared_model.split import flatten
from simulations.device_call import call_device, said
from simulations.engine import KINDS, EngineConfig, federate
from simulations.populations.config import ChurnConfig

TINY = ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=2, critic_width=2)
CONFIG = FederationConfig(
    rounds=2, population=6, cohort=6, simulated_population=6, simulated_cohort=6, min_nodes=6, unprotected=True,
    rescale_noise=True, target_epsilon=0.0, quorum=0.3, upload="float16", seed=3,
)  # fmt: skip


def app_of(*, failing: Sequence[int] = (), fatal: int = -1, diary: Path | None = None) -> ClientApp:
    """Return an app whose devices move the backbone by noise of their own and remember how often they did."""
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        if diary is not None:
            import ray

            with diary.open("a") as log:
                log.write(f"{ray.get_runtime_context().get_node_id()}\n")
        request, vector = read_request(message)
        device = int(context.node_config["partition-id"])
        if device == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        if device in failing:
            try:
                raise OSError("disk on fire")
            except OSError as error:
                raise RuntimeError("outer") from error
        seen = context.state.config_records.setdefault("seen", ConfigRecord({"times": 0}))
        seen["times"] = int(seen["times"]) + 1
        torch.manual_seed(100 * device + int(seen["times"]))
        delta = torch.randn_like(vector) * vector.abs().mean()
        delta *= 0.3 / delta.norm()
        scale = float(delta.abs().max())
        reply = ConfigRecord({"protocol": PROTOCOL, "run": request.run, "round": request.round, "scale": scale})
        reply.update({"ledger": f"{device:016d}", "entry": int(seen["times"])})
        array = ArrayRecord({ARRAY: Array((delta / scale).half().numpy())})
        return Message(RecordDict({ARRAY: array, REPLY: reply}), reply_to=message)

    return made


def outcome(
    tmp_path: Path, engine: EngineConfig, app: ClientApp, config: FederationConfig = CONFIG
) -> tuple[RoundState, tuple[str, ...]]:
    folder = tmp_path / f"{engine.kind}-{engine.workers}-{len(list(tmp_path.iterdir()))}"
    devices = [tmp_path] * 6
    torch.manual_seed(0)
    start = Backbone(TINY)
    return federate(app, devices, folder=folder, config=config, start=lambda: start, engine=engine)


def test_processes_give_the_bits_of_one_process(tmp_path: Path) -> None:
    alone, silent = outcome(tmp_path, EngineConfig(), app_of())
    many, _ = outcome(tmp_path, EngineConfig(kind="processes", workers=2), app_of())
    assert silent == ()
    assert [report.accepted for report in many.reports] == [6, 6]
    assert torch.equal(alone.backbone, many.backbone)
    assert not torch.equal(alone.backbone, flatten(Backbone(TINY)))


@pytest.mark.parametrize("kind", ["in-process", "processes"])
def test_a_client_that_raises_is_named_with_its_first_cause(tmp_path: Path, kind: str) -> None:
    check_first_cause(tmp_path, EngineConfig(kind=kind))


def check_first_cause(tmp_path: Path, engine: EngineConfig) -> None:
    state, failures = outcome(tmp_path, engine, app_of(failing=(1, 4)))
    assert [report.accepted for report in state.reports] == [4, 4]
    assert len(failures) == 4
    assert failures[0].startswith("node 1002: OSError: disk on fire (test_engine.py, line ")


def where(places: Path) -> ClientApp:
    """Return an app whose devices note where they were told to compute."""
    train = app_of()

    def noting(message: Message, context: Context) -> Message:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        (places / f"{os.getpid()} {context.node_config['compute']} {visible}").touch()
        time.sleep(0.2)  # so that the other worker gets its share
        return train(message, context)

    return noting  # type: ignore[return-value]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer says that it has two GPUs; nothing computes on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_worker_processes_get_the_gpus_in_turn(tmp_path: Path) -> None:
    places = tmp_path / "places"
    places.mkdir()
    outcome(tmp_path, EngineConfig(kind="processes", workers=2, device="cuda"), where(places))
    assert sorted(path.name.split()[1] for path in places.iterdir()) == ["cuda:0", "cuda:1"]


def test_a_device_that_is_not_there_is_said_before_anything_runs(tmp_path: Path) -> None:
    for kind in KINDS:
        with pytest.raises(MissingError, match="there is no mps device"):
            outcome(tmp_path, EngineConfig(kind=kind, device="mps"), app_of())
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_is_killed_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"a worker process died while node 100[1-6]"):
        outcome(tmp_path, EngineConfig(kind="processes"), app_of(fatal=1))


# Ray leaves its own processes and files to destructors.
LITTER = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.mark.slow
@LITTER
def test_ray_gives_the_same_bits_and_first_causes(tmp_path: Path) -> None:
    alone, _ = outcome(tmp_path, EngineConfig(), app_of())
    far, _ = outcome(tmp_path, EngineConfig(kind="ray", workers=2), app_of())
    assert torch.equal(alone.backbone, far.backbone)
    check_first_cause(tmp_path, EngineConfig(kind="ray", workers=2))


@pytest.mark.slow
@LITTER
@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("workers", "device"), [(2, "cuda"), (3, "auto")])
def test_ray_shows_each_actor_one_gpu(tmp_path: Path, workers: int, device: str) -> None:
    places = tmp_path / "places"
    places.mkdir()
    outcome(tmp_path, EngineConfig(kind="ray", workers=workers, device=device), where(places))
    seen = [path.name.split(" ")[1:] for path in places.iterdir()]
    assert len(seen) == workers
    assert {where for where, _ in seen} == {"cuda"} and {gpu for _, gpu in seen} == {"0", "1"}


@pytest.mark.slow
@LITTER
def test_a_cluster_of_two_nodes_gives_the_same_bits(tmp_path: Path) -> None:
    port = free_port()
    head = f"--head --port={port} --num-cpus=1 --include-dashboard=false --temp-dir="
    # A folder of its own: a head's default one tells every later Ray on this computer to join this cluster.
    with (
        tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as place,
        ray_node(head + place),
        ray_node(f"--address=127.0.0.1:{port} --num-cpus=1"),
    ):
        wait_for_nodes(port, 2)
        engine = EngineConfig(kind="ray", address=f"127.0.0.1:{port}")
        far, _ = outcome(tmp_path, engine, app_of(diary=tmp_path / "diary"))
    alone, _ = outcome(tmp_path, EngineConfig(), app_of())
    assert torch.equal(alone.backbone, far.backbone)
    assert len(set((tmp_path / "diary").read_text().split())) == 2


def test_an_address_without_a_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="Ray cannot be used"):
        outcome(tmp_path, EngineConfig(kind="ray", address=f"127.0.0.1:{free_port()}"), app_of())
    with pytest.raises(ConfigError, match="HOST:PORT"):
        outcome(tmp_path, EngineConfig(kind="ray", address="auto"), app_of())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def ray_node(options: str) -> Iterator[None]:
    """Run a Ray node of our own on this computer; it and its processes end with the block."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", *options.split()]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as node:
        try:
            yield
        finally:
            node.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)


def wait_for_nodes(port: int, count: int) -> None:
    """Wait until so many nodes have joined, asking from a process of its own."""
    script = f"import ray; ray.init(address='127.0.0.1:{port}', log_to_driver=False); print(len(ray.nodes()))"
    end = time.monotonic() + 120
    while time.monotonic() < end:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
        if done.stdout.strip().endswith(str(count)):
            return
        time.sleep(1)
    raise AssertionError(f"no {count} Ray nodes: {done.stderr[-500:]}")


def test_the_threads_of_torch_are_as_before(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    outcome(tmp_path, EngineConfig(threads=before + 1), app_of(), dataclasses.replace(CONFIG, rounds=1))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "wrong", [{"kind": "cloud"}, {"workers": 0}, {"threads": 0}, {"address": "here:1"}, {"device": "tpu"}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        EngineConfig(**wrong)  # type: ignore[arg-type]
    assert KINDS == ("in-process", "processes", "ray")


def test_slow_and_silent_devices_are_late_in_virtual_time(tmp_path: Path) -> None:
    churn = ChurnConfig(slow_share=0.4, slow_factor=1000.0, failing_share=0.4, failure_rate=1.0, seed=5)
    state, failures = outcome(tmp_path, EngineConfig(churn=churn), app_of())
    assert failures == ()
    assert all(0 < report.accepted < 6 and report.reasons == {"late": 6 - report.accepted} for report in state.reports)
    assert all(report.seconds >= CONFIG.deadline_s for report in state.reports)
    again, _ = outcome(tmp_path, EngineConfig(churn=churn, kind="processes"), app_of())
    assert torch.equal(state.backbone, again.backbone)


def test_nobody_waits_in_real_time_for_devices_that_will_not_answer(tmp_path: Path) -> None:
    """A buffer that nobody is left to fill is given up at its deadline of ten minutes, in no time."""
    config = dataclasses.replace(CONFIG, mode="buffered", rounds=2)
    began = time.monotonic()
    state, failures = outcome(tmp_path, EngineConfig(), app_of(failing=range(6)), config)
    assert time.monotonic() - began < config.deadline_s / 2
    assert [report.accepted for report in state.reports] == [0, 0] and len(failures) == 12
    assert all(report.seconds >= config.deadline_s for report in state.reports)


def test_the_first_cause_of_a_context_is_found() -> None:
    def app(message: Message, context: Context) -> Message:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904

    message = Message(RecordDict(), 1001, "train", group_id="1")
    context = Context(run_id=1, node_id=1001, node_config={}, state=RecordDict(), run_config={})
    reply, cause = call_device(app, message, context)
    assert reply.has_error() and cause.startswith("KeyError: 'first' (test_engine.py, line")
    assert said(ConfigError("no such key")) == "ConfigError: no such key"
