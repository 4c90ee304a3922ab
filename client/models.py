"""The backbones on this device: the one that came with easel, and releases of a fleet that were fetched.

``$EASEL_HOME/models`` holds one folder per fleet (named by the first key that was trusted) and in it one per release;
``in-use.json`` says which one paints. A release's folder is renamed into place when everything in it has been verified,
so what is there is whole. Nothing here reaches the network.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.paths import home_folder
from shared_model.errors import InputError, MissingError, ReleaseError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.release_manifest import MAX_WEIGHTS, Manifest, decode
from shared_model.signatures import Signed, verify

if TYPE_CHECKING:
    from shared_model.backbone import Backbone

__all__ = ["Installed", "Models", "backbone_in_use", "heads_in_use", "models_folder"]

WEIGHTS, MANIFEST, SIGNATURE, PUBLIC, HEADS = (
    "backbone.safetensors",
    "manifest.json",
    "manifest.sig",
    "key.pub",
    "heads",
)
_FORMAT = "easel-models-1"
_BACK = "easel models use default paints with the backbone that came with easel"


@dataclass(frozen=True)
class Installed:
    """One release on this device.

    Attributes
    ----------
    fleet
        Id of the first key that was trusted: whose release it is.
    version
        Its number in that fleet.
    folder
        Where it lies.
    """

    fleet: str
    version: int
    folder: Path

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.folder / WEIGHTS

    @property
    def heads(self) -> Path:
        """Folder of the heads that come with easel, made ready for this backbone."""
        return self.folder / HEADS

    def signed(self) -> Signed:
        """Return the manifest with its signature."""
        return Signed.of_files(self.folder / MANIFEST, self.folder / SIGNATURE)

    def manifest(self) -> Manifest:
        """Return the manifest; its signature was verified when it was installed."""
        return decode(read_bytes(self.folder / MANIFEST, limit=1 << 20), Manifest)

    def check(self) -> Manifest:
        """Return the manifest if the weights are those that it names.

        Raises
        ------
        StorageError
            If they were changed since, or cannot be read.
        """
        manifest = self.manifest()
        digest = hashlib.sha256(read_bytes(self.weights, limit=MAX_WEIGHTS)).hexdigest()
        if digest != manifest.sha256:
            raise StorageError(f"the weights of release {self.version} are damaged: {self.weights}", hint=_BACK)
        return manifest

    def verify(self) -> Manifest:
        """Check weights and signature, the latter against the key that was trusted when it was installed.

        Raises
        ------
        StorageError, ReleaseError
            If something of it was changed since.
        """
        manifest = self.check()
        public = bytes.fromhex(read_bytes(self.folder / PUBLIC, limit=128).decode("ascii").strip())
        verify(self.signed(), kind="manifest", public=public)
        return manifest

    def load(self) -> Backbone:
        """Read the backbone, checked against its manifest.

        Raises
        ------
        StorageError
            If it is damaged.
        """
        from shared_model.weights import backbone_id, load_backbone

        manifest = self.check()
        backbone = load_backbone(self.weights)
        if backbone_id(backbone) != manifest.backbone:
            raise StorageError(f"release {self.version} holds another backbone than it says", hint=_BACK)
        return backbone


class Models:
    """The folder.

    Parameters
    ----------
    folder
        Made when the first release is fetched.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def installed(self) -> list[Installed]:
        """Return all releases there are, by fleet and version."""
        found = []
        for fleet in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            if re.fullmatch("[0-9a-f]{16}", fleet.name) and fleet.is_dir():
                names = sorted(path.name for path in fleet.iterdir() if re.fullmatch(r"\d{4,9}", path.name))
                found += [Installed(fleet.name, int(name), fleet / name) for name in names]
        return found

    def in_use(self) -> Installed | None:
        """Return the release that paints; ``None``: the backbone that came with easel.

        Raises
        ------
        StorageError
            If the choice cannot be read, or what was chosen is gone: nothing else is used in its place.
        """
        path = self.folder / "in-use.json"
        if not path.exists():
            return None
        try:
            values = json.loads(read_bytes(path, limit=4096))
            fleet, version = str(values["fleet"]), int(values["version"])
            if values["format"] != _FORMAT:
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(f"{path} is damaged", hint=_BACK) from error
        if version == 0:
            return None
        for release in self.installed():
            if (release.fleet, release.version) == (fleet, version):
                return release
        raise StorageError(f"release {version}, which is in use, is gone from {self.folder}", hint=_BACK)

    def use(self, release: Installed | None) -> None:
        """Paint with this release from now on; ``None``: with the backbone that came with easel."""
        fleet, version = (release.fleet, release.version) if release else ("", 0)
        content = {"format": _FORMAT, "fleet": fleet, "version": version}
        write_atomic(self.folder / "in-use.json", (json.dumps(content) + "\n").encode(), mode=0o600)

    def remove(self, release: Installed) -> None:
        """Remove a release; half of one is never seen.

        Raises
        ------
        StorageError
            If it cannot be removed.
        """
        try:
            shutil.rmtree(release.folder.rename(release.folder.with_name(f".new-{release.folder.name}-old")))
        except OSError as error:
            raise StorageError(
                f"cannot remove {release.folder}: {error.strerror}", hint="check its permissions"
            ) from error

    def find(self, word: str) -> Installed | None:
        """Return the release with this version, or ``FLEET/VERSION``; ``None`` for ``default``.

        Raises
        ------
        InputError
            If the word is neither, or several fleets have such a release.
        MissingError
            If there is none.
        """
        if word == "default":
            return None
        match = re.fullmatch(r"(?:([0-9a-f]{16})/)?(\d{1,9})", word)
        if match is None:
            raise InputError(f"{word!r} is no release", hint="give its version, such as 3, or default")
        fleet, version = match.group(1), int(match.group(2))
        found = [item for item in self.installed() if item.version == version and fleet in (None, item.fleet)]
        if len(found) > 1:
            raise InputError(f"several fleets have a release {version}", hint=f"say which: {found[0].fleet}/{version}")
        if not found:
            there = ", ".join(str(item.version) for item in self.installed()) or "none yet: easel models fetch"
            raise MissingError(f"there is no release {version} here", hint=f"releases: {there}")
        return found[0]


def models_folder() -> Path:
    """Return where the releases of this owner lie, without making it."""
    return home_folder() / "models"


def backbone_in_use() -> Backbone:
    """Load the backbone that this owner's pictures are painted with.

    Raises
    ------
    StorageError
        If the release in use is damaged or gone; the shipped one never takes its place unasked.
    """
    from shared_model.weights import default_backbone

    release = Models(models_folder()).in_use()
    try:
        return default_backbone() if release is None else release.load()
    except ReleaseError as error:
        raise StorageError(f"the release in use cannot be read: {error.message}", hint=_BACK) from error


def heads_in_use(home: Path) -> dict[str, Path]:
    """Return the heads that come with easel, for the backbone in use, by name."""
    from shared_model.weights import default_heads

    release = Models(home / "models").in_use()
    if release is None:
        return default_heads()
    return {path.stem: path for path in sorted(release.heads.glob("*.head"))}
