"""The rules of docs/architecture.md: who may import whom, and what start-up may load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("client", "easel", "protos", "server", "shared_model", "simulations")

# Packages that a module of the key never imports, not even inside a function or for its types.
FORBIDDEN: Mapping[str, frozenset[str]] = {
    "shared_model": frozenset({"client", "easel", "flwr", "grpc", "protos", "server", "simulations", "tests"}),
    "protos": frozenset({"client", "easel", "flwr", "server", "shared_model", "simulations", "tests"}),
    "server": frozenset({"client", "simulations", "tests"}),
    "client": frozenset({"server", "simulations", "tests"}),
    "simulations": frozenset({"tests"}),
    "easel": frozenset({"client", "protos", "server", "shared_model", "simulations", "tests"}),
}
NETWORK = frozenset(
    "aiohttp asyncio flwr ftplib grpc http.client http.server httpx imaplib multiprocessing.connection poplib requests "
    "smtplib socket socketserver ssl starlette urllib.request urllib3 uvicorn webbrowser websockets xmlrpc".split()
)
# What a device keeps to itself. Nothing these reach, directly or not, may speak to a network.
PRIVATE = frozenset(
    "client.engine client.evaluation client.explanation client.personalize client.recipe client.store "
    "client.export.check client.export.graph client.export.parts "
    "client.candidates client.carry client.order client.parcel client.passphrase client.portrait "
    "client.preferences client.refit "
    "client.taste shared_model.head_format shared_model.look shared_model.mix shared_model.redact "
    "client.atelier client.gallery client.strokes client.style_names client.tasting client.views "
    "client.studio.facts client.studio.fleet client.studio.gate client.studio.jobs "
    "client.commissions client.warm_painter "
    "shared_model.explain shared_model.head shared_model.images shared_model.provenance "
    "shared_model.stylize shared_model.tuning".split()
)
# They hold private things too, and hand the upload's builder what it may send.
QUIET = PRIVATE | frozenset(
    "client.data client.job_queue client.jobs client.joint_step client.ledger client.ledger_file "
    "client.local_settings client.placement "
    "client.film client.films client.footage client.live_show client.live_view client.reel client.watch "
    "shared_model.tags "
    "client.private_training client.secure_state client.trainer shared_model.secure_sum shared_model.secure_terms "
    # Releases: what decides and what installs is apart from what fetches (client.fetch).
    "client.models client.release_source client.shelf shared_model.introduction shared_model.release_manifest "
    "shared_model.release_rules shared_model.signatures".split()
)
# The service of one's own computer and its client: gRPC, and never a federation.
DAEMON = frozenset(
    "client.commands.serve client.daemon.catalog client.daemon.choices client.daemon.guards client.daemon.painter "
    "client.daemon.replies client.daemon.server client.daemon.uploads "
    "client.studio_client".split()
)
# The modules of `client` that may speak to a network; a new one is a decision, taken here. `client.secure` takes
# Flower's key agreement, sealing and secret sharing, and nothing that sends: see the test of what it imports.
# The studio's shell serves a page to this computer; what it serves is made by modules that know no network.
STUDIO = frozenset(
    f"client.studio.{name}" for name in ("answers", "app", "bench", "desk", "intake", "live_page", "service")
)
# `client.enrolment` speaks to a fleet's gate with keys and codes, and reaches nothing private.
NETWORKED = frozenset({"client.app", "client.enrolment", "client.fetch", "client.secure"}) | DAEMON | STUDIO
HEAVY = frozenset(
    {"av", "flwr", "matplotlib", "onnx", "onnxruntime", "onnxscript", "opacus", "pi_heif", "ray", "torch"}
)
# Between a process and the workers that it has started itself, nothing comes from outside.
OWN_PROCESSES = {"simulations.slots", "simulations.workers"}
UNPICKLERS = frozenset({"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"})
HARD_LINE_LIMIT = 400


@dataclass(frozen=True)
class Import:
    """One name that a module imports: ``typing`` only for type checkers, ``lazy`` inside a function."""

    name: str
    typing: bool = False
    lazy: bool = False

    def is_under(self, package: str) -> bool:
        return self.name == package or self.name.startswith(package + ".")


def imports(source: str, *, module: str, is_package: bool = False) -> list[Import]:
    """List every import of ``source``, with relative names made absolute, ``import_module("literal")`` too."""
    return list(_walk(ast.parse(source), module if is_package else module.rpartition(".")[0], False, False))


def _walk(node: ast.AST, package: str, typing: bool, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, typing, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
        yield Import(base, typing, lazy)
        yield from (Import(f"{base}.{alias.name}", typing, lazy) for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")) and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield Import(name.value, typing, lazy)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for child in node.body:
            yield from _walk(child, package, True, lazy)
        for child in node.orelse:
            yield from _walk(child, package, typing, lazy)
        return
    inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, typing, inside)


def _modules() -> dict[str, Path]:
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {_name(file): file for file in files if not file.stem.endswith(("_pb2", "_pb2_grpc"))}


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = _modules()
IMPORTS = {
    name: imports(file.read_text(encoding="utf-8"), module=name, is_package=file.stem == "__init__")
    for name, file in MODULES.items()
}


def _reached(start: str, *, lazy: bool) -> set[str]:
    """Every name, ours or foreign, that running ``start`` may import; ``lazy``: in its functions too."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting.extend(parent for parent in _parents(name) if parent in MODULES)
        waiting.extend(found.name for found in IMPORTS.get(name, ()) if not found.typing and (lazy or not found.lazy))
    return seen


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _under(names: set[str], packages: frozenset[str]) -> set[str]:
    return {name for name in names if any(Import(name).is_under(package) for package in packages)}


