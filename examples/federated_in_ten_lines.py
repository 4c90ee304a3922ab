"""Does training together beat training alone? Four simulated painters, three methods, built-in pictures.

    python examples/federated_in_ten_lines.py runs/ten-lines

Takes about two minutes on two cores; a second call goes on where the first was stopped.
"""

import sys

import easel  # noqa: F401  (makes `simulations` importable from an installed wheel)
from simulations import Evaluation, Experiment, Federation, Method, Population, run

people = Population(kind="natural", devices=4, photos_each=4, records=8, pictures_px=192)
experiment = Experiment(
    method=(Method("local"), Method("fedavg"), Method("ditto", options={"lam": 1.0})),
    population=people,
    federation=Federation(rounds=4, local_steps=4, batch=2, unprotected=True),
    evaluation=Evaluation(every=2, records=8, paint_px=192),
)

if __name__ == "__main__":
    result = run(experiment, sys.argv[1] if len(sys.argv) > 1 else "runs/ten-lines")
    print(result.table())
    print("gain of fedavg over local:", result.gain("fedavg", over="local").gain)
    print("page:", result.report())
