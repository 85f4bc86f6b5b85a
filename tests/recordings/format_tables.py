"""
The tables of docs/formats.md, made from recordings of every maker: ``python tests/recordings/format_tables.py``.

What stands in them is what was seen of the recordings that ``recording_makers`` makes; what other software fills
of them is in :data:`NEUROCONV`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from recording_makers import MAKERS, Made

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.extractors import EXTRAS, open_imaging, open_segmentation
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.formats import FORMATS

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"
LONG_AGO = 1_700_000_000
NAMES = [name for formats in FORMATS.values() for name in formats]

# Columns of the table of header facts -> what the paths of their fields match, and words in descriptions.
FACTS = {
    "start": (r"NWBFile\.session_start_time", ()),
    "plane's rate": (r"imaging_rate", ()),
    "pixel size": (r"grid_spacing", ()),
    "field of view": (r"field_of_view", ()),
    "depth, position": (r"origin_coords", ("Depth", "Translation", "Focus", "focus")),
    "line rate": (r"scan_line_rate", ()),
    "device, software": (r"Devices\.|DeviceModels\.", ("suite2p", "CaImAn", "EXTRACT")),
    "objective, zoom": (r"^$", ("Objective", "Zoom", "Magnification", "Probe")),
    "wavelength": (r"excitation_lambda", ()),
    "power": (r"^$", ("Power", "power", "Pockels")),
    "gain": (r"pmt_gain", ("Gain", "PMT")),
    "channel": (r"optical_channel", ()),
    "person": (r"NWBFile\.(experimenter|institution|lab)", ()),
    "subject": (r"Subject\.", ()),
}
# What the interfaces of neuroconv 0.10.2 fill by themselves on these recordings, by get_metadata(); measured in an
# environment of its own by tests/reference/test_interface_facts.py.
OF_BRUKER = {
    "start", "plane's rate", "pixel size", "field of view", "depth, position", "line rate", "device, software",
}  # fmt: skip
NEUROCONV = {
    "ScanImageImagingExtractor": {
        "start", "plane's rate", "pixel size", "depth, position", "line rate", "device, software",
    },
    "ScanImageLegacyImagingExtractor": {
        "start", "plane's rate", "line rate", "device, software", "objective, zoom",
    },
    "BrukerTiffImagingExtractor": OF_BRUKER,
    "BrukerTiffMultiPlaneImagingExtractor": OF_BRUKER,
    "BrukerTiffSinglePlaneImagingExtractor": OF_BRUKER,
    "ThorTiffImagingExtractor": {"start", "pixel size", "field of view", "device, software", "channel"},
    "MiniscopeImagingExtractor": {"start", "plane's rate", "device, software", "power", "gain"},
    "InscopixImagingExtractor": {
        "start", "depth, position", "device, software", "power", "gain", "person", "subject",
    },
    "MicroManagerTiffImagingExtractor": {"start", "plane's rate"},
    "FemtonicsImagingExtractor": {
        "start", "plane's rate", "pixel size", "depth, position", "device, software", "gain", "person",
    },
    "Suite2pSegmentationExtractor": {"plane's rate"},
}  # fmt: skip
# Of which its interface reads none of these recordings.
REFUSED = {"MinianSegmentationExtractor"}


def made_recordings(folder: Path) -> dict[str, list[Made]]:
    """Make a recording by every maker; return them by extractor."""
    made: dict[str, list[Made]] = {name: [] for name in NAMES}
    for place, maker in enumerate(MAKERS.values()):
        parent = folder / str(place)
        parent.mkdir()
        recording = maker(parent / "m1")
        _age(recording.folder)
        made[recording.extractor].append(recording)
    return made


def tables(made: dict[str, list[Made]]) -> dict[str, str]:
    """Return the tables by their names in the document."""
    known = {name: recordings for name, recordings in made.items() if recordings}
    facts = {name: facts_of(recordings) for name, recordings in known.items()}
    filled = {name: told for name, told in facts.items() if told}
    return {
        "arguments": _table(
            ("extractor", "extra", "`extractor_kwargs`, for example"),
            ((_code(name), _extra(name), _arguments(name, recordings)) for name, recordings in made.items()),
        ),
        "contract": _table(
            ("extractor", "channels", "planes", "own rate", "files", "missing one", "cut-off one"),
            ((_code(name), *contract_of(recordings)) for name, recordings in made.items()),
        ),
        "facts": _table(
            ("extractor", *FACTS),
            (
                (_code(name), *(_filled(fact in told, fact in NEUROCONV.get(name, ())) for fact in FACTS))
                for name, told in filled.items()
            ),
        ),
    }


def contract_of(recordings: list[Made]) -> tuple[str, ...]:
    """Tell of a format what its recordings show: channels, planes, rate, files, a missing and a cut-off one."""
    if not recordings:
        return ("",) * 6
    return (
        _some(any(entry.channel is not None for entry in _entries(made)) for made in recordings),
        ", ".join(sorted({kind for made in recordings for kind in _planes(made)})),
        _some(_has_own_rate(made) for made in recordings),
        "named" if all(_are_named(made) for made in recordings) else "found",
        "most" if any(made.dispensable for made in recordings) else _noticed(recordings, _without),
        "most" if any(made.uncut for made in recordings) else _noticed(recordings, _cut),
    )


def facts_of(recordings: list[Made]) -> set[str]:
    """Tell which facts the headers of a format's recordings say."""
    told: set[str] = set()
    for made in recordings:
        for arguments in [made.arguments, *(entry.extractor_kwargs for entry in _entries(made))]:
            headers = recording_of(made.kind, made.extractor, arguments).metadata()
            described = " ".join(_texts_at(headers.metadata, path) for path in headers.sources)
            told |= {
                fact
                for fact, (fields, words) in FACTS.items()
                if any(re.search(fields, path) for path in headers.sources) or any(w in described for w in words)
            }
    return told


