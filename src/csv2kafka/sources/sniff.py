"""Refuses, by their first bytes, files that cannot be read as text: compressed ones and UTF-16. No I/O here."""

from __future__ import annotations

from csv2kafka.errors import BadData

SNIFF_BYTES = 16

# Only signatures that no CSV can begin with: "BZh" or "PK" alone may well be a column's name.
_COMPRESSED = (
    ((b"\x1f\x8b",), "gzip", "gunzip --keep"),
    ((b"\x28\xb5\x2f\xfd",), "Zstandard", "unzstd"),
    (tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)), "bzip2", "bunzip2 --keep"),
    ((b"\xfd7zXZ\x00",), "xz", "unxz --keep"),
    ((b"\x04\x22\x4d\x18",), "LZ4", "unlz4"),
    ((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"), "zip", "unzip"),
)
_WIDE_TEXT = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def refuse_unreadable(uri: str, first_bytes: bytes) -> None:
    """Raise BadData when an object that begins with `first_bytes` (SNIFF_BYTES of them will do) is no plain text."""
    for signatures, name, command in _COMPRESSED:
        if first_bytes.startswith(signatures):
            raise BadData(
                f"{uri} is compressed ({name}), which is not supported yet",
                hint=f"download it if it is remote, decompress it into a file of its own with `{command} FILE`, "
                "and load that file (or upload it first)",
            )
    for mark, encoding in _WIDE_TEXT:
        if first_bytes.startswith(mark):
            raise BadData(
                f"{uri} is {encoding} text; only UTF-8 can be loaded",
                hint=f"convert it first: `iconv -f {encoding} -t UTF-8 FILE > FILE.utf8.csv`",
            )
