"""``easel models``: releases of the backbone on this device."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from client.console import Console, format_bytes
from shared_model.errors import EaselError, InputError, MissingError

if TYPE_CHECKING:
    from client.carry import Carried
    from client.models import Installed, Models
    from shared_model.backbone import Backbone

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list all releases here", epilog="example: easel models list --json")
    fetch = actions.add_parser(
        "fetch",
        help="fetch the release that your fleet uses, and check it; nothing is switched",
        epilog="example: easel models fetch",
    )
    fetch.add_argument("--server", default="", metavar="HOST:PORT", help="default: your fleet's server, port 39320")
    fetch.add_argument("--folder", type=Path, metavar="DIR", help="the device folder (default: in $EASEL_HOME)")
    check = actions.add_parser(
        "verify", help="check releases against hashes and signatures", epilog="example: easel models verify"
    )
    check.add_argument("version", nargs="?", metavar="VERSION", help="default: all")
    use = actions.add_parser(
        "use",
        help="paint with a release from now on; it says which heads need what",
        epilog="example: easel models use 3 --keep-heads",
    )
    use.add_argument("version", metavar="VERSION", help="a version, or default for the backbone that came with easel")
    use.add_argument(
        "--keep-heads",
        action="store_true",
        help="carry your heads over: tunings are lost, the heads as they are come back with their backbone",
    )
    remove = actions.add_parser(
        "remove", help="remove a release that is not in use", epilog="example: easel models remove 2"
    )
    remove.add_argument("version", metavar="VERSION", help="a version, or FLEET/VERSION")
    for action in (listing, fetch, check, use, remove):
        action.add_argument("--json", action="store_true", help="print as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the action asked for; returns the exit code."""
    from client.models import Models, models_folder

    console, models = Console(json=arguments.json), Models(models_folder())
    if arguments.action == "list":
        return _list(models, console)
    if arguments.action == "verify":
        return _verify(models, arguments.version, console)
    if arguments.action == "fetch":
        return _fetch(models, arguments, console)
    if arguments.action == "remove":
        return _remove(models, arguments.version, console)
    return _use(models, arguments, console)


def _list(models: Models, console: Console) -> int:
    try:
        chosen = models.in_use()
        lost = ""
    except EaselError as error:
        chosen, lost = None, error.message
        console.warn(error.message, hint=error.hint)
    rows = [("default", "-", "-", "-", "-", "in use" if chosen is None and not lost else "")]
    facts: list[dict[str, object]] = []
    for release in models.installed():
        try:
            manifest = release.manifest()
        except EaselError as error:
            console.warn(f"release {release.version}: {error.message}")
            continue
        state = "in use" if release == chosen else ""
        epsilon = "unbounded" if manifest.total_epsilon is None else f"{manifest.total_epsilon:.3g}"
        quality = f"{manifest.evaluation.get('quality', 0.0):.3f}"
        rows.append((str(release.version), manifest.created[:10], format_bytes(manifest.size), epsilon, quality, state))
        facts.append(
            {
                "version": release.version,
                "fleet": release.fleet,
                "in_use": bool(state),
                "backbone": manifest.backbone,
                "epsilon": manifest.total_epsilon,
                "unit": manifest.unit,
                "evaluation": dict(manifest.evaluation),
                "created": manifest.created,
                "path": str(release.weights),
            }
        )
    console.facts({"default_in_use": chosen is None and not lost, "releases": facts})
    console.table(rows, header=("VERSION", "MADE", "SIZE", "EPSILON", "QUALITY", ""))
    return 5 if lost else 0


def _verify(models: Models, word: str | None, console: Console) -> int:
    from shared_model.weights import default_backbone

    chosen = models.installed() if word is None else [found for found in (models.find(word),) if found]
    results: dict[str, str] = {}
    code = 0
    if word in (None, "default"):
        default_backbone()
        results["default"] = "ok"
    for release in chosen:
        try:
            release.verify()
            results[str(release.version)] = "ok"
        except EaselError as error:
            console.error(error, subject=f"release {release.version}")
            results[str(release.version)], code = error.message, error.exit_code
    console.facts(results)
    for name, result in results.items():
        console.say(f"{name}: {result}")
    return code


