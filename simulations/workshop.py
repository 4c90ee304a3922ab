"""What every phase of the demo works with: the run's folder, its settings, a voice and a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from client.console import Console
from server.outputs import backbone_of
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.errors import StorageError
from shared_model.images import load_tensor
from shared_model.stylize import Options
from shared_model.weights import default_backbone, load_backbone
from simulations.evaluation import Judge
from simulations.population import Population
from simulations.run_folder import RunFolder
from simulations.settings import DemoConfig

__all__ = ["Workshop"]


@dataclass(frozen=True)
class Workshop:
    """What every phase needs.

    Parameters
    ----------
    folder
        The run's folder.
    config
        Its settings.
    console
        Where to say things.
    clock
        Seconds.
    """

    folder: Path
    config: DemoConfig
    console: Console
    clock: Callable[[], float]
    _judges: list[Judge] = field(default_factory=list, repr=False)

    @property
    def federation_folder(self) -> Path:
        """Where the server keeps its state."""
        return self.folder / "federation"

    @property
    def options(self) -> Options:
        """How photos are painted in this run."""
        return Options(size_px=self.config.paint_px, detail=self.config.detail, seed=self.config.seed)

    def device_folder(self, person: int) -> Path:
        """Where a device keeps everything it owns."""
        return self.folder / "devices" / str(person)

    def population(self, run: RunFolder) -> Population:
        """Return the people that the first phase made."""
        return Population.from_dict(run.facts("people"))

    def first_backbone(self) -> Backbone:
        """Load the backbone that training starts from."""
        return load_backbone(self.config.backbone) if self.config.backbone else default_backbone()

    def last_backbone(self) -> Backbone:
        """Load the backbone that training ended with."""
        state = StateStore(self.federation_folder).load()
        if state is None:
            raise StorageError(
                f"{self.federation_folder} lost its state", hint="run `easel-sim demo --fresh` to start anew"
            )
        return backbone_of(state)

    def pictures(self, names: Sequence[str]) -> list[Tensor]:
        """Read pictures of the run, ``(1, 3, H, W) float in [0, 1]`` each."""
        return [load_tensor(self.folder / name) for name in names]

    def judge(self, run: RunFolder) -> Judge:
        """Prepare the held-out pictures for measuring; the second call returns the same."""
        if not self._judges:
            self._judges.append(self._new_judge(self.population(run)))
        return self._judges[0]

    def _new_judge(self, population: Population) -> Judge:
        return Judge.of(
            self.pictures([item.file for item in population.photos]),
            self.pictures([item.file for item in population.art]),
            pairs=self.config.judged_pairs,
            records=self.config.judged_records,
            record_px=self.config.record_px,
            options=self.options,
            seed=self.config.seed,
        )