def test_imports_are_found_wherever_they_hide() -> None:
    source = """
from typing import TYPE_CHECKING
from . import store
from ..shared_model.head import Head
if TYPE_CHECKING:
    import flwr
def later():
    import grpc
    return importlib.import_module("opacus.optimizers")
"""
    found = imports(source, module="root.client.engine")
    assert {"root.client.store", "root.shared_model.head", "root.shared_model.head.Head"} <= {i.name for i in found}
    assert Import("flwr", typing=True) in found
    assert Import("grpc", lazy=True) in found
    assert Import("opacus.optimizers", lazy=True) in found


@pytest.mark.parametrize("package", PACKAGES)
def test_nobody_imports_upwards_or_sideways(package: str) -> None:
    wrong = [
        f"{module} imports {found.name}"
        for module in MODULES
        if module.split(".")[0] == package
        for found in IMPORTS[module]
        if found.name.split(".")[0] in FORBIDDEN[package]
    ]
    assert not wrong


@pytest.mark.parametrize("app", ["client.app", "server.app"])
def test_flower_apps_do_not_need_the_launcher(app: str) -> None:
    assert app in MODULES
    assert not _under(_reached(app, lazy=False), frozenset({"easel"})), "a Flower bundle holds no `easel` package"


def test_opacus_is_behind_one_module_of_shared_model() -> None:
    users = {
        module
        for module in MODULES
        if module.startswith("shared_model") and any(found.is_under("opacus") for found in IMPORTS[module])
    }
    assert users == {"shared_model.privacy"}


def test_keys_of_the_noise_are_the_servers_alone() -> None:
    users = {
        module
        for module in MODULES
        if any(found.is_under("shared_model.correlated") for found in IMPORTS[module])
        or (module.startswith("shared_model") and any(found.is_under("cryptography") for found in IMPORTS[module]))
    }
    # Masks of secure aggregation are made from keys too, on devices and on the server; signatures of releases and of
    # the calls that fetch them are made and verified by the same code on both sides.
    signing = {"shared_model.introduction", "shared_model.signatures"}
    assert users - signing == {"server.release", "server.steps", "shared_model.correlated", "shared_model.secure_sum"}


def test_only_the_named_modules_of_a_device_speak_to_a_network() -> None:
    users = {
        module
        for module in MODULES
        if module.split(".")[0] in ("client", "shared_model") and _under({i.name for i in IMPORTS[module]}, NETWORK)
    }
    assert users == NETWORKED


def test_only_the_studios_shell_speaks_http_and_only_its_commands_start_it() -> None:
    web = frozenset({"starlette", "uvicorn"})
    assert {module for module in MODULES if _under({i.name for i in IMPORTS[module]}, web)} == STUDIO | {"server.gate"}
    starters = {
        module
        for module in MODULES
        if not module.startswith("client.studio") and any(i.is_under("client.studio") for i in IMPORTS[module])
    }
    assert starters == {"client.commands.live", "client.commands.studio"}
    assert not _under(_reached("client.studio.service", lazy=True), frozenset({"client.app", "flwr", "grpc"}))


@pytest.mark.parametrize("module", ["client.secure", "server.unmask"])
def test_masks_use_flowers_cryptography_and_nothing_else_of_flower(module: str) -> None:
    allowed = ("flwr.common.secure_aggregation.crypto", "flwr.supercore.primitives")
    flower = {found.name for found in IMPORTS[module] if found.is_under("flwr")}
    assert flower
    assert all(name.startswith(allowed) for name in flower)


def test_enrolment_reaches_nothing_private() -> None:
    reached = _reached("client.enrolment", lazy=True)
    assert "client.node_key" in reached
    assert not _under(reached, QUIET)
    assert "torch" not in reached and "client.policy" not in reached


