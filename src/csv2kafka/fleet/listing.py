"""SOURCE -> the files it means: a folder or prefix, a pattern, a list of files, or one file; each pinned to a version.

Names that begin with "_" or "." are passed over in folders and prefixes, as other engines do: markers and leftovers of
whoever wrote the files.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from csv2kafka.errors import SourceMissing, UsageError
from csv2kafka.model import SourceIdentity
from csv2kafka.sources import open_source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_LISTS = (".txt", ".manifest")
_WILD = re.compile(r"[*?\[]")
_AT_A_TIME = 16  # files looked at: on S3 each look is a round trip


def find(source: str, *, region: str | None = None, profile: str | None = None) -> tuple[SourceIdentity, ...]:
    """The files that `source` means, in the order of their names, or of the list; none twice.

    source: s3://BUCKET/PREFIX/ or a folder (all files below), either with *, ? or [...] in it, a list of files (.txt or
    .manifest: a line each), or one file.
    Raises SourceMissing where there is none, and what opening each of them raises.
    """
    uris = tuple(dict.fromkeys(_uris(source, region, profile)))
    if not uris:
        raise SourceMissing(
            f"there is no file at {source}",
            hint="End a folder or prefix with a slash; names that begin with _ or . do not count.",
        )
    with ExitStack() as ready, ThreadPoolExecutor(_AT_A_TIME, "csv2kafka-look") as threads:
        client = None
        if any(map(_is_on_s3, uris)):
            from csv2kafka.sources.s3 import make_client  # noqa: PLC0415 - boto3 takes its time

            client = ready.enter_context(closing(make_client(region, profile, connections=_AT_A_TIME)))
        found = threads.map(partial(_identity, client=client), uris)
        return tuple({source.uri: source for source in found}.values())  # a path may be spelled in several ways


def _identity(uri: str, *, client: S3Client | None) -> SourceIdentity:
    with open_source(uri, client=client) as opened:
        return opened.identity


def _is_on_s3(uri: str) -> bool:
    return uri.lower().startswith("s3://")


def _uris(source: str, region: str | None, profile: str | None) -> Iterable[str]:
    if source.endswith(_LISTS):
        return _listed(source, region, profile)
    if _is_on_s3(source):
        from csv2kafka.sources.s3_listing import uris_below  # noqa: PLC0415 - boto3 takes its time

        return _below(source, partial(uris_below, region=region, profile=profile))
    if source.lower().startswith("file://"):
        return [source]
    if Path(source).is_dir():
        return _in_folder(Path(source))
    if _WILD.search(source) and not Path(source).exists():
        return sorted(found for found in glob.glob(source, recursive=True) if Path(found).is_file())
    return [source]


def _in_folder(folder: Path) -> list[str]:
    found = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(str(path) for path in found if not _is_hidden(path.relative_to(folder).parts))


def _below(source: str, uris_below: Callable[[str], Iterable[str]]) -> Iterable[str]:
    wild = _WILD.search(source)
    if wild is not None:
        if "**" in source:
            raise UsageError(
                f"{source}: ** has no meaning on S3", hint="End the prefix with a slash: all below it is meant."
            )
        pattern = source.split("/")
        return (uri for uri in uris_below(source[: wild.start()]) if _matches(uri.split("/"), pattern))
    if not source.endswith("/"):
        return [source]
    return (uri for uri in uris_below(source) if not _is_hidden(uri[len(source) :].split("/")))


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Part by part, as on disk: a star stands for no slash, and for no dot at the beginning."""
    return len(parts) == len(pattern) and all(
        fnmatchcase(part, wanted) and wanted.startswith(".") >= part.startswith(".")
        for part, wanted in zip(parts, pattern, strict=True)
    )


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(("_", ".")) for part in parts)


def _listed(source: str, region: str | None, profile: str | None) -> list[str]:
    """One a line, `#` begins a comment; a path that is not absolute counts from the list's folder."""
    with open_source(source, region=region, profile=profile) as opened:
        lines = [line.strip() for line in b"".join(opened).decode("utf-8", "surrogateescape").splitlines()]
    folder = source.rpartition("/")[0]
    named = [line for line in lines if line and not line.startswith("#")]
    return [line if "://" in line or line.startswith("/") else f"{folder}/{line}" if folder else line for line in named]
