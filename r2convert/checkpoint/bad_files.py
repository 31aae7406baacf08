"""The catalogue of bad files: everything a reader of checkpoints must refuse, and with which error."""

from __future__ import annotations

from r2convert.checkpoint.bad_file import BadFile
from r2convert.checkpoint.bad_legacy_files import bad_legacy_files
from r2convert.checkpoint.bad_paddle_files import bad_paddle_files
from r2convert.checkpoint.bad_pickles import bad_pickles
from r2convert.checkpoint.bad_safetensors_files import bad_safetensors_files
from r2convert.checkpoint.bad_zip_files import bad_zip_files
from r2convert.checkpoint.not_checkpoints import not_checkpoints


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
