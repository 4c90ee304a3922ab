"""easel: paint your photos in your own style, learn together, keep your pictures at home.

The packages ``client``, ``protos``, ``server``, ``shared_model`` and ``simulations`` import each
other by these directory names, since a Flower app bundle holds them so. A wheel keeps them under
``easel.*``, out of everybody's way. Importing ``easel`` makes both spellings work, in a checkout and
in an installed wheel, and makes them mean the same module objects::

    import easel
    import shared_model.errors
    import easel.shared_model.errors as same    # same is shared_model.errors

This is the one package with an effect at import: it appends :func:`root` to ``sys.path`` and puts
one finder, for ``easel.<package>`` names only, on ``sys.meta_path``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

__all__ = ["PACKAGES", "__version__", "root"]

__version__ = "0.1.0"

#: The packages that are imported by their directory names.
PACKAGES = ("client", "protos", "server", "shared_model", "simulations")


def root() -> Path:
    """Return the folder that holds the packages.

    It is ``site-packages/easel`` in an installed wheel and the repository root in a checkout. Whoever
    starts another Python process that needs the packages puts it first on that process's
    ``PYTHONPATH``.
    """
    here = Path(__file__).resolve().parent
    return here if (here / "shared_model").is_dir() else here.parent


class _Alias(MetaPathFinder, Loader):
    """Finds ``easel.shared_model.head`` as the very module ``shared_model.head``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for ``easel.<package>[.<module>]``; ``None`` for any other or missing module."""
        prefix, _, name = fullname.partition(".")
        if prefix != __name__ or name.partition(".")[0] not in PACKAGES:
            return None
        real = importlib.util.find_spec(name)
        if real is None:
            return None
        if real.origin is not None and not Path(real.origin).resolve().is_relative_to(root()):
            raise ImportError(
                f"{fullname}: another package named {name.partition('.')[0]!r} comes first on sys.path ({real.origin})"
            )
        return ModuleSpec(fullname, self, origin=real.origin, is_package=real.submodule_search_locations is not None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module under its own name and keep its own spec aside."""
        module = importlib.import_module(spec.name.partition(".")[2])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module, which has long run, its own spec back."""
        if module.__spec__ is not None and module.__spec__.loader is self:
            module.__spec__ = module.__spec__.loader_state


def _install() -> None:
    """Make both spellings importable; a second call changes nothing."""
    if str(root()) not in sys.path:
        sys.path.append(str(root()))
    if not any(type(finder).__qualname__ == _Alias.__qualname__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())


_install()
