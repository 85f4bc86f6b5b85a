"""YAML and JSON files that people write, read within bounds: a few hundred bytes can stand for gigabytes."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from yaml.constructor import SafeConstructor

from airflow_provider_ophys.exceptions import MetadataError, is_passing, unreadable

MOST_BYTES = 4 * 2**20
MOST_DEPTH = 40
# Values, and each 64 characters of a text beyond the first, with all that aliases repeat.
MOST_VALUES = 200_000
CHARACTERS_PER_VALUE = 64
# What YAML takes for a date.
DATE = "tag:yaml.org,2002:timestamp"
INTEGER = "tag:yaml.org,2002:int"
# Octal, sexagesimal, with underscores.
SURPRISING_INTEGER = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-9_]+)+|[0-9]+_[0-9_]*)")
NOT_REGULAR = "it is no regular file"
# Of a key, in messages.
LONGEST_KEY = 100


def read_document(path: Path, kind: str = "metadata file", key: str = "NWBFile") -> dict[str, Any]:
    """
    Read a YAML or JSON file that holds a mapping.

    :param path: JSON if it ends in ``.json``.
    :param kind: What the file is, in messages.
    :param key: One that such a file has, in messages.
    :raises MetadataError: If it is missing, no regular file, neither YAML nor JSON, too large, no mapping, or has
        a key twice.
    :raises SourceAccessError: If its disk or share fails.
    """
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MetadataError(
            f"The {kind} {path} cannot be read: byte {error.start} is not UTF-8. Save it as UTF-8."
        ) from error
    except (OSError, ValueError) as error:
        if is_passing(error):
            raise unreadable(f"The {kind} {path} cannot be read: {error}.", error) from error
        raise MetadataError(f"The {kind} {path} cannot be read: {error}. Check the path.") from error
    try:
        if path.suffix.lower() == ".json":
            content = json.loads(text, object_pairs_hook=_without_duplicates)
        else:
            _check_yaml(text)
            content = _load_yaml(text)
        check_nesting(content)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise MetadataError(f"The {kind} {path} is not valid YAML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise MetadataError(f"The {kind} {path} holds no mapping. Give it keys like {key}.")
    return content


def open_regular(path: Path) -> BinaryIO:
    """
    Open a file to read it.

    :raises ValueError: If it is no regular one: a pipe without a writer would wait for ever, a device has no end.
    :raises OSError: If it cannot be opened.
    """
    # What a socket answers to being opened, a share says too.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(NOT_REGULAR)
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise ValueError(NOT_REGULAR)
    return stream


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """
    Read a file that people write.

    :raises ValueError: If it is larger, or no regular one.
    :raises OSError: If it cannot be read, or not all that it has by its size.
    """
    with open_regular(path) as stream:
        num_bytes = os.fstat(stream.fileno()).st_size
        content = stream.read(most_bytes + 1)
    if len(content) < min(num_bytes, most_bytes):
        raise OSError(errno.EIO, f"nothing comes at byte {len(content):,} of {num_bytes:,}")
    if len(content) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes / 2**20:.0f} MiB")
    return content


def _check_yaml(text: str) -> None:
    """
    Count what a document will be before it is made: an alias of aliases of aliases grows with each of them.

    :raises ValueError: If it is too deep or too large, or an alias is of what it is in.
    """
    sizes: dict[str, int] = {}
    open_ones: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, 1))
            if len(open_ones) > MOST_DEPTH:
                raise ValueError(_too_deep())
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_ones.pop()
        elif isinstance(event, yaml.NodeEvent):
            anchor, size = _measure(event, sizes)
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if open_ones:
            outer, of_outer = open_ones[-1]
            open_ones[-1] = (outer, of_outer + size)
            size = of_outer + size
        if size > MOST_VALUES:
            raise ValueError(f"with its aliases it holds more than {MOST_VALUES:,} values")


def _measure(event: yaml.NodeEvent, sizes: dict[str, int]) -> tuple[str | None, int]:
    """Return what a text is called, if it is, and how much it or what an alias stands for counts."""
    if isinstance(event, yaml.ScalarEvent):
        return event.anchor, 1 + len(event.value) // CHARACTERS_PER_VALUE
    if event.anchor not in sizes:
        raise ValueError(f"the alias *{event.anchor} is of nothing that is complete before it")
    return None, sizes[event.anchor]


def _load_yaml(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        document = loader.get_single_node()
        if document is None:
            return None
        _check_nodes(document)
        return loader.construct_document(document)
    finally:
        loader.dispose()


def _check_nodes(document: yaml.Node) -> None:
    """
    Check that no mapping has a key twice, of which YAML's loader takes the last without a word; dates and numbers.

    :raises ValueError: If one has, or if there is no such day or hour; names the key and the line.
    """
    todo, seen = [("", document)], set[int]()
    for where, node in todo:  # which grows meanwhile
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode) and node.tag == DATE:
            _check_date(where.rstrip("."), node)
        if isinstance(node, yaml.ScalarNode) and node.tag == INTEGER:
            _check_integer(where.rstrip("."), node)
        if isinstance(node, yaml.SequenceNode):
            todo += [(f"{where}{number}.", item) for number, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            name, line = f"{where}{str(key.value)[:LONGEST_KEY]}", key.start_mark.line + 1
            todo.append((f"{name}.", value))
            # The loader says itself that a key may be nothing else.
            if isinstance(key, yaml.ScalarNode):
                if first := lines.get((key.tag, key.value)):
                    raise ValueError(_twice(name, f", in line {first} and in line {line}"))
                lines[key.tag, key.value] = line


def _check_date(name: str, node: yaml.ScalarNode) -> None:
    try:
        SafeConstructor().construct_yaml_timestamp(node)
    except ValueError as error:
        raise ValueError(
            f"{name} in line {node.start_mark.line + 1} is {node.value}, and there is no such date ({error}). "
            "Correct it."
        ) from error


def _check_integer(name: str, node: yaml.ScalarNode) -> None:
    """YAML 1.1 reads ``012`` as 10, ``12:30`` as 750 and ``2024_01`` as 202401, of which nobody thinks."""
    if SURPRISING_INTEGER.fullmatch(node.value):
        number = SafeConstructor().construct_yaml_int(node)
        raise ValueError(
            f"{name} in line {node.start_mark.line + 1} is {node.value}, which YAML reads as the number {number}. "
            f'Write it in quotes if it is a text: "{node.value}"; else write {number}'
        )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for key, value in pairs:
        if key in known:
            raise ValueError(_twice(key[:LONGEST_KEY]))
        known[key] = value
    return known


def _twice(key: str, lines: str = "") -> str:
    return f"it has {key} twice{lines}. Keep one of them"


def check_nesting(value: object) -> None:
    """
    Check that mappings and lists are not nested too deeply for those who go through them.

    :raises ValueError: If they are.
    """
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
        if len(level) > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    raise ValueError(_too_deep())


def _inside(value: object) -> list[Any]:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [one for one in inner if isinstance(one, (Mapping, list, tuple))]


def _too_deep() -> str:
    return f"it is nested more than {MOST_DEPTH} levels deep"
