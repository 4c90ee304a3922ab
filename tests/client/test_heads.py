"""Heads on the command line: mixed, bent to their owner's liking, carried about, brought up to date, deleted."""

from __future__ import annotations

import dataclasses
import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from client.candidates import paint_manner
from client.cli import main
from client.engine import Engine
from client.order import Order, parse_mix
from client.preferences import Manner, Preferences
from client.recipe import Recipe
from client.refit import refit
from client.store import Home
from shared_model.backbone import Backbone
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import load_picture, to_tensor
from shared_model.look import Look
from shared_model.weights import backbone_id, default_backbone

Easel = Callable[..., tuple[int, str, str]]


@pytest.fixture
def easel(
    easel_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Easel:
    """Run the command line in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.fixture
def other(tiny_head: Head, backbone: Backbone, smooth: Callable[..., np.ndarray], easel_home: Path) -> Head:
    """A second head, stored as ``other``."""
    head = Head.fit([to_tensor(smooth(2) // 2)], backbone=backbone, name="other", config=tiny_head.config)
    Home.default().save_head(head, name="other")
    return head


# --- mixing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", [["tiny=0.7,other=0.3"], ["tiny=0.7", "other=0.3"], ["tiny=7,", "other=3"]])
def test_mixed_heads_paint_and_replay(easel: Easel, photos: Path, other: Head, mix: list[str]) -> None:
    assert easel("stylize", photos / "a.png", "--mix", *mix)[0] == 0
    target = photos / "a-tiny+other.png"
    recipe = Recipe.read(target)
    assert recipe.mix == (("tiny", 0.7), ("other", 0.3)) and recipe.head == "tiny+other"
    code, _, err = easel("stylize", photos / "a.png", "--replay", target, "-o", "again.png")
    assert (code, err) == (0, "")
    assert np.array_equal(load_picture("again.png").rgb, load_picture(target).rgb)
    assert Recipe.read("again.png") == recipe
    alone = [easel("stylize", photos / "a.png", "--head", name, "-o", f"{name}.png") for name in ("tiny", "other")]
    assert all(code == 0 for code, _, _ in alone)
    assert not any(np.array_equal(load_picture(target).rgb, load_picture(f"{n}.png").rgb) for n in ("tiny", "other"))


def test_a_replay_notices_that_a_mixed_head_changed(easel: Easel, photos: Path, other: Head) -> None:
    easel("stylize", photos / "a.png", "--mix", "tiny=1,other=1", "-o", "mixed.png")
    Home.default().save_head(dataclasses.replace(other, images=9), name="other", overwrite=True)
    code, _, err = easel("stylize", photos / "a.png", "--replay", "mixed.png", "-o", "again.png")
    assert code == 0 and "has changed since" in err


@pytest.mark.parametrize(
    ("mix", "code", "words"),
    [
        (["tiny=0.7,nobody=0.3"], 3, "nobody"),
        (["tiny=x"], 2, "cannot read"),
        (["tiny=1,tiny=2"], 2, "cannot read"),
        (["=1"], 2, "cannot read"),
        (["tiny=-1"], 2, "weights"),
        (["tiny=0,other=0"], 2, "weights"),
        (["tiny=inf"], 2, "weights"),
        ([","], 2, "heads can be mixed"),
    ],
)
def test_mistakes_in_a_mix(easel: Easel, photos: Path, other: Head, mix: list[str], code: int, words: str) -> None:
    found, _, err = easel("stylize", photos / "a.png", "--mix", *mix)
    assert found == code and words in err


def test_a_mix_cannot_be_explained(easel: Easel, photos: Path, other: Head) -> None:
    code, _, err = easel("stylize", photos / "a.png", "--mix", "tiny=1,other=1", "--explain")
    assert code == 2 and "explained" in err


def test_names_in_a_mix_may_be_alone() -> None:
    assert parse_mix(["a,b=3"]) == (("a", 1.0), ("b", 3.0))


def test_a_recipe_without_mix_and_look_is_what_older_versions_read(tiny_head: Head) -> None:
    plain = Recipe.of(tiny_head, name="tiny", options=Order(()).options)
    assert plain.to_settings()["format"] == 1 and "mix" not in plain.to_settings()
    bent = dataclasses.replace(plain, look=Look(brush=1.5), mix=(("a", 0.5), ("b", 0.5)))
    assert bent.to_settings()["format"] == 2
    assert Recipe.from_settings(json.loads(json.dumps(bent.to_settings()))) == bent


@pytest.mark.parametrize(
    "change",
    [{"mix": "x"}, {"mix": [["a", 2.0]]}, {"mix": [["a"]]}, {"mix": [[1, 0.5]]}, {"look": {"brush": 9.0}}, {"look": 3}],
)
def test_changed_mixes_in_a_picture_are_refused(tiny_head: Head, change: dict[str, object]) -> None:
    recipe = dataclasses.replace(Recipe.of(tiny_head, name="t", options=Order(()).options), look=Look(brush=2.0))
    with pytest.raises(InputError):
        Recipe.from_settings(recipe.to_settings() | change)


# --- what the owner likes -----------------------------------------------------------------------


def test_preferences_are_used_where_no_option_says_otherwise(easel: Easel, photos: Path, other: Head) -> None:
    home = Home.default()
    liked = Manner(strength=0.6, detail=0.9, brush=1.5, roughness=2.0, hand=0.5, keep_color=True)
    Preferences(defaults=liked).save(home.preferences_path("other"))
    _, _, err = easel("stylize", photos / "a.png", "--head", "other", "--detail", 0.1)
    assert "as you like other" in err
    recipe = Recipe.read(photos / "a-other.png")
    assert (recipe.options.strength, recipe.options.detail, recipe.options.keep_color) == (0.6, 0.1, True)
    assert recipe.look == Look(brush=1.5, roughness=2.0, hand=0.5)
    code, _, err = easel("stylize", photos / "a.png", "--replay", photos / "a-other.png", "-o", "again.png")
    assert (code, err) == (0, "")
    assert np.array_equal(load_picture("again.png").rgb, load_picture(photos / "a-other.png").rgb)
    assert easel("stylize", photos / "a.png", "--head", "other", "--plain", "-o", "plain.png")[2] == ""
    assert Recipe.read("plain.png").look == Look()
    assert not np.array_equal(load_picture("plain.png").rgb, load_picture("again.png").rgb)


def test_a_preferred_mix_is_painted_until_its_partner_is_gone(easel: Easel, photos: Path, other: Head) -> None:
    Preferences(partner="other", defaults=Manner(share=0.4)).save(Home.default().preferences_path("tiny"))
    easel("stylize", photos / "a.png", "--head", "tiny", "-o", "mixed.png")
    assert Recipe.read("mixed.png").mix == (("tiny", 0.6), ("other", 0.4))
    easel("heads", "delete", "other", "--yes")
    code, _, err = easel("stylize", photos / "a.png", "--head", "tiny", "-o", "alone.png")
    assert code == 0 and "left out" in err and Recipe.read("alone.png").mix == ()


def test_choosing_in_a_script(easel: Easel, photos: Path, other: Head, easel_home: Path) -> None:
    code, out, _ = easel("prefer", "other", photos / "a.png", "--json", "--size", 40, "--with", "tiny")
    facts = json.loads(out)
    assert code == 0 and [one["number"] for one in facts["candidates"]] == [1, 2, 3, 4]
    assert facts["sheet"] == "a-other.choices.png" and load_picture(facts["sheet"]).rgb.shape[1] > 500
    code, out, _ = easel("prefer", "other", photos / "a.png", "--choose", "3,1", "--json", "--size", 40)
    assert code == 0 and json.loads(out)["choices"] == 1
    assert json.loads(out)["candidates"] != facts["candidates"]
    code, out, _ = easel("prefer", "other", "--choose", 2, "--json")
    assert code == 0 and json.loads(out)["choices"] == 2 and json.loads(out)["defaults"] is None
    assert easel("prefer", "other", "--apply")[0] == 0
    code, out, _ = easel("prefer", "other", "--show", "--json")
    assert json.loads(out)["defaults"] == json.loads(out)["best"]
    path = easel_home / "preferences" / "other.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert easel("prefer", "other", "--reset")[0] == 0 and not path.exists()


def test_choosing_goes_on_without_a_partner_that_is_gone(easel: Easel, photos: Path, other: Head) -> None:
    path = Home.default().preferences_path("tiny")
    easel("prefer", "tiny", photos / "a.png", "--size", 32, "--with", "other")
    easel("prefer", "tiny", photos / "a.png", "--size", 32, "--choose", 2)
    before = Preferences.load(path)
    assert before.settled and any(one.share for one in before.pending)
    easel("heads", "delete", "other", "--yes")
    code, out, err = easel("prefer", "tiny", photos / "a.png", "--size", 32, "--json")
    assert code == 0 and "'other' is not there any more" in err and err.count("hint:") == 1
    assert not any(one["share"] for one in json.loads(out)["candidates"])
    code, out, err = easel("prefer", "tiny", "--choose", 1, "--json")
    assert code == 0 and json.loads(out)["choices"] == 2 and json.loads(out)["best"]["share"] == 0
    kept = Preferences.load(path)
    assert kept.answers[:-1] == before.answers and kept.partner == "other" and kept.settled, "shares stay other's"
    assert easel("prefer", "tiny", "--apply")[0] == 0 and Preferences.load(path).defaults.share == 0
    assert easel("prefer", "tiny", photos / "a.png", "--with", "other")[0] == 3
    Home.default().save_head(other, name="third")
    assert easel("prefer", "tiny", "--show", "--with", "third")[0] == 2, "choices were made with a share of other"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nobody", "a.png"], 3),
        (["tiny"], 2),
        (["tiny", "--apply"], 2),
        (["tiny", "--choose", "1"], 2),
        (["tiny", "--choose", "x"], 2),
        (["tiny", "photos/none.png"], 2),
        (["tiny", "photos/a.png", "--candidates", "1"], 2),
        (["tiny", "photos/a.png", "--with", "tiny"], 2),
        (["tiny", "photos/a.png", "-o", "photos/b.jpg"], 2),
        (["tiny", "photos/a.png", "-o", "photos/a.png"], 2),
    ],
)
def test_mistakes_in_choosing(easel: Easel, photos: Path, arguments: list[str], code: int) -> None:
    before = (photos / "a.png").read_bytes()
    found, out, err = easel("prefer", *arguments, *(["--size", "32"] if len(arguments) > 1 else []))
    assert (found, out) == (code, "") and err.startswith("error:")
    assert (photos / "a.png").read_bytes() == before


def test_a_wrong_number_keeps_the_candidates(easel: Easel, photos: Path, easel_home: Path) -> None:
    easel("prefer", "tiny", photos / "a.png", "--size", 32)
    path = Home.default().preferences_path("tiny")
    pending = Preferences.load(path).pending
    assert easel("prefer", "tiny", "--choose", 5)[0] == 2
    assert Preferences.load(path).pending == pending != ()


def test_owners_judge_pictures_and_the_suggestion_paints_nearer_to_what_they_want(
    tiny_head: Head, easel_home: Path, smooth: Callable[..., np.ndarray]
) -> None:
    """The hidden target is a painting; the owner sees pictures only, never knobs."""
    home, engine, photo = Home.default(), Engine(default_backbone(), device="cpu"), to_tensor(smooth(7, 64, 64))

    def painted(manner: Manner) -> torch.Tensor:
        return paint_manner(engine, home, "tiny", manner, photo)

    targets = (
        Manner(strength=0.5, detail=0.9, brush=0.7),
        Manner(detail=0.1, brush=1.8, roughness=2.2, hand=1.3),
        Manner(strength=0.7, keep_color=True, roughness=0.2),
    )
    gains = []
    for seed, wanted in enumerate(targets):
        target, rng, known = painted(wanted), np.random.default_rng(seed), Preferences()

        def like(manner: Manner, target: torch.Tensor = target) -> float:
            return -40 * float((painted(manner) - target).abs().mean())

        for _ in range(15):
            shown = known.propose(4, seed=seed)
            known = known.choose(shown, (int(np.argmax([like(one) + 0.2 * rng.gumbel() for one in shown])),))
        gains.append(like(known.best()) - like(Manner()))
    assert min(gains) > 0, gains


# --- carrying about -----------------------------------------------------------------------------


def test_exporting_warns_and_importing_replaces_nothing(easel: Easel, other: Head, tmp_path: Path) -> None:
    code, _, err = easel("heads", "export", "other", "given.head")
    assert code == 0 and "pieces" in err and "may see those pictures" in err
    assert stat.S_IMODE(Path("given.head").stat().st_mode) == 0o600
    assert easel("heads", "export", "other", "given.head")[0] == 2
    assert easel("heads", "import", "given.head")[0] == 2, "there is a head called other"
    code, out, _ = easel("heads", "import", "given.head", "--name", "friend", "--json")
    assert code == 0 and json.loads(out)["backbone_matches"] is True
    loaded = Home.default().load_head("friend")
    assert torch.equal(loaded.modulation, other.modulation) and loaded.name == "friend"
    assert easel("heads", "import", "given.head", "--name", "../friend")[0] == 2
    assert sorted(path.name for path in (tmp_path).iterdir() if path.is_file()) == ["given.head"]


@pytest.mark.parametrize(("option", "words"), [("--blur", "blurred pieces"), ("--drop-patches", "no piece")])
def test_exporting_less_says_what_is_left(easel: Easel, other: Head, photos: Path, option: str, words: str) -> None:
    code, _, err = easel("heads", "export", "other", "less.head", option)
    assert code == 0 and words in err
    assert easel("heads", "import", "less.head", "--name", "less")[0] == 0
    assert easel("stylize", photos / "a.png", "--head", "less")[0] == 0


def test_a_sealed_head_needs_its_passphrase(easel: Easel, other: Head) -> None:
    pytest.importorskip("cryptography")
    Path("words").write_text("correct horse battery\nmore\n")
    Path("wrong").write_text("another thing altogether")
    assert easel("heads", "export", "other", "sealed.head", "--passphrase-file", "words")[0] == 0
    for arguments, words in ((["--passphrase-file", "wrong"], "wrong"), ([], "passphrase is needed")):
        code, out, err = easel("heads", "import", "sealed.head", "--name", "x", *arguments)
        assert (code, out) == (2, "") and words in err
    assert easel("heads", "import", "sealed.head", "--name", "x", "--passphrase-file", "words")[0] == 0
    assert easel("stylize", "sealed.head", "--head", "x")[0] == 2


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"EASELSEAL", b"\x10" + b"\0" * 40])
def test_importing_garbage_is_one_error(easel: Easel, content: bytes, easel_home: Path) -> None:
    Path("garbage.head").write_bytes(content)
    Path("words").write_text("correct horse battery")
    code, out, err = easel("heads", "import", "garbage.head", "--passphrase-file", "words")
    assert code in (2, 4, 5) and not out and err.count("error:") == 1
    assert not list(easel_home.glob("heads/*"))


# --- another backbone ---------------------------------------------------------------------------


def test_a_head_of_another_backbone_is_brought_up_to_date(
    easel: Easel, other: Head, photos: Path, smooth: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    from shared_model.images import save_picture

    stale = dataclasses.replace(other, backbone="0" * 12, modulation=other.modulation + 1)
    Home.default().save_head(stale, name="other", overwrite=True)
    assert easel("stylize", photos / "a.png", "--head", "other")[0] == 4
    code, _, err = easel("heads", "refit", "other")
    assert code == 0 and "not equal" in err
    guessed = Home.default().load_head("other")
    assert easel("stylize", photos / "a.png", "--head", "other")[0] == 0
    code, _, err = easel("heads", "refit", "other")
    assert code == 2 and "already" in err
    save_picture(tmp_path / "own.png", smooth(2) // 2)
    assert easel("heads", "refit", "other", "own.png", "--budget", 0)[0] == 0
    exact = Home.default().load_head("other")
    away = [float((head.modulation - other.modulation).norm()) for head in (guessed, exact)]
    assert away[1] < 0.05 * float(other.modulation.norm()) + 1e-3
    assert away[1] <= away[0] < float(other.modulation.norm())
    assert torch.equal(exact.levels[0].patches, other.levels[0].patches)


def test_refitting_without_pictures_is_seeded_and_drops_the_tuning(tiny_head: Head, backbone: Backbone) -> None:
    tuned = dataclasses.replace(tiny_head, backbone="old", change=torch.ones(5).half())
    one, two = refit(tuned, backbone), refit(tuned, backbone)
    assert torch.equal(one.modulation, two.modulation) and one.change is None
    assert one.backbone == backbone_id(backbone)


# --- looking and deleting -----------------------------------------------------------------------


def test_heads_are_drawn_and_photos_never_replaced(easel: Easel, other: Head, photos: Path) -> None:
    code, out, err = easel("heads", "list", "--sheet", "heads.png")
    assert code == 0 and "heads.png" in err and "other" in out
    assert load_picture("heads.png").rgb.shape[0] > 3 * 320 > 0
    assert easel("heads", "list", "--sheet", "heads.png")[0] == 0, "a sheet may be drawn again"
    assert easel("heads", "show", "other", "--picture", "one.png")[0] == 0
    assert easel("heads", "show", "other", "--picture", photos / "a.png")[0] == 2
    assert easel("heads", "show", "other", "--picture", "one.jpg")[0] == 2
    assert easel("stylize", ".", "--head", "other")[0] == 0
    assert not list(Path().glob("heads-*.png")), "a sheet is no photo"


def test_deleting_leaves_nothing_behind(easel: Easel, other: Head, easel_home: Path) -> None:
    home = Home.default()
    Preferences(defaults=Manner(detail=0.3)).save(home.preferences_path("other"))
    for leftover in ("heads/.other.head.abc.tmp", "preferences/.other.json.def.tmp"):
        (easel_home / leftover).write_bytes(b"left by a crash")
    assert easel("heads", "delete", "other")[0] == 2, "asks first"
    assert home.preferences_path("other").exists()
    assert easel("heads", "delete", "other", "--yes")[0] == 0
    assert not [path for path in easel_home.rglob("*") if path.is_file()]


def test_renaming_takes_the_preferences_along(easel: Easel, other: Head) -> None:
    home = Home.default()
    liked = Preferences(defaults=Manner(detail=0.3))
    liked.save(home.preferences_path("other"))
    Preferences(defaults=Manner(detail=0.9)).save(home.preferences_path("mine"))  # of a head long gone
    assert easel("heads", "rename", "other", "mine")[0] == 0
    assert Preferences.load(home.preferences_path("mine")) == liked
    assert not home.preferences_path("other").exists()
