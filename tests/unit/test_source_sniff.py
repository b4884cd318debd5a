"""How to read an object, by its first bytes, its name and the options: what wins, what is refused, what is said."""

from __future__ import annotations

import gzip
import logging

import pytest

from csv2kafka.errors import BadData
from csv2kafka.model import TextFormat
from csv2kafka.sources.decompress import CODECS
from csv2kafka.sources.sniff import SNIFF_BYTES, codec_of, format_of
from csv2kafka.sources.text import as_text
from tests.support.compressed import COMPRESS, MemorySource

BODY = b"id,name\n1,a\n"
SUFFIXES = {
    "gzip": (".gz", ".GZ", ".gzip", ".bgz"),
    "zstd": (".zst", ".zstd"),
    "bz2": (".bz2",),
    "xz": (".xz",),
    "lz4": (".lz4",),
}


@pytest.mark.parametrize("codec", CODECS)
def test_first_bytes_tell_whatever_the_name(codec: str, caplog: pytest.LogCaptureFixture) -> None:
    head = COMPRESS[codec](BODY)[:SNIFF_BYTES]
    for suffix in (".csv", "", *SUFFIXES[codec]):
        assert codec_of(f"s3://b/data{suffix}", head) == codec
    assert not caplog.records

    other = next(name for name in CODECS if name != codec)
    assert codec_of("data" + SUFFIXES[other][0], head) == codec
    assert f"named like {other}, but its first bytes say {codec}" in caplog.text


@pytest.mark.parametrize("codec", CODECS)
def test_plain_text_with_a_suffix_is_plain(codec: str, caplog: pytest.LogCaptureFixture) -> None:
    """As S3 and browsers leave it that decompress on the way."""
    with caplog.at_level(logging.WARNING):
        assert codec_of("data.csv" + SUFFIXES[codec][0], BODY) is None
    assert "plain text" in caplog.text


@pytest.mark.parametrize("codec", CODECS)
def test_cut_short_in_its_first_bytes_is_not_plain(codec: str) -> None:
    whole = COMPRESS[codec](BODY)
    for size in range(len(whole)):
        with pytest.raises(BadData, match="cut short"):
            list(as_text(MemorySource(whole[:size], uri="data" + SUFFIXES[codec][0]))[0].read_from(0))


@pytest.mark.parametrize("codec", CODECS)
def test_an_empty_text_may_be_compressed(codec: str) -> None:
    source, _ = as_text(MemorySource(COMPRESS[codec](b"")))
    assert list(source.read_from(0)) == []


def test_options_beat_what_is_seen() -> None:
    assert codec_of("data.gz", COMPRESS["gzip"](BODY)[:SNIFF_BYTES], "none") is None
    assert codec_of("data.csv", b"", "gzip") == "gzip"
    assert codec_of("data.csv", BODY, "gzip") == "gzip", "and reading says what is wrong with it"
    with pytest.raises(BadData, match="compressed with zstd, not with gzip") as refused:
        codec_of("data.csv", COMPRESS["zstd"](BODY)[:SNIFF_BYTES], "gzip")
    assert "--decompress zstd" in refused.value.hint


@pytest.mark.parametrize("name", ["data", "data.zst", "data.lz4"])
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("skipped_bytes", [4, 100])
def test_a_skippable_frame_first(name: str, codec: str, skipped_bytes: int) -> None:
    """pzstd begins with one, zstd and LZ4 have the same: what follows tells, or the name."""
    raw = b"\x50\x2a\x4d\x18" + skipped_bytes.to_bytes(4, "little") + bytes(skipped_bytes) + COMPRESS[codec](BODY)
    by_name = "lz4" if name.endswith(".lz4") else "zstd"
    expected = codec if skipped_bytes == 4 else by_name
    assert codec_of(name, raw[:SNIFF_BYTES]) == expected


@pytest.mark.parametrize("magic", [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"])
def test_zip_is_refused_with_a_way_out(magic: bytes) -> None:
    with pytest.raises(BadData, match="zip archive") as refused:
        codec_of("data.zip", magic + bytes(12))
    assert "unzip" in refused.value.hint


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-le", "utf-32-be"])
def test_utf32_is_refused_with_a_way_out(encoding: str) -> None:
    mark = {"utf-32-le": b"\xff\xfe\0\0", "utf-32-be": b"\0\0\xfe\xff"}.get(encoding, b"")
    raw = mark + BODY.decode().encode(encoding)
    for source in (MemorySource(raw), MemorySource(gzip.compress(raw))):
        with pytest.raises(BadData, match="UTF-32") as refused:
            as_text(source)
        assert "iconv" in refused.value.hint


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_asks_for_the_option(encoding: str) -> None:
    raw = BODY.decode().encode(encoding)
    with pytest.raises(BadData, match="looks like UTF-16") as refused:
        as_text(MemorySource(raw))
    assert f"--encoding {encoding}" in refused.value.hint
    assert as_text(MemorySource(raw), encoding=encoding)[1] == TextFormat(None, encoding)
    assert as_text(MemorySource(raw), encoding="utf-8")[1] == TextFormat()


def test_compressed_twice_is_refused() -> None:
    with pytest.raises(BadData, match="compressed twice"):
        as_text(MemorySource(gzip.compress(gzip.compress(BODY))))


@pytest.mark.parametrize(
    ("first_text", "encoding", "expected"),
    [
        (BODY, None, "utf-8"),
        (b"\xef\xbb\xbf" + BODY, None, "utf-8"),
        (b"\xff\xfei\0", None, "utf-16-le"),
        (b"\xfe\xff\0i", None, "utf-16-be"),
        (b"", None, "utf-8"),
        (b"a", None, "utf-8"),
        (b"\xff\xfei\0", "latin-1", "latin-1"),
        (b"\xff\xfei\0", "utf-8", "utf-8"),
        (b"\xff\xfei\0", "utf-16", "utf-16-le"),
        (b"\xfe\xff\0i", "utf-16", "utf-16-be"),
        (b"i\0d\0", "utf-16", "utf-16-le"),
        (b"\xef\xbb\xbf" + BODY, "utf-16", "utf-16-le"),
        (b"\xfe\xff\0i", "utf-16-le", "utf-16-le"),
        (b"\xef\xbb\xbf" + BODY, "cp1252", "cp1252"),
    ],
)
def test_a_mark_decides_unless_the_option_does(first_text: bytes, encoding: str | None, expected: str) -> None:
    assert format_of("data", "gzip", first_text, encoding) == TextFormat("gzip", expected)


@pytest.mark.parametrize(
    "body", [b"BZh,id\n1,2\n", b"PK,name\n", b"\xef\xbb\xbfid\n1\n", b"\xc3\xa9\n", b"\n", b"a\0b\n"]
)
def test_what_only_begins_like_it_is_text(body: bytes) -> None:
    assert as_text(MemorySource(body))[1] == TextFormat()
