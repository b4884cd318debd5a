"""Which files a SOURCE means: folders, prefixes, patterns, lists, one file; each pinned, none twice."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count

from csv2kafka.errors import Denied, SourceMissing, UsageError
from csv2kafka.fleet.listing import find
from csv2kafka.sources import open_source
from csv2kafka.sources.s3 import make_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TREE = ("b.csv", "a.csv", "deep/er/c.csv", "_SUCCESS", ".hidden.csv", "deep/_tmp/x.csv", ".git/y.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of as many bytes as their names have characters."""
    for name in TREE:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * len(name))
    return tmp_path / "in"


def names(source: str | Path, below: Path) -> list[str]:
    return [Path(found.uri.removeprefix("file://")).relative_to(below).as_posix() for found in find(str(source))]


class TestOnDisk:
    @pytest.mark.parametrize("end", ["", "/"])
    def test_a_folder_is_all_below_it_but_what_is_hidden(self, folder: Path, end: str) -> None:
        assert names(f"{folder}{end}", folder) == ["a.csv", "b.csv", "deep/er/c.csv"]

    def test_many_come_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        wanted = [f"{number:03}.csv" for number in range(50)]
        for name in random.Random(1).sample(wanted, 50):
            (tmp_path / name).touch()
        for source in (tmp_path, tmp_path / "*.csv"):
            assert names(source, tmp_path) == wanted

    def test_a_folder_of_a_hidden_folder_counts(self, folder: Path) -> None:
        assert names(folder / ".git", folder) == [".git/y.csv"]

    def test_each_is_pinned(self, folder: Path) -> None:
        found = find(str(folder))
        assert [source.size_bytes for source in found] == [5, 5, 13]
        assert found[1] == open_source(str(folder / "b.csv")).identity

    def test_a_pattern(self, folder: Path) -> None:
        assert names(folder / "[ab].csv", folder) == ["a.csv", "b.csv"]
        assert names(folder / "deep/*/?.csv", folder) == ["deep/_tmp/x.csv", "deep/er/c.csv"]
        assert names(folder / "**/*.csv", folder) == ["a.csv", "b.csv", "deep/_tmp/x.csv", "deep/er/c.csv"]
        assert names(folder / "*", folder) == ["_SUCCESS", "a.csv", "b.csv"]  # folders are no files

    def test_a_file_whose_name_looks_like_a_pattern(self, folder: Path) -> None:
        (folder / "[b].csv").write_text("x")
        assert names(folder / "[b].csv", folder) == ["[b].csv"]

    def test_one_file_hidden_or_not(self, folder: Path) -> None:
        assert names(folder / "a.csv", folder) == ["a.csv"]
        assert names(folder / ".hidden.csv", folder) == [".hidden.csv"]
        assert names((folder / "a.csv").as_uri(), folder) == ["a.csv"]

    def test_one_that_is_not_there(self, folder: Path) -> None:
        with pytest.raises(SourceMissing, match=r"gone\.csv"):
            find(str(folder / "gone.csv"))

    def test_nothing(self, folder: Path) -> None:
        empty = folder / "empty"
        empty.mkdir()
        for source in (str(empty), str(folder / "*.tsv")):
            with pytest.raises(SourceMissing) as refused:
                find(source)
            assert refused.value.message == f"there is no file at {source}"
            assert "End a folder or prefix with a slash" in refused.value.hint


class TestLists:
    @pytest.mark.parametrize("name", ["files.txt", "files.manifest"])
    def test_a_line_for_each_in_the_lists_order(self, folder: Path, name: str) -> None:
        lines = [
            "# all of January",
            "",
            "  b.csv  ",
            str(folder / "a.csv"),
            (folder / "_SUCCESS").as_uri(),
            "deep/er/c.csv",
        ]
        (folder / name).write_text("\r\n".join(lines))
        assert names(folder / name, folder) == ["b.csv", "a.csv", "_SUCCESS", "deep/er/c.csv"]

    def test_none_twice_however_it_is_spelled(self, folder: Path) -> None:
        lines = (
            "b.csv",
            "a.csv",
            "b.csv",
            "./a.csv",
            "deep/../b.csv",
            str(folder / "a.csv"),
            (folder / "b.csv").as_uri(),
        )
        (folder / "files.txt").write_text("\n".join(lines))
        assert names(folder / "files.txt", folder) == ["b.csv", "a.csv"]

    def test_a_list_in_this_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "files.txt").write_text("a.csv\n")
        monkeypatch.chdir(folder)
        assert names("files.txt", folder) == ["a.csv"]

    def test_one_of_them_missing_is_named(self, folder: Path) -> None:
        (folder / "files.txt").write_text("a.csv\ngone.csv\n")
        with pytest.raises(SourceMissing, match=r"gone\.csv"):
            find(str(folder / "files.txt"))

    def test_an_empty_one_and_none(self, folder: Path) -> None:
        (folder / "files.txt").write_text("# nothing yet\n")
        with pytest.raises(SourceMissing, match="there is no file at "):
            find(str(folder / "files.txt"))
        with pytest.raises(SourceMissing, match=r"other\.txt"):
            find(str(folder / "other.txt"))


