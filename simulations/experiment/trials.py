"""One trial: one method on one population with one seed, from its devices to its figures.

A trial's folder keeps everything between rounds, so a trial that was killed goes on after its last
round and ends with the same figures. Its result is one file; the work is removed once that is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.config import FederationConfig
from server.outputs import backbone_of
from server.rounds import begin
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.errors import FederationError
from shared_model.split import flatten
from simulations.experiment.callbacks import Average, Callback, StopTraining, profiled, should_stop
from simulations.experiment.folder import Facts, plain, read_facts, write_facts
from simulations.experiment.measures import Measures
from simulations.experiment.rows import Log, Row, reported, spread
from simulations.experiment.settings import ExperimentConfig, MethodConfig
from simulations.methods import METHODS
from simulations.methods.trial import Method, Moment, Trial
from simulations.populations import Settlement

__all__ = ["RESULT", "TrialRun", "trial_name"]

RESULT = "result.json"
#: Methods in which no server takes part.
SERVERLESS = ("central", "local")


def trial_name(method: MethodConfig, seed: int) -> str:
    """Return the name of a trial's folder."""
    return f"{method.slug}_seed-{seed}"


@dataclass(frozen=True)
class TrialRun:
    """A trial in its folder.

    Parameters
    ----------
    folder
        The trial's own.
    config, method, seed
        What it is.
    people, measures
        Its population, and what is measured on it.
    start
        The backbone that training starts from.
    callbacks
        Told of every row.
    clock
        CPU seconds.
    """

    folder: Path
    config: ExperimentConfig
    method: MethodConfig
    seed: int
    people: Settlement
    measures: Measures
    start: Backbone
    callbacks: Sequence[Callback]
    clock: Callable[[], float] = time.process_time

    def run(self) -> Facts:
        """Return the result of a finished trial, or carry out what is left of it.

        Raises
        ------
        FederationError
            If no device could take part, with the first cause.
        """
        path = self.folder / RESULT
        if path.is_file():
            return read_facts(path)
        began = self.clock()
        method, trial = METHODS[self.method.name], self._trial()
        rows = self._train(method, trial)
        facts = {**self._figures(method, trial, rows), "cpu_seconds": self._spent(began)}
        write_facts(path, facts)
        for leftover in ("devices", "work"):
            shutil.rmtree(self.folder / leftover, ignore_errors=True)
        return read_facts(path)

    def _trial(self) -> Trial:
        federation = self.config.federation_of(self.method, self.seed)
        delta = self._federation().effective_delta
        # A round that a kill interrupted is charged twice by devices that had answered it: no owner's limit here.
        devices = self.people.visit(self.folder / "devices", budget=math.inf, delta=delta)
        trial = Trial(
            folder=self.folder / "work",
            devices=tuple(devices),
            federation=federation,
            start=self.start,
            options=dict(self.method.options),
            engine=self.config.engine_of(self.seed),
            seed=self.seed,
        )
        _name_run(trial, METHODS[self.method.name])
        return trial

    def _federation(self) -> FederationConfig:
        """Return the federation that runs, with what the method replaces in it."""
        return METHODS[self.method.name].check(
            dict(self.method.options), self.config.federation_of(self.method, self.seed)
        )

    def _train(self, method: Method, trial: Trial) -> list[Facts]:
        """Train to the end and return a row per round; round 0 is the start."""
        log = Log(self.folder / "rows.json")
        name = trial_name(self.method, self.seed)
        if not log.rows:
            log.add(self._row(Moment(0, trial.start, None), lambda device: trial.start, trial))
        for callback in self.callbacks:
            callback.on_start(name, rows=log.rows)

        def on_round(moment: Moment) -> None:
            if moment.round <= log.last:
                return  # told again after a kill
            row = self._row(moment, lambda device: method.backbone_of(trial, device), trial)
            log.add(row)
            for callback in self.callbacks:
                callback.on_round(name, row)
            if should_stop(log.rows, self.config.callbacks):
                raise StopTraining

        try:
            if missed := _missed(method, trial, log.last):
                on_round(missed)
            if not should_stop(log.rows, self.config.callbacks):
                with profiled(self.config.callbacks.profile, self.folder / "profile.txt"):
                    method.train(trial, on_round=on_round)
        except StopTraining:
            pass
        for callback in self.callbacks:
            callback.on_end(name)
        return log.rows

    def _row(self, moment: Moment, network: Callable[[int], Backbone], trial: Trial) -> Facts:
        """Measure what a round has come to; between evaluations only what the server reports."""
        wanted, settings = self.config.evaluation, self.config.callbacks
        row: Facts = {"round": moment.round, **reported(moment.report)}
        average = None
        if settings.ema and moment.round:
            average = Average(self.folder / "average.safetensors", decay=settings.ema).update(
                moment.round, moment.shared
            )
        last = moment.round >= trial.federation.rounds
        if moment.round % wanted.every and not last:
            return row
        row["loss"] = self.measures.judged(moment.shared, quality=False).loss
        if average is not None:
            row["ema_loss"] = self.measures.judged(average, quality=False).loss
        if wanted.personal or moment.round == 0:
            row["devices"] = self.measures.personal(network)
            row |= spread(row["devices"])
        return row

    def _figures(self, method: Method, trial: Trial, rows: Sequence[Row]) -> Facts:
        """Return the figures of a trained trial."""
        final = dict(rows[-1])
        if "devices" not in final:
            final["devices"] = self.measures.personal(lambda device: method.backbone_of(trial, device))
            final |= spread(final["devices"])
        state = StateStore(trial.folder / "federation").load()
        if method.name == "central":
            shared = method.backbone_of(trial, 0)
        else:
            shared = trial.start if state is None else backbone_of(state)
        if self.config.evaluation.pairs:
            final |= {key: value for key, value in vars(self.measures.judged(shared, quality=True)).items()}
        reports = [] if state is None else list(state.reports)
        if reports and not any(report.accepted for report in reports):
            reasons = ", ".join(sorted({reason for report in reports for reason in report.reasons}))
            raise FederationError(f"{self.method.title}: no device took part in any round ({reasons})")
        federation = self._federation()
        return {
            "method": self.method.title,
            "name": self.method.name,
            "paper": method.paper,
            "seed": self.seed,
            "folder": self.folder.name,
            "unit": federation.unit,
            "networks": (networks := _networks(method, trial)),
            "own_networks": len(set(networks)) > 1,
            "protected": state is not None and not federation.unprotected,
            "population": federation.population,
            "cohort": federation.cohort,
            "delta": federation.effective_delta,
            "noise_multiplier": 0.0 if state is None else state.noise_multiplier,
            "epsilon": reports[-1].epsilon if reports else None,
            "run_epsilon": reports[-1].run_epsilon if reports else None,
            "bytes_up": sum(report.bytes_up for report in reports),
            "bytes_down": sum(report.bytes_down for report in reports),
            "stopped": len(rows) - 1 < federation.rounds and should_stop(rows, self.config.callbacks),
            "rows": [plain(row) for row in rows],
            "final": plain(final),
            "pictures": self.measures.paint(lambda device: method.backbone_of(trial, device), self.folder),
        }

    def _spent(self, began: float) -> float:
        """CPU seconds of this process: of the part after the last kill, if there was one."""
        return round(self.clock() - began, 1)


