"""Validation sets as people keep them, and samples of them."""

from __future__ import annotations

import io
import random
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.catalog.variant import DATASETS
from r2convert.errors import DatasetError, UsageError
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import class_subsets, synsets, validation_labels, validation_name
from r2convert.imagenet.list_files import read_list_file
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet, stratified_sample

LABELS = validation_labels()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    record = tarfile.TarInfo(name)
    record.size = len(data)
    archive.addfile(record, io.BytesIO(data))


@pytest.fixture
def flat(tmp_path: Path, pictures: dict[int, bytes]) -> Path:
    folder = tmp_path / "flat"
    folder.mkdir()
    for number, data in pictures.items():
        (folder / validation_name(number)).write_bytes(data)
    return folder


@pytest.fixture
def tar(tmp_path: Path, pictures: dict[int, bytes]) -> Path:
    path = tmp_path / "ILSVRC2012_img_val.tar"
    with tarfile.open(path, "w") as archive:
        for number in sorted(pictures, reverse=True):
            add(archive, validation_name(number), pictures[number])
    return path


@pytest.fixture
def shard_folder(tmp_path: Path, pictures: dict[int, bytes]) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(3):
        with tarfile.open(folder / f"imagenet1k-validation-{shard:02d}.tar", "w") as archive:
            for number in range(shard * 4 + 1, shard * 4 + 5):
                key = validation_name(number).removesuffix(".JPEG")
                add(archive, f"{key}.cls", str(LABELS[number - 1]).encode())
                add(archive, f"{key}.jpg", pictures[number])
                add(archive, f"{key}.json", b"{}")
    return folder


@pytest.fixture
def openmmlab(tmp_path: Path, flat: Path) -> Path:
    root = tmp_path / "imagenet"
    (root / "meta").mkdir(parents=True)
    flat.rename(root / "val")
    rows = [f"{validation_name(number)} {LABELS[number - 1]}\n" for number in range(1, 13)]
    (root / "meta" / "val.txt").write_text("".join(rows))
    return root


