"""Parquet shards as Hugging Face and others have them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from r2convert.errors import DatasetError, UsageError
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import class_names, synsets, validation_labels

LABELS = validation_labels()
IMAGE = {"_type": "Image"}
CLASSES = {"_type": "ClassLabel", "names": ["cat", "dog", "eel"]}
Table = Callable[..., Path]


@pytest.fixture
def parquet_folder(tmp_path: Path, pictures: dict[int, bytes]) -> Path:
    """Shards as Hugging Face has them, two row groups each."""
    folder = tmp_path / "hf" / "data"
    folder.mkdir(parents=True)
    numbers = sorted(pictures)
    for shard in range(2):
        some = numbers[shard::2]
        rows = [{"bytes": pictures[n], "path": f"ILSVRC2012_val_{n:08d}_{synsets()[LABELS[n - 1]]}.JPEG"} for n in some]
        table = pyarrow.table({"image": rows, "label": [LABELS[n - 1] for n in some]})
        name = f"validation-{shard:05d}-of-00002.parquet"
        pyarrow.parquet.write_table(table, folder / name, row_group_size=max(1, len(some) // 2))
    return folder.parent


def test_parquet_shards_are_read_in_place(parquet_folder: Path, pictures: dict[int, bytes]) -> None:
    found = open_validation_set(parquet_folder)
    assert found.layout == "Parquet shards"
    assert [image.number for image in found.images] == sorted(pictures)
    for image in found.images:
        number = image.number or 0
        assert image.label == LABELS[number - 1]
        assert image.location is not None
        assert image.location.read() == pictures[number]
    one = parquet_folder / "data" / "validation-00001-of-00002.parquet"
    assert len(open_validation_set(one).images) == len(pictures) // 2
    (parquet_folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"not read")
    assert open_validation_set(parquet_folder).images == found.images


def test_the_splits_of_imagenet_as_hugging_face_has_them_are_told_apart(parquet_folder: Path) -> None:
    before = open_validation_set(parquet_folder)
    for split in ("train", "test"):
        (parquet_folder / "data" / f"{split}-00000-of-00001.parquet").write_bytes(b"not read")
    found = open_validation_set(parquet_folder)
    assert found.images == before.images
    assert found.warnings[0] == (
        "2 shards of other splits are left out: data/test-00000-of-00001.parquet, data/train-00000-of-00001.parquet"
    )


@pytest.fixture
def write_table(tmp_path: Path, pictures: dict[int, bytes]) -> Table:
    """Write a shard of three images, and what Hugging Face's ``datasets`` would say of its columns."""

    def write(columns: dict[str, object], features: object = None) -> Path:
        path = tmp_path / "hf" / "validation-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        data = [pictures[number] for number in (1, 2, 3)]
        images = {"nested": [{"bytes": each, "path": f"{place}.jpg"} for place, each in enumerate(data)], "plain": data}
        table = pyarrow.table({name: images.get(str(values), values) for name, values in columns.items()})
        described = {"huggingface": json.dumps({"info": {"features": features}})}
        pyarrow.parquet.write_table(table.replace_schema_metadata(described if features else None), path)
        return path.parent

    return write


@pytest.mark.parametrize(
    ("columns", "features"),
    [
        ({"img": "nested", "label": [2, 0, 1]}, {"img": IMAGE, "label": CLASSES}),
        ({"image": "nested", "labels": [2, 0, 1]}, {"image": IMAGE, "labels": CLASSES}),
        ({"photo": "nested", "species": [2, 0, 1], "width": [1, 2, 3]}, {"photo": IMAGE, "species": CLASSES}),
    ],
    ids=["cifar10", "beans", "names of its own"],
)
def test_parquet_files_say_their_columns_and_classes(
    columns: dict[str, object], features: object, write_table: Table, pictures: dict[int, bytes]
) -> None:
    found = open_validation_set(write_table(columns, features))
    assert found.classes == ("cat", "dog", "eel")
    assert found.warnings == ("3 classes, by index: cat, dog, eel",)
    assert [image.label for image in found.images] == [2, 0, 1]
    assert [image.location.read() for image in found.images if image.location] == [pictures[n] for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "columns",
    [
        {"image": "plain", "label": [6, 0, 1]},
        {"jpg": "nested", "cls": [6, 0, 1]},
        {"image": "nested", "label": ["n01498041", "n01440764", "n01443537"], "id": [1, 2, 3]},
    ],
    ids=["bytes alone", "from WebDataset", "WordNet ids"],
)
@pytest.mark.parametrize("features", [None, ["not", "understood"]])
def test_parquet_columns_are_told_by_type_and_name(
    columns: dict[str, object], features: object, write_table: Table, pictures: dict[int, bytes]
) -> None:
    found = open_validation_set(write_table(columns, features))
    assert found.classes == synsets()
    assert [image.label for image in found.images] == [6, 0, 1]
    assert [image.location.read() for image in found.images if image.location] == [pictures[n] for n in (1, 2, 3)]


