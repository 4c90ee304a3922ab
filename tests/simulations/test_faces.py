"""Face folders in every layout they come in, and with every mistake people make."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared_model.errors import InputError, MissingError
from simulations.faces import Faces, open_faces, read_attributes

NAMES = [f"{index:06d}.jpg" for index in range(1, 11)]
PLACES = [0, 0, 0, 0, 0, 0, 1, 1, 2, 2]
PARTITION_TXT = "".join(f"{name} {place}\n" for name, place in zip(NAMES, PLACES, strict=True))
PARTITION_CSV = "image_id,partition\n" + "".join(f"{n},{p}\n" for n, p in zip(NAMES, PLACES, strict=True))
ATTRIBUTES_TXT = "10\nBlurry Male Young \n" + "".join(
    f"{name} {'-1 ' if i % 2 else ' 1 '} {' 1' if i < 5 else '-1'} -1\n" for i, name in enumerate(NAMES)
)
ATTRIBUTES_CSV = "image_id,Blurry,Male,Young\n" + "".join(
    f"{name},{-1 if i % 2 else 1},{1 if i < 5 else -1},-1\n" for i, name in enumerate(NAMES)
)


def fill(folder: Path, names: list[str] = NAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"\xff\xd8")
    return folder


def check(faces: Faces) -> None:
    assert faces.listed and faces.missing == 0 and faces.attributes is not None
    assert faces.train == tuple(NAMES[:6]) and faces.validation == tuple(NAMES[6:8]) and faces.test == tuple(NAMES[8:])
    assert all((faces.folder / name).is_file() for name in faces.train)
    known = read_attributes(faces.attributes, NAMES[:2], ["Male", "Blurry"])
    assert known == {NAMES[0]: {"Male": True, "Blurry": True}, NAMES[1]: {"Male": True, "Blurry": False}}


def test_torchvisions_layout(tmp_path: Path) -> None:
    fill(tmp_path / "celeba" / "img_align_celeba")
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text(PARTITION_TXT)
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text(ATTRIBUTES_TXT)
    for root in (tmp_path, tmp_path / "celeba", tmp_path / "celeba" / "img_align_celeba"):
        check(open_faces(root))


def test_kaggles_layout_nested_twice_with_csv_lists(tmp_path: Path) -> None:
    fill(tmp_path / "img_align_celeba" / "img_align_celeba")
    (tmp_path / "list_eval_partition.csv").write_text(PARTITION_CSV)
    (tmp_path / "list_attr_celeba.csv").write_text(ATTRIBUTES_CSV)
    (tmp_path / "overview.png").write_bytes(b"a picture that is no face")
    for root in (tmp_path, tmp_path / "img_align_celeba"):
        check(open_faces(root))


def test_the_official_download_with_windows_line_ends_and_a_mark(tmp_path: Path) -> None:
    fill(tmp_path / "Img" / "img_align_celeba")
    for folder, name, text in (
        ("Eval", "list_eval_partition.txt", PARTITION_TXT),
        ("Anno", "list_attr_celeba.txt", ATTRIBUTES_TXT),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    check(open_faces(tmp_path))


def test_a_part_of_the_pictures_is_enough(tmp_path: Path) -> None:
    fill(tmp_path / "img_align_celeba", [NAMES[0], NAMES[6], NAMES[9], "stranger.jpg", ".hidden.jpg", "notes.txt"])
    (tmp_path / "list_eval_partition.txt").write_text(PARTITION_TXT)
    faces = open_faces(tmp_path)
    assert (faces.train, faces.validation, faces.test) == ((NAMES[0],), (NAMES[6],), (NAMES[9],))
    assert faces.missing == 7 and faces.attributes is None


def test_any_folder_of_faces_is_split_by_names(tmp_path: Path) -> None:
    faces = open_faces(fill(tmp_path / "faces", [f"{i}.png" for i in range(40)]))
    assert not faces.listed and (len(faces.train), len(faces.validation), len(faces.test)) == (32, 4, 4)
    assert len({*faces.train, *faces.validation, *faces.test}) == 40
    more = open_faces(fill(tmp_path / "faces", [f"{i}.png" for i in range(40)]))
    assert more == faces, "the same names are split in the same way"


def test_pictures_are_spread_over_a_split(tmp_path: Path) -> None:
    fill(tmp_path / "img_align_celeba")
    (tmp_path / "list_eval_partition.txt").write_text(PARTITION_TXT)
    faces = open_faces(tmp_path)
    assert [path.name for path in faces.spread("train", 3)] == [NAMES[0], NAMES[2], NAMES[4]]
    assert [path.name for path in faces.spread("train", 9, without={NAMES[0]})] == NAMES[1:6]
    assert faces.spread("test", 1)[0].is_file()


@pytest.mark.parametrize(
    ("text", "line"),
    [("000001.jpg 3\n", "line 1"), ("000001.jpg 0\n000002.jpg\n", "line 2"), ("a b c\n", "line 1"), ("x\n", "line 1")],
)
def test_a_damaged_list_of_splits_is_named_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    fill(tmp_path / "img_align_celeba")
    (tmp_path / "list_eval_partition.txt").write_text(text)
    with pytest.raises(InputError, match=line):
        open_faces(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10\nMale\n000001.jpg 1 1\n", "line 3"),
        ("10\nMale\n000001.jpg 7\n", "neither"),
        ("10\nYoung\n", "no attribute 'Male'"),
        ("", "no attribute 'Male'"),
    ],
)
def test_a_damaged_list_of_attributes_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_attributes(path, NAMES, ["Male"])


def test_folders_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="not a folder"):
        open_faces(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no pictures"):
        open_faces(tmp_path)
    (tmp_path / "img_align_celeba.zip").write_bytes(b"PK")
    with pytest.raises(MissingError, match="not unpacked"):
        open_faces(tmp_path)
    fill(tmp_path / "img_align_celeba", NAMES[:2])
    with pytest.raises(InputError, match="test"):
        open_faces(tmp_path)
    (tmp_path / "list_eval_partition.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        open_faces(tmp_path)
