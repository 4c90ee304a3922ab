"""A small finished run, made by hand: what a report is built from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared_model.images import save_picture

ROUNDS = """round,loss,quality,content,style,epsilon,accepted,asked,bytes_down,bytes_up,seconds
0,2.10,0.700,0.80,0.64,0,0,0,0,0,4
1,2.00,0.710,0.81,0.65,1.25,2,2,8000,2000,6
2,1.95,0.720,0.82,0.66,1.75,2,2,8000,2000,6
"""


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """Return the folder of a run with two people, two rounds and one painting."""
    rng = np.random.default_rng(0)

    def picture(name: str) -> str:
        save_picture(tmp_path / name, rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        return name

    people = [
        {
            "id": index,
            "name": name,
            "style": "oil & <ink>",
            "palette": ["#112233", "#ddeeff"],
            "photos": [picture(f"devices/{index}/photos/00.png")],
            "art": [picture(f"devices/{index}/art/00.png")],
        }
        for index, name in enumerate(("Ada", "Bruno"))
    ]
    shot = {
        "person": 0,
        "photo": picture("held_out/photos/00.png"),
        "title": "Cat",
        **{when: picture(f"stylized/00_0_{when}.png") for when in ("before", "after", "draft")},
    }
    phases = {
        "people": {"seconds": 1.0, "source": "built-in", "deal": "", "people": people, "photos": [], "art": []},
        "records": {"seconds": 2.0},
        "start": {"seconds": 3.0, "pairs": 2},
        "federate": {
            "seconds": 12.0,
            "rounds": 2,
            "parameters": 1000,
            "upload": "int8",
            "devices": [
                {"id": i, "pictures": 5000, "records": 9000, "received": 8000, "sent": 2000, "messages": 2}
                for i in (0, 1)
            ],
        },
        "heads": {
            "seconds": 5.0,
            "heads": [
                {
                    "person": 0,
                    "bytes": 600_000,
                    "fit_seconds": 1.0,
                    "tune_seconds": 4.0,
                    "loss_before": 0.9,
                    "loss_after": 0.8,
                }
            ],
        },
        "paintings": {"seconds": 2.0, "paintings": [shot]},
    }
    run = {
        "easel": "demo",
        "format": 1,
        "digest": "0123456789ab",
        "config": {"seed": 7},
        "created": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:09:05+00:00",
        "phases": phases,
    }
    privacy = {
        "nominal": {
            "unit": "user",
            "population": 1_000_000,
            "cohort": 10_000,
            "rounds": 2,
            "noise_multiplier": 0.6,
            "delta": 2.5e-7,
            "target_epsilon": 2.0,
            "epsilon": 1.75,
        },
        "simulated": {"devices": 2, "cohort": 2, "noise_multiplier": 0.00012, "epsilon": 8.5e7},
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "privacy.json").write_text(json.dumps(privacy))
    (tmp_path / "rounds.csv").write_text(ROUNDS)
    return tmp_path
