"""Bruker's folders: PrairieView's index and OME-named TIFFs, with a reference picture that is no part of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import tifffile

from recording_makers import COLUMNS, ROWS, Made, makes, random_frames

UNIFIED = "BrukerTiffImagingExtractor"
RATE = 25.0
# A frame takes 1/64 s: the older extractors want equal intervals to the last bit.
RATE_OF_VOLUMES = 64 / 3
# The machine's zone, which the headers do not say.
START = datetime(2023, 11, 30, 16, 20, 34)  # noqa: DTZ001

STATE = """<PVStateShard>
<PVStateValue key="dwellTime" value="0.4"/>
<PVStateValue key="laserPower"><IndexedValue index="0" value="412" description="Pockels"/></PVStateValue>
<PVStateValue key="laserWavelength"><IndexedValue index="0" value="940" description="Laser"/></PVStateValue>
<PVStateValue key="micronsPerPixel"><IndexedValue index="XAxis" value="1.5"/>
<IndexedValue index="YAxis" value="2"/><IndexedValue index="ZAxis" value="5"/></PVStateValue>
<PVStateValue key="objectiveLens" value="16X Nikon"/><PVStateValue key="objectiveLensNA" value="0.8"/>
<PVStateValue key="opticalZoom" value="2"/>
<PVStateValue key="pmtGain"><IndexedValue index="0" value="640" description="PMT 1 Red"/>
<IndexedValue index="1" value="720" description="PMT 2 Green"/></PVStateValue>
<PVStateValue key="positionCurrent"><SubindexedValues index="XAxis"><SubindexedValue subindex="0" value="11"/>
</SubindexedValues><SubindexedValues index="YAxis"><SubindexedValue subindex="0" value="-22"/></SubindexedValues>
<SubindexedValues index="ZAxis"><SubindexedValue subindex="0" value="-150.5" description="Z Focus"/>
<SubindexedValue subindex="1" value="30" description="Piezo"/></SubindexedValues></PVStateValue>
<PVStateValue key="scanLinePeriod" value="6.25E-05"/></PVStateShard>"""

FACTS = {
    "NWBFile.session_start_time": "2023-11-30T16:20:34",
    "device.manufacturer": "Bruker",
    "device.serial_number": "0A1B2C",
    "device.description": "PrairieView: 5.7.64.200; System: Room 3",
    "plane.excitation_lambda": 940.0,
    "plane.grid_spacing": [1.5e-6, 2e-6],
    "plane.origin_coords": [11e-6, -22e-6, -150.5e-6],
    "plane.imaging_rate": RATE,
    "series.scan_line_rate": 16_000.0,
    "series.field_of_view": [1.5e-6 * COLUMNS, 2e-6 * ROWS],
    "series.description": "Zoom: 2",
}


def write_index(folder: Path, sequences: str) -> None:
    (folder / f"{folder.name}.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<PVScan version="5.7.64.200" date="11/30/2023 4:20:34 PM" notes="">'
        '<SystemIDs SystemID="0A1B2C"><SystemID SystemID="17" Description="Room 3"/></SystemIDs>'
        f"{STATE}{sequences}</PVScan>"
    )
    (folder / f"{folder.name}.env").write_text("<Environment/>")
    (folder / "References").mkdir()
    tifffile.imwrite(folder / "References" / "reference.tif", random_frames(1)[0])


def name_of(folder: Path, cycle: int, channel: int, number: int) -> str:
    return f"{folder.name}_Cycle{cycle:05d}_Ch{channel}_{number:06d}.ome.tif"


def frame_tag(time: float, files: Iterator[str] | list[str], within: str = "") -> str:
    return f'<Frame relativeTime="{time!r}" absoluteTime="{time + 3!r}">{"".join(files)}{within}</Frame>'


def file_tag(name: str, channel: int, page: int = 1) -> str:
    return f'<File channel="{channel}" channelName="Ch{channel}" page="{page}" filename="{name}"/>'


def index_first(folder: Path, names: list[str]) -> list[Path]:
    return [folder / f"{folder.name}.xml", *(folder / name for name in names)]


def write_pages(path: Path, frames: np.ndarray) -> None:
    with tifffile.TiffWriter(path) as writer:
        for frame in frames:
            writer.write(frame, contiguous=False, metadata=None)


@makes("Bruker, a file per frame")
def single_pages(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames = random_frames(6)
    names = [name_of(folder, 1, 2, number + 1) for number in range(6)]
    for name, frame in zip(names, frames, strict=True):
        tifffile.imwrite(folder / name, frame)
    tags = [frame_tag(number / RATE, [file_tag(name, 2)]) for number, name in enumerate(names)]
    write_index(folder, f'<Sequence type="TSeries Timed Element" cycle="1">{"".join(tags)}</Sequence>')
    made = Made(folder, UNIFIED, {"folder_path": str(folder)}, index_first(folder, names), frames, rate=RATE)
    made.facts, made.start = FACTS | {"series.pmt_gain": 720.0}, START
    return made


@makes("Bruker, two channels of many pages")
def many_pages(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames = random_frames(12).reshape(2, 6, ROWS, COLUMNS)
    names = [name_of(folder, 1, channel, 1) for channel in (1, 2)]
    for name, movie in zip(names, frames, strict=True):
        write_pages(folder / name, movie)
    tags = [
        frame_tag(page / RATE, [file_tag(name, channel, page + 1) for channel, name in enumerate(names, 1)])
        for page in range(6)
    ]
    write_index(folder, f'<Sequence type="TSeries Timed Element" cycle="1">{"".join(tags)}</Sequence>')
    made = Made(folder, UNIFIED, {"folder_path": str(folder)}, index_first(folder, names), frames[0], rate=RATE)
    made.num_movies, made.facts = 2, FACTS
    return made


def write_volumes(folder: Path) -> tuple[list[str], np.ndarray]:
    """Write four volumes of three planes, each a sequence of its own; return names and volumes."""
    folder.mkdir(parents=True)
    frames, sequences, names = random_frames(12), [], []
    for volume in range(4):
        tags = []
        for plane in range(3):
            index = 3 * volume + plane
            names.append(name_of(folder, volume + 1, 2, plane + 1))
            tifffile.imwrite(folder / names[-1], frames[index])
            depth = (
                '<PVStateShard><PVStateValue key="positionCurrent"><SubindexedValues index="ZAxis">'
                f'<SubindexedValue value="-150.5"/><SubindexedValue value="{30 + 10 * plane}"/>'
                "</SubindexedValues></PVStateValue></PVStateShard>"
            )
            tags.append(frame_tag(index / 64, [file_tag(names[-1], 2)], depth))
        sequences.append(
            f'<Sequence type="TSeries ZSeries Element" cycle="{volume + 1}">{"".join(tags)}</Sequence>'
        )
    write_index(folder, "".join(sequences))
    return names, frames.reshape(4, 3, ROWS, COLUMNS).transpose(0, 2, 3, 1)


@makes("Bruker, volumes")
def volumes(folder: Path) -> Made:
    names, truth = write_volumes(folder)
    made = Made(folder, UNIFIED, {"folder_path": str(folder)}, index_first(folder, names), truth)
    made.rate = RATE_OF_VOLUMES
    made.facts = FACTS | {
        "plane.imaging_rate": RATE_OF_VOLUMES,
        "plane.grid_spacing": [1.5e-6, 2e-6, 10e-6],
        "plane.description": "Depths of the planes: 30, 40, 50 um",
        "series.field_of_view": [1.5e-6 * COLUMNS, 2e-6 * ROWS, 20e-6],
    }
    return made


@makes("Bruker, volumes by the older extractor")
def older_volumes(folder: Path) -> Made:
    made = volumes(folder)
    made.extractor, made.is_found = "BrukerTiffMultiPlaneImagingExtractor", None
    return made


@makes("Bruker, planes by the older extractor")
def older_planes(folder: Path) -> Made:
    made = volumes(folder)
    made.extractor, made.num_movies, made.is_found = "BrukerTiffSinglePlaneImagingExtractor", 3, None
    made.truth = made.truth[..., 0]
    return made
