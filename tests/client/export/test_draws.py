from __future__ import annotations

import torch

from client.export.draws import Draws, hashed, normal


def test_hashes_are_spread_evenly_and_do_not_follow_each_other() -> None:
    bits = hashed(torch.arange(100_000), 3, torch.tensor(7))
    assert int(bits.min()) >= 0 and int(bits.max()) < 2**32
    assert len(bits.unique()) > 99_990
    ones = torch.stack([(bits // 2**i) % 2 for i in range(32)]).double()
    assert (ones.mean(1) - 0.5).abs().max() < 0.01
    assert torch.corrcoef(ones).fill_diagonal_(0).abs().max() < 0.02


def test_normals_are_standard_and_finite() -> None:
    values = normal(200_000, 1, torch.tensor(0))
    assert bool(values.isfinite().all())
    assert abs(float(values.mean())) < 0.01 and abs(float(values.std()) - 1) < 0.01
    assert abs(float((values < -1.96).double().mean()) - 0.025) < 0.002
    assert abs(float((values[1:] * values[:-1]).mean())) < 0.01


def test_seeds_and_streams_draw_otherwise_and_again_the_same() -> None:
    draws = [normal(1000, stream, torch.tensor(seed)) for stream in (1, 2) for seed in (0, 1, 2**31 - 1)]
    for i, one in enumerate(draws):
        for other in draws[i + 1 :]:
            assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.15
    assert torch.equal(draws[0], normal(1000, 1, torch.tensor(0)))


def test_known_values_stay_as_they_are() -> None:
    assert hashed(torch.arange(3), 1, torch.tensor(5)).tolist() == [3578449064, 2614956366, 1115066902]


def test_the_originals_draw_from_the_hash_while_entered() -> None:
    with Draws(torch.tensor(4)):
        first = torch.randn(1, 1, 3, 5, generator=torch.Generator())
        whole = torch.randint(0, 3, (2, 50), generator=torch.Generator())
    assert torch.equal(first.flatten(), normal(15, 1, torch.tensor(4)))
    assert first.shape == (1, 1, 3, 5) and set(whole.flatten().tolist()) == {0, 1, 2}
    again = torch.randn(4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again, torch.randn(4, generator=torch.Generator().manual_seed(1)))
