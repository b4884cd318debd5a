"""Room on the disk for large measurements, looked at before anything is written."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

_ROW_BYTES = 70
_STORED_BYTES = 60  # of a row in a topic, compressed with lz4
_SPARE_BYTES = 2_000_000_000


def require_room(folder: Path, rows: int, *, copies: int = 1) -> None:
    """End the program where the file (`copies` times) and its topic would not fit. Both lie on temporary folders."""
    needed_bytes = rows * (copies * _ROW_BYTES + _STORED_BYTES) + _SPARE_BYTES
    free_bytes = min(shutil.disk_usage(place).free for place in (folder, Path(tempfile.gettempdir())))
    if free_bytes < needed_bytes:
        sys.exit(f"{needed_bytes / 1e9:.1f} GB are needed in {folder}, {free_bytes / 1e9:.1f} GB are free")
