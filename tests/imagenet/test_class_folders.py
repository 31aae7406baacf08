"""Folders named by WordNet id."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r2convert.errors import DatasetError
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets, validation_labels, validation_name

WritePicture = Callable[..., Path]


def place_official(folder: Path, numbers: range) -> None:
    for number in numbers:
        file = folder / synsets()[validation_labels()[number - 1]] / validation_name(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_class_index_comes_from_the_folder_name_not_its_position(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "n15075141" / "b.JPEG")
    write_picture(tmp_path / "n01443537" / "a.jpg")
    found = open_validation_set(tmp_path)
    assert [(image.id, image.label) for image in found.images] == [("n01443537/a.jpg", 1), ("n15075141/b.JPEG", 999)]
    assert (found.layout, found.class_count, found.warnings) == ("class folders", 2, ())
    assert not found.is_full


def test_an_empty_class_folder_shifts_nothing_and_is_named(tmp_path: Path, write_picture: WritePicture) -> None:
    (tmp_path / "n01440764").mkdir()
    write_picture(tmp_path / "n01443537" / "a.JPEG")
    found = open_validation_set(tmp_path)
    assert [image.label for image in found.images] == [1]
    assert found.warnings == ("1 class folders hold no image: n01440764",)


def test_files_that_are_no_images_are_named(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "n01443537" / "a.JPEG")
    for other in ("notes.txt", "n01443537/._a.JPEG", "n01443537/list.csv"):
        (tmp_path / other).touch()
    found = open_validation_set(tmp_path)
    assert len(found.images) == 1
    (warning,) = found.warnings
    assert all(name in warning for name in ("notes.txt", "n01443537/._a.JPEG", "n01443537/list.csv"))


def test_images_with_official_names_come_in_official_order(tmp_path: Path) -> None:
    place_official(tmp_path, range(1, 30))
    assert [image.number for image in open_validation_set(tmp_path).images] == list(range(1, 30))


def test_an_image_in_another_class_than_its_name_says_is_named(tmp_path: Path, write_picture: WritePicture) -> None:
    place_official(tmp_path, range(1, 4))
    write_picture(tmp_path / "n01440764" / "ILSVRC2012_val_00000004.JPEG")
    (warning,) = open_validation_set(tmp_path).warnings
    assert "1 of 4 images" in warning
    assert "n01440764/ILSVRC2012_val_00000004.JPEG" in warning


def test_a_nearly_complete_set_counts_lost_images(tmp_path: Path) -> None:
    place_official(tmp_path, range(3, 50_001))
    found = open_validation_set(tmp_path)
    assert [image.id for image in found.missing] == [validation_name(1), validation_name(2)]
    assert len(found.images) == 50_000
    assert found.is_full
    assert found.warnings == (
        "2 images are missing and count as wrong: ILSVRC2012_val_00000001.JPEG, ILSVRC2012_val_00000002.JPEG",
    )


def test_the_val_folder_inside_is_found(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "val" / "n01443537" / "a.JPEG")
    assert open_validation_set(tmp_path).path == tmp_path / "val"


def test_order_and_fingerprint_do_not_depend_on_where_the_set_lies(tmp_path: Path, write_picture: WritePicture) -> None:
    for place in ("one", "two"):
        for name in ("n01443537/b.JPEG", "n01443537/a.JPEG", "n01440764/c.JPEG"):
            write_picture(tmp_path / place / name)
    one, two = (open_validation_set(tmp_path / place) for place in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    write_picture(tmp_path / "two" / "n01440764" / "d.JPEG")
    assert open_validation_set(tmp_path / "two").fingerprint != one.fingerprint


def test_folders_of_other_names_are_named_and_not_scored(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "tench" / "a.JPEG")
    write_picture(tmp_path / "17" / "a.JPEG")
    with pytest.raises(DatasetError, match="no ImageNet-1k validation set") as caught:
        open_validation_set(tmp_path)
    assert caught.value.got == "2 entries: 17, tench"
    assert caught.value.exit_code == 3


def test_classes_of_another_imagenet_are_refused(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "n01443537" / "a.JPEG")
    write_picture(tmp_path / "n00004475" / "a.JPEG")
    with pytest.raises(DatasetError, match="no classes of ImageNet-1k") as caught:
        open_validation_set(tmp_path)
    assert caught.value.got == "1 others: n00004475"


@pytest.mark.parametrize("name", ["nowhere", "empty", "n01443537"])
def test_what_cannot_be_scored_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "n01443537" / "n01443537").mkdir(parents=True)
    with pytest.raises(DatasetError) as caught:
        open_validation_set(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert caught.value.next_step
