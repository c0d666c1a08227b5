"""The check of a data directory before anything is started that writes to it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from streams.runtime.errors import CONFIGURATION, WorkerError

SETTING = "SEATFLOW_DATA_DIR or --data-dir"


def check_directory(path: Path, files: Iterable[str] = (), named_by: str = SETTING) -> None:
    """Makes the directory if it is missing, and checks that it and its files can be written.

    ``files``: names of files in it that are written if they exist. ``named_by``: what to change.
    Raises: WorkerError, with the path and the remedy.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise _unusable(path, str(why), named_by) from None
    for name in files:
        if (path / name).exists() and not os.access(path / name, os.R_OK | os.W_OK):
            raise _unusable(path, f"{name} may not be written", named_by)


def _unusable(path: Path, why: str, named_by: str) -> WorkerError:
    return WorkerError(
        f"the data directory {path.resolve()} cannot be used ({why}): make it writable for this"
        f" user, or name another with {named_by}",
        CONFIGURATION,
    )
