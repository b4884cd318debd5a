"""What reading costs: MB/s, CPU seconds per GB and peak memory of a source that does nothing but read.

    python bench/source_speed.py [--mb 2000] [--runs 3] [--local FOLDER]

Reads from a real S3 server (bench/s3server.py), or a file in FOLDER, each time in a process of its own. The server runs
on the same cores: its share of them is part of MB/s, not of the CPU figure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from s3server import S3Server

from csv2kafka.sources import open_source

BUCKET, KEY = "bench", "data.csv"


def read_once(uri: str) -> dict[str, float]:
    """In the measured process: read everything, count, and say what it took. Opening and imports stand apart."""
    with open_source(uri) as source:
        idle_mb = peak_mb()
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        size_bytes = sum(len(chunk) for chunk in source.read_from(0))
        elapsed_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
        assert size_bytes == source.identity.size_bytes
    return {
        "mb_per_s": size_bytes / 1e6 / elapsed_s,
        "cpu_s_per_gb": cpu_s / (size_bytes / 1e9),
        "peak_mb": peak_mb(),
        "idle_mb": idle_mb,
    }


def peak_mb() -> float:
    """Of this program alone: getrusage's figure begins at its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(uri: str, runs: int, environment: dict[str, str]) -> None:
    results = []
    for _ in range(runs):
        command = [sys.executable, __file__, "--read", uri]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=600
        )
        results.append(json.loads(done.stdout))
    for name in results[0]:
        values = sorted(result[name] for result in results)
        print(f"{name:14} median {statistics.median(values):9.2f}   ({values[0]:.2f} to {values[-1]:.2f})")


def write_sample(folder: Path, megabytes: int) -> Path:
    path = folder / KEY
    block = b"".join(b"%d,name %d,some text,2026-01-01T00:00:00Z\n" % (row, row) for row in range(20_000))
    with path.open("wb") as file:
        while file.tell() < megabytes * 1_000_000:
            file.write(block)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--local", type=Path, metavar="FOLDER")
    parser.add_argument("--read", metavar="URI", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read_once(options.read)))
        return
    with tempfile.TemporaryDirectory(dir=options.local) as folder:
        path = write_sample(Path(folder), options.mb)
        if options.local:
            print(f"{options.mb} MB from {path}, in the page cache")
            measure(str(path), options.runs, {})
            return
        with S3Server() as server:
            upload(path, server)
            print(f"{options.mb} MB from {server.program}")
            measure(f"s3://{BUCKET}/{KEY}", options.runs, server.environment)


def upload(path: Path, server: S3Server) -> None:
    import boto3  # noqa: PLC0415 - the reading process has it from the source alone

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server.environment["AWS_SECRET_ACCESS_KEY"],
        region_name=server.environment["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=BUCKET)
    client.upload_file(str(path), BUCKET, KEY)


if __name__ == "__main__":
    main()