LAYOUTS = {
    "flat": "flat folder",
    "tar": "tar archive",
    "shard_folder": "WebDataset shards",
    "openmmlab": "OpenMMLab list",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images(
    layout: str, request: pytest.FixtureRequest, pictures: dict[int, bytes]
) -> None:
    found = open_validation_set(request.getfixturevalue(layout))
    assert found.layout == LAYOUTS[layout]
    assert found.warnings == ()
    assert [image.number for image in found.images] == list(range(1, 13))
    assert [image.label for image in found.images] == list(LABELS[:12])
    assert [image.location.read() for image in found.images if image.location] == list(pictures.values())


def test_class_folders_in_an_archive(tmp_path: Path, pictures: dict[int, bytes]) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for number in (1, 2):
            add(archive, f"./val/{synsets()[LABELS[number - 1]]}/{validation_name(number)}", pictures[number])
    found = open_validation_set(tmp_path / "set.tar")
    assert [(image.number, image.label) for image in found.images] == [(1, LABELS[0]), (2, LABELS[1])]


def test_the_archive_is_found_in_its_folder(tar: Path) -> None:
    assert open_validation_set(tar.parent).path == tar


@pytest.mark.parametrize("place", ["image", "header", "class file"])
def test_a_truncated_archive_is_refused(place: str, tar: Path, shard_folder: Path) -> None:
    path = tar if place != "class file" else shard_folder / "imagenet1k-validation-00.tar"
    data = path.read_bytes()
    path.write_bytes(data[: {"image": 1000, "header": 300, "class file": 600}[place]])
    with pytest.raises(DatasetError, match="cannot be read to its end") as caught:
        open_validation_set(path)
    assert caught.value.where == str(path)


def test_a_compressed_archive_is_refused_with_advice(tmp_path: Path, pictures: dict[int, bytes]) -> None:
    with tarfile.open(tmp_path / "val.tar.gz", "w:gz") as archive:
        add(archive, validation_name(1), pictures[1])
    with pytest.raises(DatasetError, match="compressed archives are not read in place"):
        open_validation_set(tmp_path / "val.tar.gz")
    (tmp_path / "val.tar.gz").rename(tmp_path / "val.tar")
    with pytest.raises(DatasetError, match="cannot be read to its end"):
        open_validation_set(tmp_path / "val.tar")


def test_other_files_in_a_flat_folder_are_named(flat: Path) -> None:
    for name in ("ILSVRC2012_val_00060000.JPEG", "cat.jpg", "notes.txt"):
        (flat / name).touch()
    (warning,) = open_validation_set(flat).warnings
    assert warning == "3 entries have no official name, left out: ILSVRC2012_val_00060000.JPEG, cat.jpg, notes.txt"


@pytest.mark.parametrize("separator", [" ", "\t", ",", "  "])
@pytest.mark.parametrize("as_synset", [False, True])
def test_lists_of_any_separator_and_label(flat: Path, separator: str, as_synset: bool) -> None:
    rows = ["# image and class", ""]
    for number in range(1, 13):
        label = LABELS[number - 1]
        rows.append(f"{validation_name(number)}{separator}{synsets()[label] if as_synset else label}")
    (flat.parent / "any.txt").write_text("\n".join(rows))
    with pytest.raises(DatasetError, match="none of the images in the list is there"):
        open_validation_set(flat.parent / "any.txt")
    (flat / "any.lst").write_text("\n".join(rows))
    found = open_validation_set(flat / "any.lst")
    assert (found.layout, found.missing) == ("list file", ())
    assert [image.label for image in found.images] == list(LABELS[:12])


def test_images_of_a_list_that_are_not_there_count(openmmlab: Path) -> None:
    (openmmlab / "val" / validation_name(3)).unlink()
    found = open_validation_set(openmmlab)
    assert [image.id for image in found.missing] == [validation_name(3)]
    assert len(found.images) == 12
    assert found.warnings == ("1 image of the list is missing and counts as wrong: ILSVRC2012_val_00000003.JPEG",)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("ILSVRC2012_val_00000001.JPEG", "does not name an image and its class"),
        ("ILSVRC2012_val_00000001.JPEG 1001", "does not name an image and its class"),
        ("ILSVRC2012_val_00000001.JPEG -1", "does not name an image and its class"),
        ("ILSVRC2012_val_00000001.JPEG tench", "does not name an image and its class"),
        ("ILSVRC2012_val_00000001.JPEG 1000", "counts its classes from 1"),
        ("x" * 5000 + " 5", "none of the images in the list is there"),
        ("", "names no images"),
    ],
)
def test_lines_that_cannot_be_meant_are_refused(flat: Path, line: str, what: str) -> None:
    (flat / "list.txt").write_text(f"{line}\n")
    with pytest.raises(DatasetError, match=what) as caught:
        open_validation_set(flat / "list.txt")
    assert str(flat / "list.txt") in str(caught.value.where)
    assert caught.value.next_step


def test_a_binary_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(bytes(range(256)))
    with pytest.raises(DatasetError, match="neither a list of images nor an archive"):
        open_validation_set(tmp_path / "weights.pth")


