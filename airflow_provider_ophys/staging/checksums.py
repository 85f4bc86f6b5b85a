"""The checksums by which S3 and we know that we speak of the same bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

# Only publication imports this module, and operators import it inside execute().
from awscrt import checksums

CRC64_BYTES = 8


@dataclass(frozen=True, slots=True)
class Digest:
    """
    What S3 says of an object with the same content.

    :param crc64nvme: CRC64NVME of the whole content, in base64.
    :param etag: The ETag that a bucket without its own encryption keys gives: the MD5, or, of what is sent in
        several parts, the MD5 of their MD5s and their number.
    """

    crc64nvme: str
    etag: str


def crc64nvme(content: bytes) -> int:
    """Compute the checksum that S3 can verify for an object as a whole, however many parts it was sent in."""
    return int(checksums.crc64nvme(content))


def written_crc64nvme(content: bytes) -> str:
    """Compute it of all of a small content, as S3 writes it."""
    return combined_crc64nvme([(crc64nvme(content), len(content))])


def read_crc64nvme(written: str) -> int:
    """
    Read one that S3 wrote.

    :raises ValueError: If it is none.
    """
    content = base64.b64decode(written, validate=True)
    if len(content) != CRC64_BYTES:
        raise ValueError(f"{written!r} is no CRC64NVME")
    return int.from_bytes(content, "big")


def combined_crc64nvme(parts: Sequence[tuple[int, int]]) -> str:
    """
    Join the checksums of consecutive parts into that of the whole, as S3 writes it.

    :param parts: Checksum and size of each, in order.
    """
    whole, whole_size = parts[0]
    for part, size in parts[1:]:
        whole = checksums.combine_crc64nvme(whole, part, size)
        whole_size += size
    return base64.b64encode(whole.to_bytes(8, "big")).decode()


def md5(content: bytes) -> bytes:
    """Compute the MD5 that S3 uses as ETag."""
    return hashlib.md5(content, usedforsecurity=False).digest()


def digest_of(content: bytes) -> Digest:
    """Compute that of a small file's content."""
    return digest([(crc64nvme(content), len(content), md5(content))])


def digest(parts: Sequence[tuple[int, int, bytes]]) -> Digest:
    """
    Join what is known of a file's parts into its digest.

    :param parts: Checksum, size and MD5 of each, in order.
    """
    crc = combined_crc64nvme([(checksum, size) for checksum, size, _ in parts])
    if len(parts) == 1:
        return Digest(crc, parts[0][2].hex())
    return Digest(crc, f"{md5(b''.join(part_md5 for _, _, part_md5 in parts)).hex()}-{len(parts)}")