def test_supervision_reaches_no_network() -> None:
    for module in ("client.supervisor", "client.supernode", "client.conditions", "client.membership"):
        assert not _under(_reached(module, lazy=True), NETWORK | QUIET)


@pytest.mark.parametrize("module", sorted(QUIET))
def test_private_things_reach_no_network(module: str) -> None:
    assert module in MODULES
    assert not _under(_reached(module, lazy=True), NETWORK)


def test_the_upload_is_built_from_the_split_and_from_no_private_module() -> None:
    names = {found.name for found in IMPORTS.get("client.app", ())}
    assert "shared_model.split" in names
    builders = {
        module
        for module in MODULES
        if module.startswith("client") and any(found.is_under("flwr.app") for found in IMPORTS[module])
    }
    assert builders == {"client.app"}
    assert not _under(names, PRIVATE)


def test_what_fetches_releases_holds_nothing_private() -> None:
    reached = _reached("client.fetch", lazy=True)
    assert "grpc" in reached
    assert not _under(reached, QUIET - {name for name in QUIET if name.startswith("shared_model.")})
    assert not _under(reached, frozenset(name for name in PRIVATE if name.startswith("shared_model.")))
    assert "torch" not in reached


@pytest.mark.parametrize("module", ["shared_model.release_manifest", "shared_model.release_rules"])
def test_rules_of_releases_are_pure(module: str) -> None:
    names = {found.name.split(".")[0] for found in IMPORTS[module]}
    assert not names & {"cryptography", "grpc", "numpy", "os", "pathlib", "safetensors", "time", "torch"}


@pytest.mark.parametrize("module", sorted(DAEMON))
def test_the_daemon_reaches_no_federation_and_no_federation_reaches_it(module: str) -> None:
    reached = _reached(module, lazy=True)
    assert not _under(reached, frozenset({"client.app", "client.secure", "flwr", "ray"}))
    for app in ("client.app", "client.private_training", "client.warm_painter", "client.batch"):
        assert not _under(_reached(app, lazy=True), frozenset({"client.daemon", "client.studio_client"}))


def test_only_the_daemon_and_its_client_know_grpc_and_its_messages() -> None:
    names = frozenset({"grpc", "grpc_health", "grpc_reflection", "protos.studio_pb2", "protos.studio_pb2_grpc"})
    users = {
        module
        for module in MODULES
        if module.split(".")[0] in ("client", "shared_model") and _under({i.name for i in IMPORTS[module]}, names)
    }
    # What the client makes of messages, and what fetches releases and knows nothing of the daemon.
    assert users <= DAEMON | {"client.studio_replies", "client.fetch"}


def test_stylizing_and_personalizing_reach_no_federation_and_no_plots() -> None:
    reached = _reached("client.engine", lazy=True) | _reached("client.personalize", lazy=True)
    assert "torch" in reached
    assert not _under(reached, HEAVY - {"torch"})


def test_nothing_is_pickled() -> None:
    wrong = [
        f"{module} imports {found.name}"
        for module in MODULES
        for found in IMPORTS[module]
        if (found.name.split(".")[0] in UNPICKLERS and module not in OWN_PROCESSES)
        or found.name in ("torch.load", "torch.save")
    ]
    calls = [
        f"{module}:{node.lineno} calls {ast.unparse(node.func)}"
        for module, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save")
    ]
    assert not wrong + calls


@pytest.mark.parametrize("module", MODULES)
def test_no_module_outgrows_its_reader(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= HARD_LINE_LIMIT


def test_test_folders_are_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py")), "tests/client/__init__.py would hide `client`"


def _loaded(code: str) -> set[str]:
    """Run ``code`` in a fresh interpreter and return the top-level names of all modules it loaded."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_command_line_starts_without_torch() -> None:
    loaded = _loaded("import client.cli")
    assert "client" in loaded
    assert not loaded & (HEAVY | {"numpy", "PIL"})


def test_help_is_shown_without_torch() -> None:
    call = "import easel.launch\nsys.argv = ['easel', '--help']\ntry:\n    easel.launch.device()\n"
    loaded = _loaded(call + "except SystemExit as stop:\n    assert not stop.code, stop.code")
    assert "client" in loaded
    assert not loaded & HEAVY


def test_the_client_of_the_daemon_loads_no_torch() -> None:
    loaded = _loaded("import client.studio_client")
    assert "grpc" in loaded
    assert not loaded & (HEAVY | {"numpy", "PIL"})


def test_stylizing_loads_no_federation_and_no_plots() -> None:
    loaded = _loaded("import client.engine, client.recipe, client.store, shared_model.stylize")
    assert "torch" in loaded
    assert not loaded & (HEAVY - {"torch"})
