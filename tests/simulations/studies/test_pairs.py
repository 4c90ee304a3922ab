"""Pairs are read, found and drawn as promised; mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared_model.errors import InputError
from simulations.cli import main
from simulations.studies.pairs import Pair, PictureIndex, draw_pairs, read_pairs


def test_a_name_is_a_stem_or_a_path_below_the_folder(gallery: Path) -> None:
    index = PictureIndex(gallery / "art")
    assert index["upright"] == index["ada/upright"] == index["ada/upright.png"] == gallery / "art/ada/upright.png"
    with pytest.raises(InputError, match="no picture called 'nobody'"):
        index["nobody"]


def test_a_stem_that_several_share_is_refused(gallery: Path) -> None:
    index = PictureIndex(gallery)
    assert index.shortest("art/slanted.png") == "slanted"
    (gallery / "photos" / "slanted.png").write_bytes((gallery / "art" / "slanted.png").read_bytes())
    try:
        index = PictureIndex(gallery)
        with pytest.raises(InputError, match="2 pictures"):
            index["slanted"]
        assert index.shortest("art/slanted.png") == "art/slanted"
        assert index["art/slanted"] == gallery / "art" / "slanted.png"
    finally:
        (gallery / "photos" / "slanted.png").unlink()


@pytest.mark.parametrize(("photos", "arts", "count"), [(4, 6, 24), (5, 5, 25), (100, 36, 24), (1, 3, 3)])
def test_drawn_pairs_are_different_and_spread(photos: int, arts: int, count: int) -> None:
    pairs = draw_pairs([f"p{i}" for i in range(photos)], [f"a{i}" for i in range(arts)], count=count, seed=1)
    assert len(set(pairs)) == count
    uses = [sum(pair.style == f"a{i}" for pair in pairs) for i in range(arts)]
    assert max(uses) - min(uses) <= 1
    again = draw_pairs([f"p{i}" for i in range(photos)], [f"a{i}" for i in range(arts)], count=count, seed=1)
    assert again == pairs


def test_pictures_of_avoided_pairs_are_not_used() -> None:
    avoid = [Pair("p0", "a0"), Pair("p1", "a0")]
    pairs = draw_pairs(["p0", "val/p1", "p2", "p3"], ["x/a0", "a1", "a2"], count=4, seed=0, avoid=avoid)
    assert {pair.content for pair in pairs} == {"p2", "p3"} and {pair.style for pair in pairs} == {"a1", "a2"}
    with pytest.raises(InputError, match="too few for 5"):
        draw_pairs(["p2", "p3"], ["a1", "a2"], count=5, seed=0)


def test_the_command_draws_from_the_splits_only(gallery: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"photos_val": ["photos/0.png", "photos/2.png"], "art_test": ["art/ada/upright.png"]}))
    out = tmp_path / "pairs.json"
    folders = ["--photos", str(gallery / "photos"), "--art", str(gallery / "art"), "--splits", str(splits)]
    assert main(["study", "pairs", *folders, "--count", "2", "-o", str(out)]) == 0
    assert set(read_pairs(out)) == {Pair("0", "upright"), Pair("2", "upright")}
    assert main(["study", "pairs", *folders, "--count", "1", "--avoid", str(out), "-o", str(out)]) == 2


@pytest.mark.parametrize("text", ["[]", "{", '[{"content": "1"}]', "[3]"])
def test_a_wrong_pairs_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(InputError):
        read_pairs(tmp_path / "pairs.json")