def _texts_at(metadata: Any, path: str) -> str:
    for name in path.split("."):
        metadata = metadata[name]
    return str(metadata) if path.endswith("description") else ""


def _entries(made: Made) -> list[Any]:
    contents = recording_of(made.kind, made.extractor, made.arguments).contents()
    if contents is None:
        return []
    return [*contents.movies, *contents.segmentations]


def _planes(made: Made) -> Iterator[str]:
    for entry in _entries(made):
        if len(getattr(entry, "sample_shape", ())) > 2:
            yield "volume"
        if entry.plane is not None or getattr(entry, "planes", []):
            yield "each"


def _has_own_rate(made: Made) -> bool:
    given = "sampling_frequency" in json.dumps(made.arguments, default=str)
    headers = recording_of(made.kind, made.extractor, made.arguments).metadata()
    stated = any(path.endswith("imaging_rate") for path in headers.sources)
    return stated or (not given and any(entry.rate is not None for entry in _entries(made)))


def _are_named(made: Made) -> bool:
    recording = recording_of(made.kind, made.extractor, made.arguments)
    assert set(recording.files) == set(made.files), made.extractor
    return set(recording.paths.values()) == set(recording.files)


def _noticed(recordings: list[Made], damage: Callable[[Path], None]) -> str:
    """Tell whether every recording is refused when the first, or the last, of its files of a kind is damaged."""
    return _some(_is_refused(made, file, damage) for made in recordings for file in _first_and_last(made.files))


def _first_and_last(files: list[Path]) -> set[Path]:
    kinds = [[file for file in files if file.suffix == suffix] for suffix in {file.suffix for file in files}]
    return {file for kind in kinds for file in (kind[0], kind[-1])}


def _is_refused(made: Made, file: Path, damage: Callable[[Path], None]) -> bool:
    aside = made.folder.parent / "aside"
    shutil.copy2(file, aside)
    damage(file)
    _age(made.folder)
    opener = open_imaging if made.kind == "imaging" else open_segmentation
    try:
        opener(made.extractor, made.arguments)
    except (SourceDataError, SourceNotFoundError):
        return True
    finally:
        shutil.move(aside, file)
        _age(made.folder)
    return False


def _without(file: Path) -> None:
    file.unlink()


def _cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * 0.7)])


def _age(folder: Path) -> None:
    """Make files look as if nobody wrote to them for long: else one may still be growing."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO))


def _some(answers: Iterable[bool]) -> str:
    seen = list(answers)
    return "yes" if all(seen) else "some" if any(seen) else ""


def _filled(ours: bool, theirs: bool) -> str:  # noqa: FBT001
    return ("yes" if ours else "") + (" n" if theirs else "")


def _code(text: str) -> str:
    return f"`{text}`"


def _extra(name: str) -> str:
    return next((_code(extra) for part, extra in EXTRAS.items() if part in name), "")


def _arguments(name: str, recordings: list[Made]) -> str:
    if not recordings:
        return ""
    made = recordings[0]
    # Two of several files or planes say enough.
    shown = {name: value[:2] if isinstance(value, list) else value for name, value in made.arguments.items()}
    return _code(json.dumps(shown).replace(str(made.folder), "/data/m1"))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tables_in(text: str) -> dict[str, str]:
    """Return the tables of a document, by name."""
    return dict(re.findall(r"<!-- table: (\w+) -->\n\n(.*?)\n<!-- end -->", text, flags=re.DOTALL))


def with_tables(text: str, made: dict[str, str]) -> str:
    """Return a document with these tables in place of those that it has."""
    for name, table in made.items():
        start, end = f"<!-- table: {name} -->\n\n", "\n<!-- end -->"
        before, _, rest = text.partition(start)
        text = before + start + table + end + rest.partition(end)[2]
    return text


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), tables(made_recordings(Path(folder)))))
