"""What secure aggregation costs: processor time and bytes per device and for the server, without any training.

``python -m simulations.secure_cost --devices 8 32 --parameters 630000`` prints a table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import SystemRandom

import numpy as np
import torch

from client import secure
from client.secure_state import Memory
from server.unmask import Member, neighborhoods, unmask
from shared_model.config import LossConfig, ModelConfig
from shared_model.messages import RoundRequest
from shared_model.secure_sum import decode
from shared_model.secure_terms import LEAST, SecureTerms

__all__ = ["Cost", "measure"]


@dataclass(frozen=True)
class Cost:
    """Costs of one round.

    Parameters
    ----------
    devices, dropped, parameters
        Devices that were asked, those of them that never sent their masked update, and the length of an update.
    device_s, server_s
        Processor seconds of one device on average, and of the server.
    device_bytes
        Bytes that one device sends on average: keys, sealed shares, the masked vector, opened shares.
    plain_bytes
        What it would send without secure aggregation (int8).
    error
        L2 distance of the opened sum from the exact one, in units of the clip.
    """

    devices: int
    dropped: int
    parameters: int
    device_s: float
    server_s: float
    device_bytes: int
    plain_bytes: int
    error: float


def measure(devices: int, *, parameters: int, dropped: int = 0, neighbors: int = 0, clip: float = 1.0) -> Cost:
    """Run one secure round of random updates, message by message, and measure it.

    Parameters
    ----------
    devices
        At least three.
    parameters
        Length of an update.
    dropped
        So many devices vanish after handing out their shares.
    neighbors
        As ``secure_neighbors`` of a federation.
    clip
        L2 bound of the updates; no noise is added, so that the error can be seen.
    """
    needed = max(LEAST, devices - dropped)
    terms = SecureTerms("0123456789abcdef", capacity=devices, needed=needed, colluding=0, sum_noise=0.0)
    request, ring = _request(clip), terms.ring(size=parameters, clip=clip)
    groups = neighborhoods(devices, neighbors=neighbors, shuffle=SystemRandom().shuffle)
    clock, sent = time.process_time, 0
    with tempfile.TemporaryDirectory() as folder:
        memories = [Memory(Path(folder) / str(index)) for index in range(devices)]
        for memory in memories:
            memory.path.parent.mkdir()
        begin = clock()
        keys = [secure.offer(memory, request, terms, digest="") for memory in memories]
        members = {index: Member(index, *keys[index], holders=groups[index]) for index in range(devices)}
        for index, memory in enumerate(memories):
            holders = groups[index]
            hello = secure.Hello(
                index, holders, [members[one].mask_key for one in holders], [members[one].seal_key for one in holders]
            )
            sealed, members[index].promise = secure.hand_out(
                memory, hello, attempt=terms.attempt, least_peers=LEAST - 1
            )
            members[index].sealed = dict(zip([one for one in holders if one != index], sealed, strict=True))
            sent += sum(map(len, keys[index])) + sum(map(len, sealed)) + 32
        total, exact = np.zeros(parameters, np.uint32), torch.zeros(parameters, dtype=torch.float64)
        survivors = list(range(dropped, devices))
        aside = 0.0
        for index in survivors:
            start = clock()
            update = torch.randn(parameters)
            update *= clip / update.norm()
            exact += update.double()
            aside += clock() - start
            sources = [one for one in groups[index] if one != index]
            words = secure.mask(
                memories[index],
                ring,
                attempt=terms.attempt,
                digest="",
                sources=sources,
                sealed=[members[one].sealed[index] for one in sources],
                least_peers=LEAST - 1,
                train=lambda update=update: update,  # type: ignore[misc]
            )
            total += words
            sent += words.nbytes
        for index in survivors:
            about, shares = secure.open_round(
                memories[index], attempt=terms.attempt, survivors=survivors, least_peers=LEAST - 1
            )
            sent += sum(map(len, shares))
            for one, share in zip(about, shares, strict=True):
                members[one].shares[index] = share
        spent = clock() - begin - aside
    begin = clock()
    plain = unmask(total, members, survivors, context=terms.context(request.run, request.round))
    server_s = clock() - begin
    assert plain is not None
    error = float((decode(plain, ring) - exact).norm()) / clip
    return Cost(devices, dropped, parameters, spent / devices, server_s, sent // devices, parameters + 4, error)


def _request(clip: float) -> RoundRequest:
    """Return settings of a round; only its name and clip matter here."""
    return RoundRequest(
        run="cost",
        round=1,
        rounds=1,
        model=ModelConfig(),
        loss=LossConfig(),
        architecture="",
        unit="user",
        clip=clip,
        record_clip=1.0,
        noise_multiplier=0.0,
        cohort=1,
        population=1,
        delta=1e-6,
        simulated=True,
        local_steps=1,
        batch=1,
        learning_rate=1e-3,
        record_rate=1.0,
        upload="int8",
        seed=0,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--parameters", type=int, default=630_000)
    parser.add_argument("--neighbors", type=int, default=0)
    parsed = parser.parse_args(argv)
    print("devices dropped  device CPU s  server CPU s  device sends MB  plain MB  error / clip")
    for devices in parsed.devices:
        for dropped in (0, devices // 4):
            cost = measure(devices, parameters=parsed.parameters, dropped=dropped, neighbors=parsed.neighbors)
            print(
                f"{devices:7d} {dropped:7d} {cost.device_s:13.3f} {cost.server_s:13.3f} "
                f"{cost.device_bytes / 1e6:16.3f} {cost.plain_bytes / 1e6:9.3f} {cost.error:13.1e}"
            )


if __name__ == "__main__":
    main()