def test_parquet_classes_called_by_wordnet_id_are_those_of_imagenet(write_table: Table) -> None:
    classes = {"_type": "ClassLabel", "names": ["n01443537", "n01440764", "n01498041"]}
    found = open_validation_set(write_table({"image": "nested", "label": [0, 1, 2]}, {"label": classes}))
    assert found.classes == synsets()
    assert [image.label for image in found.images] == [1, 0, 6]


def test_parquet_classes_in_another_order_are_refused(write_table: Table) -> None:
    columns = {"image": "nested", "label": [0, 1, 2]}
    names = list(class_names())
    features = {"label": {"_type": "ClassLabel", "names": [*names[:7], "another spelling", *names[8:]]}}
    assert open_validation_set(write_table(columns, features)).classes == synsets()
    features["label"]["names"] = sorted(names, key=str.lower)
    with pytest.raises(DatasetError, match="classes of ImageNet in another order") as caught:
        open_validation_set(write_table(columns, features))
    assert caught.value.got == "abacus as class 0"


@pytest.mark.parametrize(
    ("columns", "features", "got"),
    [
        ({"image": "nested", "species": [0, 1, 2]}, None, "no column of classes among image, species"),
        ({"bytes": [b"a"] * 3, "label": [0, 1, 2]}, None, "no column of images among bytes, label"),
        (
            {"img": "nested", "fine": [0, 1, 2], "coarse": [0, 0, 1]},
            {"img": IMAGE, "fine": CLASSES, "coarse": CLASSES},
            "several columns of classes: fine, coarse",
        ),
    ],
)
def test_parquet_columns_that_cannot_be_told_are_named(
    columns: dict[str, object], features: object, got: str, write_table: Table
) -> None:
    with pytest.raises(DatasetError, match="holds no labelled images") as caught:
        open_validation_set(write_table(columns, features))
    assert caught.value.got == got


def test_an_image_without_a_class_is_named(write_table: Table) -> None:
    with pytest.raises(DatasetError, match="have no class") as caught:
        open_validation_set(write_table({"image": "nested", "label": [0, None, 1]}))
    assert caught.value.got == "1 image without: validation-00000-of-00001.parquet/1.jpg"


def test_classes_beside_parquet_files_are_their_own(write_table: Table) -> None:
    tables = write_table({"image": "nested", "label": ["eel", "cat", "dog"]})
    (tables / "classes.txt").write_text("cat\ndog\neel\n")
    assert [image.label for image in open_validation_set(tables).images] == [2, 0, 1]


def test_damaged_parquet_is_named(parquet_folder: Path) -> None:
    shard = parquet_folder / "data" / "validation-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DatasetError, match="holds no labelled images") as caught:
        open_validation_set(parquet_folder)
    assert caught.value.where == str(shard)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": [1]}), shard)
    with pytest.raises(DatasetError, match="holds no labelled images"):
        open_validation_set(parquet_folder)
    image = [{"bytes": b"", "path": "a.jpg"}]
    pyarrow.parquet.write_table(pyarrow.table({"image": image, "label": [-1]}), shard)
    with pytest.raises(DatasetError, match="have no class") as caught:
        open_validation_set(parquet_folder)
    assert "a test split has none" in str(caught.value.expected)


def test_parquet_needs_pyarrow(parquet_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="parquet files need pyarrow") as caught:
        open_validation_set(parquet_folder)
    assert caught.value.next_step == "pip install pyarrow"