def _name_run(trial: Trial, method: Method) -> None:
    """Begin the server's state under a name that the seed alone gives, instead of a random one.

    Devices derive their minibatches from it: a trial can so be repeated to the bit, and all methods of
    one seed see the same minibatches.
    """
    store = StateStore(trial.folder / "federation")
    if method.name in SERVERLESS or store.load() is not None:
        return
    name = hashlib.sha256(f"experiment/{trial.seed}".encode()).hexdigest()[:12]
    store.folder.mkdir(parents=True, exist_ok=True)
    store.save(dataclasses.replace(begin(method.check(trial.options, trial.federation), trial.start), run=name))


def _missed(method: Method, trial: Trial, last: int) -> Moment | None:
    """Return the round that was saved and that a kill kept from being measured."""
    if method.name in SERVERLESS:
        number = method.finished(trial)  # type: ignore[attr-defined]
        shared = method.backbone_of(trial, 0) if method.name == "central" else trial.start
        return Moment(number, shared, None) if number > last else None
    state = StateStore(trial.folder / "federation").load()
    if state is None or state.round <= last:
        return None
    return Moment(state.round, backbone_of(state), state.reports[-1] if state.reports else None)


def _networks(method: Method, trial: Trial) -> list[str]:
    """Identify every device's network: 16 hex digits of the SHA-256 of its parameters."""
    vectors = (flatten(method.backbone_of(trial, device)) for device in range(len(trial.devices)))
    return [hashlib.sha256(vector.numpy().tobytes()).hexdigest()[:16] for vector in vectors]