def _fetch(models: Models, arguments: argparse.Namespace, console: Console) -> int:
    from client.paths import home_folder
    from client.release_source import whence
    from client.shelf import Shelf
    from shared_model.release_rules import accept
    from shared_model.weights import architecture_hash, default_backbone

    folder = (arguments.folder.expanduser() if arguments.folder else home_folder() / "device").absolute()
    source = whence(folder, address=arguments.server)
    try:
        from client.fetch import ReleaseClient, Source
    except ImportError as error:
        raise MissingError("gRPC is not installed", hint="pip install 'easel[client]'") from error
    shelf = Shelf(models.folder, root=source.root)
    with shelf.lock(), ReleaseClient(Source(source.address, source.ca, source.introducer)) as server:
        offer = server.offer()
        accepted = accept(offer, shelf.trust(), architecture=architecture_hash(default_backbone().config))
        shelf.remember(accepted.trust)
        release = shelf.release(accepted, offer)
        if release is None:
            partial = shelf.partial(accepted.manifest.sha256)
            with console.progress(f"release {accepted.manifest.version}") as advance:
                server.download(accepted.manifest.sha256, size=accepted.manifest.size, into=partial, progress=advance)
            release = shelf.install(partial, accepted, offer)
        received = server.received
    chosen = models.in_use()
    order = accepted.order
    console.facts(
        {
            "version": release.version,
            "action": order.action,
            "sequence": order.sequence,
            "reason": order.reason,
            "bytes_received": received,
            "in_use": release == chosen,
            "path": str(release.weights),
        }
    )
    console.say(f"release {release.version} is here and verified ({format_bytes(received)} fetched)")
    if order.action == "rollback":
        console.say(
            f"the fleet went back to it from release {order.previous}" + (f": {order.reason}" if order.reason else "")
        )
    if release != chosen:
        console.say(f"to paint with it: easel models use {release.version}")
    return 0


def _remove(models: Models, word: str, console: Console) -> int:
    release = models.find(word)
    if release is None:
        raise InputError("the backbone that came with easel is part of it", hint="remove a fetched release")
    if release == models.in_use():
        raise InputError(f"release {word} is in use", hint="easel models use default, then remove it")
    models.remove(release)
    console.facts({"removed": release.version, "fleet": release.fleet})
    console.say(f"removed release {release.version}")
    return 0


def _use(models: Models, arguments: argparse.Namespace, console: Console) -> int:
    from client.carry import carry, carry_shipped, survey
    from client.store import Home
    from shared_model.weights import default_backbone

    release = models.find(arguments.version)
    if release is not None:
        release.verify()
    backbone = default_backbone() if release is None else release.load()
    home = Home(folder=models.folder.parent, shipped={})
    with console.progress("heads") as advance:
        if release is not None:
            carry_shipped(release.heads, backbone, progress=advance)
        own = carry(home, backbone, progress=advance) if arguments.keep_heads else survey(home, backbone)
    models.use(release)
    _report(release, own, backbone, kept=arguments.keep_heads, console=console)
    return 0


def _report(release: Installed | None, own: list[Carried], backbone: Backbone, *, kept: bool, console: Console) -> None:
    from shared_model.weights import backbone_id

    console.facts(
        {
            "in_use": "default" if release is None else release.version,
            "backbone": backbone_id(backbone),
            "heads": [{"name": head.name, "state": head.state, "tuned": head.tuned} for head in own],
            "carried": kept,
        }
    )
    console.say(
        "painting with " + ("the backbone that came with easel" if release is None else f"release {release.version}")
    )
    console.say("easel serve, studio or watch that run already take it when they are started again")
    others = [head for head in own if head.state in ("kept", "refit")]
    if not others:
        return
    names = ", ".join(head.name for head in others)
    if not kept:
        console.warn(
            f"made for another backbone, and refused until they are carried over: {names}",
            hint=f"easel models use {_word(release)} --keep-heads, or make them again from their pictures",
        )
        return
    lost = [head.name for head in others if head.state == "refit" and head.tuned]
    console.say(f"carried over: {names}")
    if lost:
        console.warn(
            f"without their tuning, which needs the pictures: {', '.join(lost)}",
            hint=f"easel personalize {lost[0]} PICTURE ... --overwrite; the tuned ones come back with their backbone",
        )


def _word(release: Installed | None) -> str:
    """Return what to type for a release."""
    return "default" if release is None else str(release.version)
