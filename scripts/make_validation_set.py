"""Writes a stand-in validation set on which a checkpoint's top-1 and top-5 are known before they are measured.

Pictures are drawn; the checkpoint ranks the classes of each; its label is the class of a chosen rank (see
``r2convert/checks/standins.py``). The set can be laid out in any way that ``verify --imagenet`` reads. Where names
have to be official ones, each picture gets the number of a validation image that has its label.

Usage: ``python scripts/make_validation_set.py CHECKPOINT FOLDER [--as flat] [--images 48] [--top1 30] [--top5 40]``
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from r2convert.catalog import load_catalog
from r2convert.checks.standins import write_images_for
from r2convert.errors import R2ConvertError, UsageError
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets, validation_labels, validation_name
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.mapping.tables import Tables

Pictures = list[tuple[int, int, bytes]]

SHARDS = 3


def main() -> int:
    """Writes the set and prints what a measurement must find."""
    parser = argparse.ArgumentParser(description="Writes a validation set whose answer is known.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="where to write; must not exist")
    parser.add_argument("--as", dest="layout", choices=("class-folders", *LAYOUTS), default="class-folders")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--top1", type=int, default=30)
    parser.add_argument("--top5", type=int, default=40)
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f"{options.folder} exists")
    tables = Tables(load_catalog())
    try:
        with tempfile.TemporaryDirectory() as temporary:
            made = Path(temporary) / "set"
            counts = {"images": options.images, "top1_correct": options.top1, "top5_correct": options.top5}
            write_images_for(tables, options.checkpoint, made, **counts)
            if options.layout == "class-folders":
                shutil.move(made, options.folder)
            else:
                options.folder.mkdir(parents=True)
                LAYOUTS[options.layout](options.folder, give_numbers(open_validation_set(made)))
    except R2ConvertError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.folder}: {options.images} images, {options.top1} right, {options.top5} among the first five")
    return 0


def give_numbers(images: ValidationSet) -> Pictures:
    """Number, label and bytes of each picture; the numbers are those of validation images with the same labels."""
    free: dict[int, list[int]] = {}
    for number, label in enumerate(validation_labels(), 1):
        free.setdefault(label, []).append(number)
    pictures = []
    for image in images.images:
        if not free[image.label]:
            raise UsageError(
                "more pictures have one label than validation images have it",
                got=synsets()[image.label],
                next_step="ask for fewer images, or for class folders",
            )
        if image.location is not None:
            pictures.append((free[image.label].pop(), image.label, image.location.read()))
    return sorted(pictures)


def write_flat(folder: Path, pictures: Pictures) -> None:
    """All pictures in one folder, by official name."""
    for number, _, data in pictures:
        (folder / validation_name(number)).write_bytes(data)


def write_tar(folder: Path, pictures: Pictures) -> None:
    """The archive as it is published."""
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        for number, _, data in pictures:
            add(archive, validation_name(number), data)


def write_openmmlab(folder: Path, pictures: Pictures) -> None:
    """A flat folder ``val`` and ``meta/val.txt``."""
    (folder / "val").mkdir()
    (folder / "meta").mkdir()
    write_flat(folder / "val", pictures)
    rows = [f"{validation_name(number)} {label}\n" for number, label, _ in pictures]
    (folder / "meta" / "val.txt").write_text("".join(rows))


def write_shards(folder: Path, pictures: Pictures) -> None:
    """WebDataset shards."""
    for shard in range(SHARDS):
        with tarfile.open(folder / f"imagenet1k-validation-{shard:02d}.tar", "w") as archive:
            for number, label, data in pictures[shard::SHARDS]:
                key = validation_name(number).removesuffix(".JPEG")
                add(archive, f"{key}.jpg", data)
                add(archive, f"{key}.cls", str(label).encode())


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a file without owner or time, so that the same pictures give the same archive."""
    record = tarfile.TarInfo(name)
    record.size = len(data)
    archive.addfile(record, io.BytesIO(data))


LAYOUTS: dict[str, Callable[[Path, Pictures], None]] = {
    "flat": write_flat,
    "tar": write_tar,
    "openmmlab": write_openmmlab,
    "shards": write_shards,
}


if __name__ == "__main__":
    raise SystemExit(main())
