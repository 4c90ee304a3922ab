"""What a machine has for painting: memory, room on the disk, a GPU that torch can use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from client.doctor import Check

__all__ = ["check_disk", "check_gpu", "check_memory", "find_gpu", "look_at_gpu"]

_LITTLE_MEMORY = 1.5e9
_LITTLE_DISK, _NO_DISK = 1e9, 50e6
# What a driver leaves on the system, whether or not torch can use it.
_TRACES = (("NVIDIA", Path("/proc/driver/nvidia/version")), ("AMD", Path("/dev/kfd")))


def check_memory() -> list[Check]:
    """Say how much memory is free."""
    total, free = _memory_bytes()
    if total == 0:
        return [Check("memory", "ok", "this system does not say how much memory there is")]
    text = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB memory free"
    if free < _LITTLE_MEMORY:
        return [Check("memory", "warn", text, "close other programs, or paint with --size 1024")]
    return [Check("memory", "ok", text)]


def check_disk(folder: Path) -> list[Check]:
    """Say how much room there is where ``folder`` is, or will be."""
    place = next((path for path in (folder, *folder.parents) if os.path.exists(path)), Path("/"))
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return [Check("disk", "warn", f"cannot tell how much room {place} has: {error.strerror}")]
    text = f"{free / 1e9:.1f} GB free where {folder} is"
    hint = "delete what you do not need, or set EASEL_HOME to a folder on another disk"
    if free < _NO_DISK:
        return [Check("disk", "fail", text, hint)]
    if free < _LITTLE_DISK:
        return [Check("disk", "warn", text, hint)]
    return [Check("disk", "ok", text)]


def find_gpu() -> str:
    """Return whose GPU driver this machine runs, or an empty text."""
    return next((maker for maker, trace in _TRACES if trace.exists()), "")


def look_at_gpu() -> list[Check]:
    """Ask torch what it can use, and compare with what is there."""
    import torch

    built = torch.version.cuda or torch.version.hip
    return check_gpu(find_gpu(), built=built, usable=torch.cuda.is_available())


def check_gpu(maker: str, *, built: str | None, usable: bool) -> list[Check]:
    """Say why a GPU that is there is not used.

    Parameters
    ----------
    maker
        From :func:`find_gpu`.
    built
        Version of CUDA or ROCm that torch was built for; ``None``: for none.
    usable
        torch finds a GPU.
    """
    if usable or not (maker or built):
        return []
    if not maker:
        return [Check("gpu", "ok", f"torch is built for a GPU ({built}), and this machine has none: the CPU paints")]
    if built is None:
        text = f"there is an {maker} driver, but this torch is built for the CPU alone"
        return [Check("gpu", "warn", text, "install a torch for your GPU: https://pytorch.org/get-started/locally/")]
    text = f"there is an {maker} driver, but torch {built} cannot use it"
    return [Check("gpu", "warn", text, f"update the driver to one for {built} or later, or install an older torch")]


def _memory_bytes() -> tuple[int, int]:
    """Return total and available memory in bytes, 0 if the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        return values["MemTotal"], values["MemAvailable"]
    except (OSError, KeyError, ValueError):
        pass
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return 0, 0
    return total, total
