"""The catalogue of bad files: everything a reader of checkpoints must refuse, and with which error."""

from __future__ import annotations

from r2convert.checkpoint.formats.not_checkpoints import not_checkpoints
from r2convert.selftest.bad_file import BadFile
from r2convert.selftest.bad_legacy_files import bad_legacy_files
from r2convert.selftest.bad_paddle_files import bad_paddle_files
from r2convert.selftest.bad_pickles import bad_pickles
from r2convert.selftest.bad_safetensors_files import bad_safetensors_files
from r2convert.selftest.bad_zip_files import bad_zip_files


def bad_files() -> tuple[BadFile, ...]:
    """Return the whole catalogue."""
    return (
        *not_checkpoints(),
        *bad_zip_files(),
        *bad_pickles(),
        *bad_legacy_files(),
        *bad_safetensors_files(),
        *bad_paddle_files(),
    )
