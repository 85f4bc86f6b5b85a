"""The facts of a file in words: rows of a name and a text, in groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from airflow_provider_ophys.models.metadata import PLACEHOLDERS
from airflow_provider_ophys.models.metadata_sections import UNKNOWN, NWBFileMetadata
from airflow_provider_ophys.nwb.contents import Contents, Movie, Timing
from airflow_provider_ophys.report.survey import Seen, SeenMovie, SeenSegmentation

Rows = list[tuple[str, str]]
NO_DESCRIPTION = NWBFileMetadata.model_fields["session_description"].default


def gather_facts(
    contents: Contents, seen: Seen, *, size_bytes: int | None, result: Mapping[str, Any]
) -> dict[str, Rows]:
    """
    Say what a file is, in groups of rows.

    :param size_bytes: Of the whole file or store, if known.
    :param result: What a write operator returned of it; empty if another software wrote it.
    """
    return {
        "Session": _session(contents.nwbfile),
        **{movie.movie.path: _movie(movie) for movie in seen.movies},
        **{found.segmentation.path: _segmentation(found) for found in seen.segmentations},
        "File": _file(contents, size_bytes, result),
    }


def subtitle(contents: Contents, seen: Seen, size_bytes: int | None) -> str:
    """Say in one line what matters most."""
    start = contents.nwbfile.session_start_time
    parts = [f"session of {start:%Y-%m-%d %H:%M} ({_time_zone(start)})"]
    if seen.movies:
        movie = seen.movies[0].movie
        parts += [_shape(movie), _rate(movie.timing), _duration(seen.movies[0].movie.timing)]
    if seen.segmentations:
        parts.append(f"{sum(found.segmentation.num_rois for found in seen.segmentations)} ROIs")
    if size_bytes is not None:
        parts.append(_megabytes(size_bytes))
    return " · ".join(parts)


def _time_zone(moment: datetime) -> str:
    """Say how far from UTC a time is, and where, if the file says."""
    offset = moment.strftime("%z")
    if not offset:
        return "no time zone"
    name = moment.tzname() or ""
    told = f"UTC{offset[:3]}:{offset[3:5]}" if offset[:5] != "+0000" else "UTC"
    return told if not name or name.startswith("UTC") else f"{name}, {told}"


def _photons(seen: SeenMovie) -> Rows:
    """Say what the variance of pixels tells of photons, and how clear the picture is."""
    gain = seen.photon_gain
    rows: Rows = [
        ("signal to noise", f"{seen.signal_to_noise:.3g} (a pixel's mean above dark over its deviation)")
    ]
    if gain is not None:
        rows.append(("photon gain", f"about {gain:.3g} {seen.movie.unit} per photon (variance against mean)"))
    return rows


def _session(nwbfile: Any) -> Rows:
    subject = nwbfile.subject
    described = {
        "description": nwbfile.session_description,
        "start": f"{nwbfile.session_start_time.isoformat()}",
        "identifier": nwbfile.identifier,
        "session": nwbfile.session_id,
        "lab": ", ".join(filter(None, [nwbfile.lab, nwbfile.institution])),
        "experimenter": "; ".join(nwbfile.experimenter or ()),
        "subject": "" if subject is None else _described(subject, ("subject_id", "species", "sex", "age")),
    }
    return [(name, str(text)) for name, text in described.items() if text]


def _described(container: Any, fields: tuple[str, ...]) -> str:
    return ", ".join(str(value) for field in fields if (value := getattr(container, field, None)) is not None)


def _movie(seen: SeenMovie) -> Rows:
    movie, survey = seen.movie, seen.survey
    looked_at = (
        f"every frame ({len(seen.times)}){'' if survey.num_read else ', while they were written'}"
        if survey.is_whole
        else f"{len(seen.times)} of {movie.timing.num_samples} frames; what happens only between them is not seen"
    )
    level = seen.saturation.level
    saturated = "none" if level is None else f"{seen.saturation.share:.2g} of all, at about {level:.6g}"
    return [
        ("type", f"{movie.kind}, {_shape(movie)}, {np.dtype(movie.data.dtype).name}, unit {movie.unit}"),
        ("rate", _rate(movie.timing)),
        ("duration", _duration(movie.timing)),
        *_plane(movie.imaging_plane),
        ("storage", _storage(movie.data)),
        ("looked at", looked_at),
        ("saturated pixels", saturated),
        *_photons(seen),
        ("checked", ", ".join(seen.found.checked)),
        ("not checked", "; ".join(f"{kind}: {why}" for kind, why in seen.found.not_checked.items()) or "nothing"),
        *_by(movie.record),
    ]


def _segmentation(seen: SeenSegmentation) -> Rows:
    table = seen.segmentation
    accepted = "" if table.accepted is None else f", {int(table.accepted.sum())} accepted"
    traces = ", ".join(f"{trace.container}/{trace.name}" for trace in table.traces)
    return [
        ("ROIs", f"{table.num_rois}{accepted}; masks: {table.mask_type or 'none'}"),
        ("traces", traces or "none"),
        *((("duration", _duration(table.traces[0].timing)),) if table.traces else ()),
        *_plane(table.imaging_plane),
        *_by(table.record),
    ]


def _plane(plane: Any) -> Rows:
    device, model = plane.device, getattr(plane.device, "model", None)
    about_device = [device.name, device.description, _described(model, ("name", "manufacturer"))]
    spacing = plane.grid_spacing
    about_plane = [
        plane.name,
        f"in {plane.location}",
        f"indicator {plane.indicator}",
        f"excitation {plane.excitation_lambda:g} nm"
        if math.isfinite(plane.excitation_lambda)
        else "excitation unknown",
        "" if spacing is None else f"grid spacing {_by_axis(spacing)} {plane.grid_spacing_unit}",
    ]
    return [
        ("device", "; ".join(str(part) for part in about_device if part)),
        ("imaging plane", "; ".join(part for part in about_plane if part)),
    ]


def _by_axis(spacing: Any) -> str:
    return " x ".join(f"{float(length):.3g}" for length in np.asarray(spacing).ravel())


def _by(record: Mapping[str, Any]) -> Rows:
    if not record:
        return []
    return [("converted", f"by airflow-provider-ophys {record['version']} with {record['extractor']}")]


def _file(contents: Contents, size_bytes: int | None, result: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    raw = sum(math.prod(movie.data.shape) * np.dtype(movie.data.dtype).itemsize for movie in contents.movies)
    if size_bytes is not None:
        smaller = f"; its movies have {_megabytes(raw)} uncompressed: {raw / size_bytes:.2f} times" if raw else ""
        rows.append(("size", f"{_megabytes(size_bytes)}{smaller}"))
    if result.get("elapsed_seconds") and not result.get("reused"):
        speed = f"{result['throughput_mb_per_s']:.0f} MB/s, {result['elapsed_seconds']:.1f} s"
        rows.append(("conversion", f"{speed}, peak memory {_megabytes(result['peak_memory_bytes'])}"))
    records = [found.record for found in contents.movies] + [found.record for found in contents.segmentations]
    noted = {str(record["validation"]) for record in records if record}
    checks = {str(result["validation"])} if "validation" in result else noted
    rows.append(("NWB schema", ", ".join(sorted(checks)) or "not checked by us"))
    rows.append(("nwbinspector", _inspected(result)))
    rows.append(("placeholders", ", ".join(sorted(set(placeholders(contents)))) or "none"))
    return rows


def _inspected(result: Mapping[str, Any]) -> str:
    findings = result.get("inspection")
    if findings is None:
        return "not asked"
    told = (f"{found['importance']}: {found['message']} ({found['location']})" for found in findings)
    return "; ".join(told) or "no findings"


def placeholders(contents: Contents) -> Iterator[str]:
    """Yield the fields that hold what is written where something is not known."""
    if contents.nwbfile.session_description == NO_DESCRIPTION:
        yield "NWBFile.session_description"
    for movie in contents.movies:
        if movie.unit == PLACEHOLDERS["unit"]:
            yield f"{movie.name}.unit"
    for plane in contents.nwbfile.imaging_planes.values():
        for field in ("excitation_lambda", "indicator", "location"):
            if _is_unknown(getattr(plane, field)):
                yield f"{plane.name}.{field}"
        for channel in plane.optical_channel:
            for field in ("description", "emission_lambda"):
                if _is_unknown(getattr(channel, field)):
                    yield f"{plane.name}.{channel.name}.{field}"


def _is_unknown(value: object) -> bool:
    return value == UNKNOWN or (isinstance(value, float) and math.isnan(value))


def _shape(movie: Movie) -> str:
    num_samples, columns, rows, *planes = movie.data.shape
    return f"{columns} x {rows}{''.join(f' x {count} planes' for count in planes)} px, {num_samples} frames"


def _rate(timing: Timing) -> str:
    return f"{timing.rate:.6g} Hz" if timing.rate else "a timestamp per frame"


def _duration(timing: Timing) -> str:
    first, last = timing.at(np.array([0])), timing.at(np.array([timing.num_samples - 1]))
    period = 1 / timing.rate if timing.rate else 0.0
    return f"{float(last[0] - first[0]) + period:.4g} s"


def _storage(data: Any) -> str:
    parts = [f"chunks of {' x '.join(map(str, data.chunks))}" if data.chunks else "not chunked"]
    shards = getattr(data, "shards", None)
    if shards:
        parts.append(f"shards of {' x '.join(map(str, shards))}")
    if hasattr(data, "compressors"):
        parts += [type(codec).__name__.removesuffix("Codec").lower() for codec in data.compressors]
    else:
        parts.append(f"{data.compression or 'not compressed'}{' with shuffling' if data.shuffle else ''}")
    return ", ".join(parts)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
