from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.commissions import Commission, Lesson
from client.jobs import DroppedError, Job, News
from client.store import Home
from client.warm_painter import WarmPainter
from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError, InputError, MissingError, PictureError, StorageError
from shared_model.head import Head
from shared_model.images import encode_picture, load_picture

Pixels = Callable[..., np.ndarray]


pytestmark = pytest.mark.usefixtures("tiny_fits")


@pytest.fixture
def home(easel_home: Path) -> Home:
    return Home.default()


@pytest.fixture
def atelier(home: Home, backbone: Backbone) -> WarmPainter:
    return WarmPainter(home, backbone=backbone, device="cpu", max_pixels=100_000)


@pytest.fixture
def photo(smooth: Pixels) -> bytes:
    return encode_picture(smooth(11), suffix=".png")


def paint(
    atelier: WarmPainter, photo: bytes, *, size: int | None = None, head: str = "tiny", format: str = "png"
) -> bytes:
    commission = Commission(((head, 1.0),), {"size_px": size}, format)
    return atelier.stylize(Job("a", lambda job: None), photo, commission=commission).data


def test_a_painting_is_what_the_engine_paints_with_the_settings_inside(
    atelier: WarmPainter, photo: bytes, tiny_head: Head
) -> None:
    stages: list[str] = []
    job = Job("a", lambda job: None, tell=lambda news: stages.append(news.stage))
    painted = atelier.stylize(job, photo, commission=Commission((("tiny", 1.0),), {"seed": 3}))
    assert (painted.width, painted.height, painted.format) == (56, 40, "png")
    assert json.loads(painted.settings)["options"]["seed"] == 3
    assert b"easel" in painted.data
    assert [stage for stage, _ in itertools.groupby(stages)] == ["reading", "painting", "writing"]
    assert not np.array_equal(load_picture(painted.data).rgb, load_picture(photo).rgb)


@pytest.mark.parametrize(
    ("format", "start"), [("jpg", b"\xff\xd8"), ("webp", b"RIFF"), ("tiff", b"II"), ("", b"\x89P")]
)
def test_the_format_asked_for_comes_back(atelier: WarmPainter, photo: bytes, format: str, start: bytes) -> None:
    assert paint(atelier, photo, format=format).startswith(start)


def test_transparency_stays(atelier: WarmPainter, smooth: Pixels) -> None:
    alpha = np.zeros((40, 56), dtype=np.uint8)
    alpha[:20] = 255
    painted = load_picture(paint(atelier, encode_picture(smooth(11), suffix=".png", alpha=alpha)))
    assert painted.alpha is not None and np.array_equal(painted.alpha, alpha)


def test_a_head_is_read_once_and_again_when_its_file_changes(
    atelier: WarmPainter, home: Home, photo: bytes, tiny_head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.save_head(tiny_head, name="mine")
    reads: list[int] = []
    whole = Head.from_bytes
    monkeypatch.setattr(Head, "from_bytes", lambda data: reads.append(1) or whole(data))
    first = paint(atelier, photo, head="mine")
    paint(atelier, photo, head="mine")
    assert len(reads) == 1
    changed = dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1)
    home.save_head(changed, name="mine", overwrite=True)
    assert paint(atelier, photo, head="mine") != first
    home.delete_head("mine")
    with pytest.raises(MissingError):
        paint(atelier, photo, head="mine")


def test_a_head_for_another_backbone_is_refused(
    atelier: WarmPainter, home: Home, photo: bytes, tiny_head: Head
) -> None:
    home.save_head(dataclasses.replace(tiny_head, backbone="0" * 12), name="old")
    with pytest.raises(CompatibilityError, match="old"):
        paint(atelier, photo, head="old")
    facts = {fact.name: fact for fact in atelier.heads()}
    assert not facts["old"].matches and facts["tiny"].matches and facts["tiny"].shipped


def test_a_damaged_head_is_listed_with_its_damage(atelier: WarmPainter, home: Home, photo: bytes) -> None:
    home.prepare()
    (home.heads_folder / "broken.head").write_bytes(b"nonsense")
    assert atelier.heads()[0].damage
    with pytest.raises((StorageError, CompatibilityError)):
        paint(atelier, photo, head="broken")


