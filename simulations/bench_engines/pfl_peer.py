"""The benchmark's work in pfl-research; run by a Python that has pfl, alone: it knows nothing of easel."""

# ruff: noqa: D103
import argparse
import asyncio
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import nn

BATCH, RATE = 8, 0.1


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("clients", "side", "rounds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--engine")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    run_round = _prepare(parsed.clients, parsed.side, parsed.work)
    run_round()  # warm-up
    print(json.dumps({"mark": "start"}), flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for _ in range(parsed.rounds):
        run_round()
    print(json.dumps({"mark": "end", "seconds": time.perf_counter() - began}), flush=True)
    sys.stdin.readline()


def _prepare(clients: int, side: int, work: str) -> Any:
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import MinimizeReuseUserSampler
    from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel
    from pfl.stats import MappedVectorStatistics

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(side, side, bias=False)

        def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return nn.functional.mse_loss(self.layer(inputs), targets)

        def metrics(self, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
            return {}

    class ReturnVector(FederatedAveraging):  # type: ignore[misc]
        def simulate_one_user(self, model: Any, user_dataset: Any, central_context: Any) -> Any:
            weights = {name: value.detach().clone() for name, value in model.variable_map.items()}
            return MappedVectorStatistics(weights, weight=1), Metrics()

    draw = torch.Generator().manual_seed(1)
    inputs, targets = (torch.randn(BATCH, side, generator=draw) for _ in range(2))
    layer = Layer()
    model = PyTorchModel(layer, torch.optim.SGD, torch.optim.SGD(layer.parameters(), lr=1.0))
    names = list(range(clients))
    people = FederatedDataset(lambda name: Dataset((inputs, targets), user_id=name), MinimizeReuseUserSampler(names))
    backend = SimulatedBackend(training_data=people, val_data=None)
    training = NNTrainHyperParams(local_num_epochs=1, local_learning_rate=RATE, local_batch_size=None)
    settings = NNAlgorithmParams(
        central_num_iterations=10_000,
        evaluation_frequency=10_000,
        train_cohort_size=clients,
        val_cohort_size=0,
    )
    algorithm = (ReturnVector if work == "vector" else FederatedAveraging)()
    turn = iter(range(1, 10_000))

    def run_round() -> None:
        nonlocal model
        contexts, model, _ = algorithm.get_next_central_contexts(
            model, next(turn), settings, training, NNEvalHyperParams(local_batch_size=BATCH)
        )
        for context in contexts:
            statistics, metrics = asyncio.run(
                backend.async_gather_results(model=model, training_algorithm=algorithm, central_context=context)
            )
            model, _ = algorithm.process_aggregated_statistics(context, metrics, model, statistics)

    np.random.seed(0)
    return run_round


if __name__ == "__main__":
    main()