@pytest.fixture(scope="class")
def s3() -> Iterator[S3Client]:
    with mock_aws():
        client = make_client()
        yield client
        client.close()


class TestOnS3:
    @pytest.fixture
    def bucket(self, s3: S3Client) -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        s3.create_bucket(Bucket=name)
        for key in (*TREE, "other.csv", "deep/"):
            s3.put_object(Bucket=name, Key=f"in/{key}" if key != "other.csv" else key, Body=b"x" * len(key))
        return name

    def keys(self, bucket: str, source: str) -> list[str]:
        return [found.uri.removeprefix(f"s3://{bucket}/") for found in find(f"s3://{bucket}/{source}")]

    def test_a_prefix_is_all_below_it_but_what_is_hidden(self, bucket: str) -> None:
        assert self.keys(bucket, "in/") == ["in/a.csv", "in/b.csv", "in/deep/er/c.csv"]
        assert self.keys(bucket, "") == ["in/a.csv", "in/b.csv", "in/deep/er/c.csv", "other.csv"]

    def test_a_pattern(self, bucket: str) -> None:
        assert self.keys(bucket, "in/?.csv") == ["in/a.csv", "in/b.csv"]
        assert self.keys(bucket, "i*/deep/*/[a-d].csv") == ["in/deep/er/c.csv"]
        assert self.keys(bucket, "*.csv") == ["other.csv"]  # a star stands for no slash
        assert self.keys(bucket, "in/*") == ["in/_SUCCESS", "in/a.csv", "in/b.csv"]  # as on disk
        assert self.keys(bucket, "in/.*.csv") == ["in/.hidden.csv"]

    def test_two_stars_are_refused(self, bucket: str) -> None:
        with pytest.raises(UsageError, match=r"\*\* has no meaning on S3"):
            find(f"s3://{bucket}/in/**/c.csv")

    def test_one_file(self, bucket: str) -> None:
        assert self.keys(bucket, "in/_SUCCESS") == ["in/_SUCCESS"]

    def test_nothing(self, bucket: str) -> None:
        for source in ("out/", "in/*.tsv"):
            with pytest.raises(SourceMissing, match=f"there is no file at s3://{bucket}/"):
                find(f"s3://{bucket}/{source}")

    def test_a_prefix_without_its_slash_is_a_file_that_is_not_there(self, bucket: str) -> None:
        with pytest.raises(SourceMissing, match=f"s3://{bucket}/in does not exist"):
            find(f"s3://{bucket}/in")

    def test_a_list_beside_its_files(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="in/files.txt", Body=f"b.csv\ns3://{bucket}/other.csv\n".encode())
        assert self.keys(bucket, "in/files.txt") == ["in/b.csv", "other.csv"]

    def test_each_is_pinned_to_its_version(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        version = s3.put_object(Bucket=bucket, Key="in/a.csv", Body=b"new")
        first, *_ = find(f"s3://{bucket}/in/")
        assert (first.size_bytes, first.etag, first.version_id) == (3, version["ETag"], version["VersionId"])

    def test_more_than_a_page(self, s3: S3Client, bucket: str) -> None:
        wanted = [f"many/{number:04}.csv" for number in range(1_003)]
        for key in wanted:
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        assert self.keys(bucket, "many/") == wanted

    def test_no_such_bucket(self, s3: S3Client) -> None:
        with pytest.raises(SourceMissing, match="the bucket of s3://nowhere-at-all/in/ does not exist"):
            find("s3://nowhere-at-all/in/")

    @pytest.mark.parametrize("source", ["s3:///in/", "s3://"])
    def test_no_bucket_named(self, s3: S3Client, source: str) -> None:
        with pytest.raises(UsageError):
            find(source)


@mock_aws
@set_initial_no_auth_action_count(3)
def test_a_bucket_that_may_not_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    iam = boto3.client("iam")
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    boto3.client("s3").create_bucket(Bucket="closed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    for name in ("AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)

    with pytest.raises(Denied, match="s3://closed/in/ may not be read: AccessDenied") as refused:
        find("s3://closed/in/")

    assert "s3:ListBucket on the bucket" in refused.value.hint
