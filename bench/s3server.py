"""A real S3 server on this machine for benchmarks: versitygw on a temporary folder, or moto's server without Go.

    with S3Server() as server:
        subprocess.run([...], env=os.environ | server.environment)

Only the server: what is measured against it lives elsewhere. As a program it serves until its standard input ends.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import platformdirs

from csv2kafka.devbroker import die_with_parent

HOST = "127.0.0.1"
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
BUILD_LIMIT_S = 900.0
START_LIMIT_S = 60.0


class S3Server:
    """`program` says which server runs, `endpoint_url` where, `environment` how AWS clients reach it."""

    def __init__(self, *, use_moto: bool = False) -> None:
        """Start the server; the first time that builds versitygw (two minutes). Raises RuntimeError."""
        gateway = None if use_moto else find_versitygw()
        self.program = "moto" if gateway is None else "versitygw"
        port = free_port()
        self.endpoint_url = f"http://{HOST}:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "csv2kafka",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._folder = tempfile.TemporaryDirectory(prefix="csv2kafka-s3-")
        root = Path(self._folder.name)
        command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
        if gateway is not None:
            for name in ("objects", "versions"):
                (root / name).mkdir()
            command = [str(gateway), "--port", f"{HOST}:{port}", "--quiet", "--keep-alive", "posix"]
            command += ["--versioning-dir", str(root / "versions"), str(root / "objects")]
        self._log = root / "log"
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    die_with_parent(command),
                    env=os.environ
                    | {
                        "ROOT_ACCESS_KEY": self.environment["AWS_ACCESS_KEY_ID"],
                        "ROOT_SECRET_KEY": self.environment["AWS_SECRET_ACCESS_KEY"],
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            self._wait_until_up(port)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Kill the server and remove its objects."""
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_until_up(self, port: int) -> None:
        give_up_s = time.monotonic() + START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < give_up_s:
            try:
                socket.create_connection((HOST, port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.program} did not start:\n{self._log.read_text(errors='replace')[-2000:]}")


def find_versitygw() -> Path | None:
    """The program from PATH or from an earlier build, else built now; None where there is no Go to build it."""
    cache = platformdirs.user_cache_path("csv2kafka") / "bench" / VERSITYGW.rpartition("@")[2]
    found = shutil.which("versitygw") or shutil.which("versitygw", path=str(cache))
    if found is None and shutil.which("go") is not None:
        print(f"building versitygw into {cache}, once ...", file=sys.stderr)
        build = subprocess.run(
            ["go", "install", VERSITYGW],
            env=os.environ | {"GOBIN": str(cache)},
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT_S,
            check=False,
        )
        found = shutil.which("versitygw", path=str(cache))
        if found is None:
            print(f"no versitygw, moto's server instead: {build.stderr[-500:]}", file=sys.stderr)
    return Path(found) if found else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    with S3Server(use_moto="--moto" in sys.argv[1:]) as server:
        print(json.dumps({"program": server.program, "pid": server.pid} | server.environment), flush=True)
        sys.stdin.read()