@settings(deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "any_text"
    folder.mkdir(exist_ok=True)
    (folder / "list.txt").write_text(text, "utf-8", "surrogatepass")
    with pytest.raises(DatasetError):
        read_list_file(folder / "list.txt")


def write_official_list(path: Path, class_of: Callable[[int], int], count: int = 400) -> Path:
    images = path.parent / "val"
    images.mkdir()
    for number in range(1, count + 1):
        (images / validation_name(number)).touch()
    rows = [f"{validation_name(number)} {class_of(LABELS[number - 1])}\n" for number in range(1, count + 1)]
    path.write_text("".join(rows))
    return path


def test_labels_in_another_class_order_are_refused(tmp_path: Path) -> None:
    order = list(range(1000))
    random.Random(0).shuffle(order)
    with pytest.raises(DatasetError, match="count the classes in another order") as caught:
        open_validation_set(write_official_list(tmp_path / "val.txt", order.__getitem__))
    assert "development kit" in str(caught.value.got)


def test_a_few_wrong_labels_are_named_and_scored(tmp_path: Path) -> None:
    wrong = LABELS[6]
    found = open_validation_set(write_official_list(tmp_path / "val.txt", lambda label: 3 if label == wrong else label))
    (warning,) = found.warnings
    assert "not in the class that ILSVRC 2012 gives to their name: ILSVRC2012_val_00000007.JPEG" in warning


def test_an_image_that_is_there_twice_is_named(openmmlab: Path) -> None:
    with (openmmlab / "meta" / "val.txt").open("a") as file:
        file.write(f"{validation_name(5)} {LABELS[4]}\n")
    assert open_validation_set(openmmlab).warnings == ("1 image is there more than once: ILSVRC2012_val_00000005.JPEG",)


def test_uneven_classes_of_a_whole_set_are_named(tmp_path: Path) -> None:
    rows = [f"{i}.JPEG {min(i // 50, 998)}\n" for i in range(50_000)]
    (tmp_path / "list.txt").write_text("".join(rows))
    (tmp_path / "0.JPEG").touch()
    found = open_validation_set(tmp_path / "list.txt")
    assert found.warnings[1] == "2 classes do not have 50 images: n13133613 (100), n15075141 (0)"


@pytest.mark.parametrize("label", [b"1000", b"-1", b"tench", b"", b"\xff", b"1" * 200])
def test_a_shard_with_an_impossible_class_is_refused(tmp_path: Path, label: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "x.cls", label)
        add(archive, "x.jpg", b"")
    with pytest.raises(DatasetError, match="no usable class") as caught:
        open_validation_set(tmp_path)
    assert str(caught.value.where).endswith("a.tar: x")


def test_a_sample_without_its_class_is_refused_and_one_without_image_named(shard_folder: Path) -> None:
    with tarfile.open(shard_folder / "imagenet1k-validation-03.tar", "w") as archive:
        add(archive, "lonely.cls", b"5")
        add(archive, "good.cls", b"5")
        add(archive, "good.jpg", b"")
    assert open_validation_set(shard_folder).warnings == ("1 sample has no image, left out: lonely",)
    with tarfile.open(shard_folder / "imagenet1k-validation-04.tar", "w") as archive:
        add(archive, "unlabelled.jpg", b"")
    with pytest.raises(DatasetError, match="no usable class"):
        open_validation_set(shard_folder)


def test_an_archive_that_is_no_shard_is_refused(shard_folder: Path) -> None:
    with tarfile.open(shard_folder / "imagenet1k-validation-03.tar", "w") as archive:
        add(archive, "readme.md", b"")
    with pytest.raises(DatasetError, match="a shard holds no images"):
        open_validation_set(shard_folder)


WritePicture = Callable[..., Path]


def test_classes_beside_shards_are_their_own(shard_folder: Path) -> None:
    names = [f"class {number}" for number in range(1000)]
    (shard_folder / "classes.txt").write_text("\n".join(names))
    assert open_validation_set(shard_folder).classes == tuple(names)
    (shard_folder / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DatasetError, match="no usable class") as caught:
        open_validation_set(shard_folder)
    assert "from 0 to 1" in str(caught.value.expected)


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
    assert found.dataset is None


def test_an_empty_class_folder_shifts_nothing_and_is_named(tmp_path: Path, write_picture: WritePicture) -> None:
    (tmp_path / "n01440764").mkdir()
    write_picture(tmp_path / "n01443537" / "a.JPEG")
    found = open_validation_set(tmp_path)
    assert [image.label for image in found.images] == [1]
    assert found.warnings == ("1 class folder holds no image: n01440764",)


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
    assert found.dataset == "imagenet"
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
    with pytest.raises(DatasetError, match="do not say which classes of ImageNet") as caught:
        open_validation_set(tmp_path)
    assert caught.value.got == "2 folders: 17, tench"
    assert caught.value.exit_code == 3


def test_classes_of_another_imagenet_are_refused(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "n01443537" / "a.JPEG")
    write_picture(tmp_path / "n00004475" / "a.JPEG")
    with pytest.raises(DatasetError, match="not classes of ImageNet-1k") as caught:
        open_validation_set(tmp_path)
    assert caught.value.got == "1 other: n00004475"


@pytest.mark.parametrize("name", ["nowhere", "empty", "n01443537"])
def test_what_cannot_be_scored_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "n01443537" / "n01443537").mkdir(parents=True)
    with pytest.raises(DatasetError) as caught:
        open_validation_set(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert caught.value.next_step


WHOLE = ValidationSet(
    Path("set"),
    "class folders",
    tuple(ValidationImage(f"{label}/{i}", label, None) for label in range(9) for i in range(7)),
)


@settings(deadline=None)
@given(count=st.integers(1, 70), seed=st.integers(0, 3))
def test_every_class_has_its_share(count: int, seed: int) -> None:
    sample = stratified_sample(WHOLE, count, seed=seed).images
    assert len(sample) == min(count, 63)
    shares = Counter(image.label for image in sample)
    assert max(shares.values()) - min(shares[label] for label in range(9)) <= 1
    assert list(sample) == sorted(sample, key=lambda image: WHOLE.images.index(image))


@settings(deadline=None)
@given(count=st.integers(1, 62), seed=st.integers(0, 3))
def test_a_larger_sample_contains_the_smaller(count: int, seed: int) -> None:
    smaller, larger = (stratified_sample(WHOLE, size, seed=seed).images for size in (count, count + 1))
    assert set(smaller) < set(larger)


def test_another_seed_draws_others() -> None:
    assert stratified_sample(WHOLE, 18, seed=0) != stratified_sample(WHOLE, 18, seed=1)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(UsageError):
        stratified_sample(WHOLE, 0)


def test_a_list_with_repeated_lines_gives_as_many_images_as_were_asked_for(tmp_path: Path) -> None:
    rows = [f"{name}.JPEG 3\n" for name in ("a", "a", "a", "b", "b", "c")]
    (tmp_path / "list.txt").write_text("".join(rows))
    (tmp_path / "a.JPEG").touch()
    found = open_validation_set(tmp_path / "list.txt")
    for count in range(1, 6):
        assert len(stratified_sample(found, count).images) == count


def test_a_sample_is_the_same_whatever_form_the_set_lies_in(tmp_path: Path) -> None:
    place_official(tmp_path / "folders", range(1, 40))
    (tmp_path / "flat").mkdir()
    for number in range(1, 40):
        (tmp_path / "flat" / validation_name(number)).touch()
    one, two = (stratified_sample(open_validation_set(tmp_path / name), 9) for name in ("folders", "flat"))
    assert [image.number for image in one.images] == [image.number for image in two.images]


def test_training_shards_beside_validation_shards_are_left_out(shard_folder: Path) -> None:
    before = open_validation_set(shard_folder)
    for number in range(2):
        with tarfile.open(shard_folder / f"imagenet1k-train-{number:04d}.tar", "w") as archive:
            add(archive, "x.cls", b"5")
            add(archive, "x.jpg", b"")
    found = open_validation_set(shard_folder)
    assert found.images == before.images
    assert found.warnings[0].startswith("2 shards of other splits are left out: imagenet1k-train-0000.tar")
    with tarfile.open(shard_folder / "more.tar", "w") as archive:
        add(archive, "y.cls", b"5")
        add(archive, "y.jpg", b"")
    with pytest.raises(DatasetError, match="not clear which of these shards") as caught:
        open_validation_set(shard_folder)
    assert "more.tar" in str(caught.value.got)


def test_a_list_whose_images_were_sorted_into_class_folders_is_passed_over(openmmlab: Path) -> None:
    for file in list((openmmlab / "val").iterdir()):
        number = int(file.stem[-8:])
        place = openmmlab / "val" / synsets()[LABELS[number - 1]]
        place.mkdir(exist_ok=True)
        file.rename(place / file.name)
    found = open_validation_set(openmmlab)
    assert found.layout == "class folders"
    assert all(image.label == LABELS[(image.number or 0) - 1] for image in found.images)


def test_names_of_hugging_face_are_official_ones(tmp_path: Path) -> None:
    for number in (1, 7):
        (tmp_path / f"ILSVRC2012_val_{number:08d}_{synsets()[LABELS[number - 1]]}.JPEG").touch()
    found = open_validation_set(tmp_path)
    assert [(image.number, image.label) for image in found.images] == [(1, LABELS[0]), (7, LABELS[6])]


def test_folders_of_own_classes_are_counted_in_their_sorted_order(tmp_path: Path, write_picture: WritePicture) -> None:
    for name in ("dog", "cat", "Zebra"):
        write_picture(tmp_path / "val" / name / "a.jpg")
        write_picture(tmp_path / "train" / name / "b.jpg")
    (tmp_path / "val" / "ant").mkdir()
    found = open_validation_set(tmp_path)
    # As torchvision's ImageFolder sorts them; an empty folder is a class too.
    assert found.classes == ("Zebra", "ant", "cat", "dog")
    assert [(image.id, image.label) for image in found.images] == [
        ("Zebra/a.jpg", 0),
        ("cat/a.jpg", 2),
        ("dog/a.jpg", 3),
    ]
    assert found.warnings == ("4 classes, by index: Zebra, ant, cat, dog", "1 class folder holds no image: ant")
    (tmp_path / "val" / "classes.txt").write_text("dog\ncat\nant\nZebra\nfox\n")
    found = open_validation_set(tmp_path)
    assert found.classes == ("dog", "cat", "ant", "Zebra", "fox")
    assert {image.id: image.label for image in found.images} == {"Zebra/a.jpg": 3, "cat/a.jpg": 1, "dog/a.jpg": 0}
    (tmp_path / "val" / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(DatasetError, match=r"classes\.txt does not fit") as caught:
        open_validation_set(tmp_path)
    assert caught.value.got == "not in it: Zebra, ant"
    (tmp_path / "val" / "classes.txt").write_text("dog\ncat\nant\nZebra\ncat\n")
    with pytest.raises(DatasetError, match="a class is named twice") as caught:
        open_validation_set(tmp_path)
    assert caught.value.got == "cat"


def test_a_list_of_own_classes_has_their_names_or_indices(tmp_path: Path, write_picture: WritePicture) -> None:
    for name in "abc":
        write_picture(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "list.txt").write_text("images/a.jpg dog\nimages/b.jpg 0\nimages/c.jpg cat\n")
    found = open_validation_set(tmp_path / "list.txt")
    assert found.classes == ("cat", "dog")
    assert [image.label for image in found.images] == [1, 0, 0]
    assert found.warnings == ("2 classes, by index: cat, dog",)
    (tmp_path / "list.txt").write_text("images/a.jpg 2\n")
    with pytest.raises(DatasetError, match="does not name an image and its class"):
        open_validation_set(tmp_path / "list.txt")


def test_numbered_folders_are_class_indices(tmp_path: Path, write_picture: WritePicture) -> None:
    for number in (0, 2, 10, 9):
        write_picture(tmp_path / "digits" / str(number) / "a.jpg")
    found = open_validation_set(tmp_path / "digits")
    assert [(image.id, image.label) for image in found.images] == [
        ("0/a.jpg", 0),
        ("10/a.jpg", 10),
        ("2/a.jpg", 2),
        ("9/a.jpg", 9),
    ]
    assert found.classes == tuple(map(str, range(11)))
    # ImageNet-V2 has a folder for each class of ImageNet, named by its index.
    for number in range(1000):
        file = tmp_path / "v2" / str(number) / f"{number}.jpeg"
        file.parent.mkdir(parents=True)
        file.touch()
    found = open_validation_set(tmp_path / "v2")
    assert found.classes == synsets()
    assert all(image.id == f"{image.label}/{image.label}.jpeg" for image in found.images)


def test_imagenet_v2_is_read_in_the_archive_it_is_published_in(tmp_path: Path) -> None:
    path = tmp_path / "imagenetv2-matched-frequency.tar"
    with tarfile.open(path, "w") as archive:
        for folder in ("", *(f"/{number}" for number in range(1000))):
            record = tarfile.TarInfo(f"imagenetv2-matched-frequency-format-val{folder}")
            record.type = tarfile.DIRTYPE
            archive.addfile(record)
        for number in range(10_000):
            add(archive, f"imagenetv2-matched-frequency-format-val/{number % 1000}/{number:x}.jpeg", b"")
    found = open_validation_set(path)
    assert (found.layout, found.dataset, found.classes) == ("tar archive", "imagenet-v2", synsets())
    assert all(int(image.id.split("/")[1]) == image.label for image in found.images)


@pytest.mark.parametrize("split", ["val", "validation", "valid", "test"])
def test_own_classes_in_an_archive_are_those_of_one_split(
    split: str, tmp_path: Path, write_picture: WritePicture
) -> None:
    for name in ("cat", "dog"):
        write_picture(tmp_path / "set" / split / name / "a.tif")
        (tmp_path / "set" / split / name / "notes.txt").touch()
        write_picture(tmp_path / "set" / "train" / name / "b.jpg")
    found = open_validation_set(tmp_path / "set")
    assert found.path == tmp_path / "set" / split
    assert [image.id for image in found.images] == ["cat/a.tif", "dog/a.tif"]
    assert found.warnings[1] == "2 entries are not images of a class, left out: cat/notes.txt, dog/notes.txt"
    with tarfile.open(tmp_path / "split.tar", "w") as archive:
        archive.add(found.path, arcname=split)
    assert [image.label for image in open_validation_set(tmp_path / "split.tar").images] == [0, 1]
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(tmp_path / "set", arcname="set")
    with pytest.raises(DatasetError, match="not a labelled set"):
        open_validation_set(tmp_path / "all.tar")


@pytest.mark.parametrize("top", ["ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"])
def test_kaggles_copy_is_found_from_its_top(top: str, tmp_path: Path) -> None:
    for split, name in (("val", validation_name(1)), ("test", "ILSVRC2012_test_00000001.JPEG")):
        (tmp_path / top / split).mkdir(parents=True)
        (tmp_path / top / split / name).touch()
    assert open_validation_set(tmp_path).path == tmp_path / top / "val"


def test_the_classes_of_imagenet_a_and_r_are_ranked_among_themselves(tmp_path: Path) -> None:
    for dataset, subset in class_subsets().items():
        name = DATASETS[dataset].name
        for index in subset:
            file = tmp_path / name / synsets()[index] / "0.1_a.jpg"
            file.parent.mkdir(parents=True)
            file.touch()
        found = open_validation_set(tmp_path / name)
        assert found.ranked == tuple(sorted(subset))
        assert len(subset) == 200
        assert found.layout == f"class folders of {name}"
        assert "ranked among them only" in found.warnings[-1]
        assert found.dataset is None  # one image a class is not the set that numbers are published on
    # From the papers' class lists: the first of A is a stingray, the first of R a goldfish.
    assert min(class_subsets()["imagenet-a"]) == 6
    assert min(class_subsets()["imagenet-r"]) == 1


def listed(path: Path, names: Iterable[tuple[str, int]], write_picture: WritePicture) -> ValidationSet:
    """A set as a list file, of which one image is there."""
    rows = list(names)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path.parent / rows[0][0])
    path.write_text("".join(f"{name} {synsets()[label]}\n" for name, label in rows))
    return open_validation_set(path)


def test_the_sets_that_accuracies_are_published_on_are_told_apart(tmp_path: Path, write_picture: WritePicture) -> None:
    sketch = [(f"sketch_{number}.JPEG", number % 1000) for number in range(50_889)]
    assert listed(tmp_path / "s" / "list.txt", sketch, write_picture).dataset == "imagenet-sketch"
    assert listed(tmp_path / "s" / "list.txt", sketch[:-1], write_picture).dataset is None
    # Its three sets are of one size: the folder that is published says which one it is.
    v2 = [(f"{number}.jpeg", number % 1000) for number in range(10_000)]
    for name, dataset in (("matched-frequency", "imagenet-v2"), ("threshold0.7", None), ("top-images", None)):
        assert listed(tmp_path / f"imagenetv2-{name}-format-val" / "l.txt", v2, write_picture).dataset == dataset
    for dataset, subset in class_subsets().items():
        few = [(f"{number}.jpg", sorted(subset)[number % 200]) for number in range(DATASETS[dataset].images)]
        assert listed(tmp_path / dataset / "list.txt", few, write_picture).dataset == dataset
        assert listed(tmp_path / dataset / "list.txt", few[1:], write_picture).dataset is None


def test_a_sample_of_a_published_set_stays_one(tmp_path: Path, write_picture: WritePicture) -> None:
    sketch = [(f"sketch_{number}.JPEG", number % 1000) for number in range(50_889)]
    whole = listed(tmp_path / "list.txt", sketch, write_picture)
    assert stratified_sample(whole, 10).dataset == "imagenet-sketch"
