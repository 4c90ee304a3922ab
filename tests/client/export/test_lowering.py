from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from client.export.draws import Draws
from client.export.lowering import Lowering, Marks, Patches, eigh3, searchsorted
from client.export.parts import _WithHead
from shared_model.color import ColorStats, transfer
from shared_model.head import Head


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 1e-3, 30.0]), st.booleans())
def test_eigenvectors_rebuild_the_matrix(seed: int, scale: float, flat: bool) -> None:
    draws = torch.randn(3, 1 if flat else 3, generator=torch.Generator().manual_seed(seed)) * scale
    matrix = draws @ draws.T + 3e-4 * torch.eye(3)
    values, vectors = eigh3(matrix)
    size = float(matrix.abs().max())
    assert (vectors @ torch.diag(values) @ vectors.T - matrix).abs().max() < 2e-6 * size
    assert (vectors.T @ vectors - torch.eye(3)).abs().max() < 5e-6
    assert (values.sort().values - torch.linalg.eigvalsh(matrix)).abs().max() < 2e-6 * size


def test_eigenvalues_of_a_diagonal_matrix() -> None:
    values, vectors = eigh3(torch.diag(torch.tensor([2.0, 2.0, 1.0])))
    assert values.tolist() == [2.0, 2.0, 1.0] and torch.equal(vectors, torch.eye(3))


def test_places_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    ordered = torch.rand(3, 20, generator=generator).sort(1).values
    values = torch.cat([torch.rand(3, 50, generator=generator), ordered], 1)
    assert torch.equal(searchsorted(ordered, values), torch.searchsorted(ordered, values))


@pytest.mark.parametrize("stride", [2, 3])
def test_a_dictionary_finds_and_paints_the_same(stride: int, tiny_head: Head) -> None:
    level = tiny_head.levels[0]
    twin = Patches(level.patches, level.center, level.basis, level.price)
    picture = torch.rand(1, 3, 33, 50, generator=torch.Generator().manual_seed(2))
    rows, columns = torch.arange(20), torch.arange(20) * 2
    keys = level.project(picture, rows, columns)
    assert torch.allclose(twin.project(picture, rows, columns), keys, atol=1e-5)
    assert torch.equal(twin.nearest(keys), level.nearest(keys))
    with Draws(torch.tensor(1)):
        wanted, chosen = level.repaint(picture, stride=stride, seed=1)
    with Draws(torch.tensor(1)), Lowering():
        painted, same = twin.repaint(picture, stride=stride, seed=1)
    assert (chosen == same).float().mean() > 0.995
    assert (painted - wanted).abs().mean() < 1e-3


def test_marks_know_their_deviations(tiny_head: Head) -> None:
    surface = tiny_head.surface
    tables = (surface.contrast, surface.values, surface.lights, surface.tints, surface.colors)
    marks = Marks(*tables, *Marks.known(surface))
    assert marks.variety() == surface.variety() > 0
    assert [marks.deviation(i) for i in range(5)] == [surface.deviation(i) for i in range(5)]
    assert surface.mottled() is not None and marks.mottled() == surface.mottled()


def test_everything_else_is_left_alone() -> None:
    x = torch.rand(2, 9)
    with Lowering():
        assert torch.equal(x[:, ::2], x[:, 0::2]) and torch.equal(x[1], x.unbind()[1])
        assert torch.equal((x * 9).long().clamp(1, 5), (x * 9).long().clip(1, 5))
        assert torch.equal(x.clamp(min=0.5), x.clip(min=0.5))
        assert F.relu(x).shape == x.shape


@pytest.mark.parametrize("gray", [True, False])
def test_what_reads_a_heads_numbers_can_be_traced(gray: bool, tiny_head: Head) -> None:
    """Numbers that decide something must be plain before tracing: the quick part of what the slow tests export."""
    shades = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(2))
    color = ColorStats.of([shades.mean(1, keepdim=True).expand_as(shades) if gray else shades])
    assert color.grayness() == gray
    head = dataclasses.replace(tiny_head, color=color)

    class Part(_WithHead):
        def forward(self, photo: Tensor) -> Tensor:
            with Lowering():
                head = self.head()
                colored: Tensor = transfer(photo, head.color)
                return colored + head.surface.broken(photo) + head.color.hues_for(photo) * head.color.mottling().sum()

    photo = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(3)) ** 3
    part = Part(head)
    traced = torch.export.export(part, (photo,)).module()
    hues = head.color.hues_for(photo) * head.color.mottling().sum()
    wanted = transfer(photo, head.color) + head.surface.broken(photo) + hues
    assert torch.allclose(traced(photo), wanted, atol=1e-4)