def test_photos_and_results_beyond_the_limit_are_refused_before_they_take_memory(
    atelier: WarmPainter, photo: bytes
) -> None:
    with pytest.raises(InputError, match="too large"):
        paint(atelier, photo, size=16000)
    bomb = encode_picture(np.zeros((400, 400, 3), dtype=np.uint8), suffix=".png")
    with pytest.raises(PictureError, match="more than 100,000 pixels"):
        paint(atelier, bomb)


@pytest.mark.parametrize("cut", [0, 1, 20, 60])
def test_truncated_and_foreign_bytes_are_picture_errors(atelier: WarmPainter, photo: bytes, cut: int) -> None:
    with pytest.raises(PictureError):
        paint(atelier, photo[:cut])


def test_a_cancelled_job_paints_nothing(atelier: WarmPainter, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("a", lambda job: None, tell=lambda news: job.cancel())
    monkeypatch.setattr(atelier.engine, "stylize", None)
    with pytest.raises(DroppedError):
        atelier.stylize(job, photo, commission=Commission((("tiny", 1.0),)))


def test_a_large_picture_is_given_up_between_two_bands(atelier: WarmPainter, photo: bytes) -> None:
    atelier.engine.rows = 16
    shares: list[float] = []
    job = Job("a", lambda job: None)

    def tell(news: News) -> None:
        shares.append(news.fraction)
        if news.fraction > 0.7:
            job.cancel()

    job.tell = tell
    with pytest.raises(DroppedError):
        atelier.stylize(job, photo, commission=Commission((("tiny", 1.0),), {"size_px": 260}))
    assert len(shares) > 4 and shares == sorted(shares) and shares[-1] < 0.8


def test_a_head_is_made_saved_and_usable(atelier: WarmPainter, home: Home, photo: bytes) -> None:
    made = atelier.personalize(Job("a", lambda job: None), [photo, b"junk"], [], lesson=Lesson("mine", budget_s=0.0))
    assert made.head.name == "mine" and not made.head.shipped and made.skipped == 1
    assert math.isnan(made.before)
    assert home.find("mine").path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="already"):
        atelier.personalize(Job("a", lambda job: None), [photo], [], lesson=Lesson("mine", budget_s=0.0))


def test_a_lesson_that_nobody_waits_for_saves_nothing(atelier: WarmPainter, home: Home, photo: bytes) -> None:
    job = Job("a", lambda job: None)
    job.tell = lambda news: job.cancel() if news.stage == "fitting" else None
    with pytest.raises(DroppedError):
        atelier.personalize(job, [photo], [], lesson=Lesson("mine", budget_s=600.0))
    assert [head.name for head in home.heads()] == ["tiny"]


@pytest.mark.parametrize("files", [[], [b"junk"], [b""] * 65], ids=["none", "junk", "many"])
def test_lessons_without_usable_pictures_are_refused(atelier: WarmPainter, files: list[bytes]) -> None:
    with pytest.raises(InputError):
        atelier.personalize(Job("a", lambda job: None), files, [], lesson=Lesson("mine", budget_s=0.0))


@pytest.mark.parametrize(
    "wrong",
    [{"name": "../up"}, {"name": ""}, {"budget_s": -1.0}, {"budget_s": math.nan}, {"budget_s": 1e6}, {"seed": 1 << 31}],
    ids=str,
)
def test_wrong_lessons_are_refused_at_once(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Lesson(**{"name": "mine", **wrong})  # type: ignore[arg-type]


def test_an_unknown_format_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="exe"):
        Commission((("oil", 1.0),), format="exe")


def test_photo_and_lesson_can_go_on_side_by_side(atelier: WarmPainter, photo: bytes) -> None:
    lesson = threading.Thread(
        target=lambda: atelier.personalize(Job("a", lambda job: None), [photo], [], lesson=Lesson("b", budget_s=0.0))
    )
    lesson.start()
    expected = paint(atelier, photo)
    lesson.join()
    assert paint(atelier, photo) == expected


def test_a_picture_with_transparency_is_learned_on_white(atelier: WarmPainter, smooth: Pixels) -> None:
    stream = io.BytesIO(encode_picture(smooth(1), suffix=".png", alpha=np.full((40, 56), 9, dtype=np.uint8)))
    made = atelier.personalize(Job("a", lambda job: None), [stream.getvalue()], [], lesson=Lesson("pale", budget_s=0.0))
    assert made.head.images == 1
