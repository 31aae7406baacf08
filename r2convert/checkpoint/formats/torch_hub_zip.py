"""Reads torch.hub's legacy zip files: one member, itself an old `.pth`."""

from __future__ import annotations

from r2convert.checkpoint.formats.contents import Contents
from r2convert.checkpoint.formats.torch_legacy import LONGEST_MAGIC, read_torch_legacy, starts_legacy
from r2convert.checkpoint.formats.zip_directory import ZipRecord
from r2convert.checkpoint.storage import Extent, OpenFile, Storage, StorageReader
from r2convert.errors import UnsupportedCheckpointError


def read_torch_hub_zip(file: OpenFile, records: dict[str, ZipRecord]) -> Contents:
    """Describe the legacy checkpoint in an archive of one stored member.

    Raises:
        CheckpointError: the archive holds something else, or the checkpoint is damaged or unsafe.
    """
    record = next(iter(records.values())) if len(records) == 1 else None
    if record is None or not _is_legacy(file, record):
        raise UnsupportedCheckpointError(
            "this zip archive is not a checkpoint",
            where=str(file.path),
            expected="torch's records with a data.pkl, or exactly one old .pth",
            got=", ".join(f"{name!a}" for name in list(records)[:5]) or "an empty archive",
            next_step="if there is a checkpoint inside, unzip it and use that",
        )
    _require_checksum(file, record)
    contents = read_torch_legacy(file, record.offset, record.offset + record.size)
    return contents._replace(container="torch-hub-zip")


def _require_checksum(file: OpenFile, record: ZipRecord) -> None:
    """The one checksum covers pickles and storages together, so it is checked before either is believed."""
    if record.crc32:
        extent = Extent(0, record.offset, record.size)
        whole = Storage(f"record {record.name!a}", (extent,), record.size, record.crc32)
        StorageReader([file], [whole]).require_checked(0)


def _is_legacy(file: OpenFile, record: ZipRecord) -> bool:
    head = file.read(record.offset, min(record.size, LONGEST_MAGIC), record.name)
    return record.size >= LONGEST_MAGIC and starts_legacy(head) is not None
