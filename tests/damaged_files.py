"""Files as a fault or a foe may leave them, drawn by Hypothesis."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

# Of ``make fuzz``; without it a few, always the same.
EXAMPLES = int(os.environ.get("OPHYS_FUZZ_EXAMPLES", "0"))
MOST_SECONDS, MOST_BYTES, LONGEST_MESSAGE = 5.0, 512 << 20, 6500

PIECES = [b"\0" * 8, b"\xff" * 8, b"\x7f" * 4, b"<", b"-1", b'"', b"&x;", b"1e999", b"NaN", b"../", b"/etc/passwd"]
NUMBERS = [b"0", b"-1", b"9" * 20, b"1e999", b"NaN", b"4294967297"]
HEADER_BYTES = 2000
HDF5 = b"\x89HDF"
NUMPY_TYPES = st.sampled_from(["i1", "u2", ">i4", "u8", "f4", "f8", "c8", "?", "S3"])
VALUES = (
    st.none()
    | st.sampled_from(["", "../../a", "1e999", "/etc/passwd", "x" * 70_000, b"\xff\xfe"])
    | st.sampled_from([-1, 0, 2**63, 1e308, np.nan])
    | st.builds(np.zeros, st.lists(st.integers(0, 5), max_size=5).map(tuple), NUMPY_TYPES)
    | st.builds(np.full, st.lists(st.integers(0, 20), max_size=3).map(tuple), st.sampled_from([-1, 2**62]))
    | st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=5), max_size=3)
)
LINKS = st.sampled_from(
    [
        h5py.SoftLink("/"),
        h5py.SoftLink("/nowhere"),
        h5py.ExternalLink("/etc/passwd", "/"),
        h5py.ExternalLink("../out/a.nwb", "/acquisition"),
    ]
)


def fuzzing(examples: int) -> settings:
    """Return how so many examples are tried, but for the smallest: finding that takes many times as long."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=not EXAMPLES,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def damage(draw: Any, file: Path) -> None:
    """Damage a file anywhere; of an HDF5 file, more often something that it has a name for."""
    content = file.read_bytes()
    if content.startswith(HDF5) and draw(st.integers(0, 2), label="a byte if 0"):
        _damage_hdf5(draw, file)
    else:
        file.write_bytes(damaged(draw, content))


def _damage_hdf5(draw: Any, file: Path) -> None:
    """Put something else where an HDF5 file has a group, an array or an attribute."""
    with h5py.File(file, "r+") as opened:
        names = ["/"]
        opened.visit(names.append)
        name = draw(st.sampled_from(names), label="name")
        attributes = sorted(opened[name].attrs)
        if attributes and draw(st.booleans(), label="an attribute"):
            attribute = draw(st.sampled_from(attributes), label="attribute")
            del opened[name].attrs[attribute]
            value = draw(VALUES, label="value")
            if value is not None:
                opened[name].attrs[attribute] = value
        elif name != "/":
            del opened[name]
            value = draw(VALUES | LINKS, label="value")
            if value is not None:
                opened[name] = value


def damaged(draw: Any, content: bytes) -> bytes:
    """Cut a file off, write other bytes over some of it, mostly where headers are, or change a number in it."""
    if not content or draw(st.integers(0, 5), label="cut if 0") == 0:
        return content[: draw(st.integers(0, len(content)), label="keep")]
    numbers = [*re.finditer(rb"\d+", content[:HEADER_BYTES] + content[-HEADER_BYTES:])]
    if numbers and draw(st.integers(0, 3), label="number if 0") == 0:
        number = draw(st.sampled_from(numbers), label="number").group()
        other = draw(st.sampled_from(NUMBERS), label="other")
        # Of a binary file the places must stay, or nothing of it is read.
        binary = b"\0" in content
        return content.replace(number, other.ljust(len(number))[: len(number)] if binary else other)
    changed = bytearray(content)
    anywhere = st.integers(0, len(content) - 1)
    headers = st.integers(0, min(HEADER_BYTES, len(content)) - 1)
    footers = st.integers(max(0, len(content) - HEADER_BYTES), len(content) - 1)
    for _ in range(draw(st.integers(1, 4), label="changes")):
        at = draw(anywhere | headers | footers, label="at")
        piece = draw(st.binary(min_size=1, max_size=8) | st.sampled_from(PIECES), label="piece")
        changed[at : at + len(piece)] = piece
    return bytes(changed)


def replace(draw: Any, file: Path, others: Sequence[bytes], *, is_named: bool = False) -> None:
    """
    Put something else where a file is.

    :param others: Contents of other files.
    :param is_named: Whether a user names this file, and so has the right to name a link to another.
    """
    kinds = ["nothing", "a folder", "a pipe", "another", "itself", *([] if is_named else ["a link"])]
    kind = draw(st.sampled_from(kinds), label="instead")
    file.unlink()
    match kind:
        case "a folder":
            file.mkdir()
        case "a pipe":
            os.mkfifo(file)
        case "a link":
            file.symlink_to("/etc/passwd")
        case "itself":
            file.symlink_to(file)
        case "another":
            file.write_bytes(draw(st.sampled_from(others), label="other"))


def restore(files: Mapping[Path, bytes]) -> None:
    """Put files back, whatever is there now."""
    for file, content in files.items():
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
        file.write_bytes(content)


def state_of(folder: Path) -> dict[Path, int]:
    """Return what is in a folder, and when it was changed."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
