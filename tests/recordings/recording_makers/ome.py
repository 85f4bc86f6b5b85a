"""OME-TIFFs: plain ones, ThorImage's with ``Experiment.xml``, and Micro-Manager's with a summary and times."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import tifffile

from recording_makers import COLUMNS, ROWS, Made, makes, random_frames

RATE = 8.0


def ome_xml(
    sizes: dict[str, int], data: str, attributes: str = "", channels: tuple[str, ...] = (), date: str = ""
) -> str:
    text = " ".join(f'Size{axis}="{size}"' for axis, size in sizes.items())
    tags = "".join(f'<Channel ID="Channel:0:{index}" Name="{name}"/>' for index, name in enumerate(channels))
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0">{date}<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{COLUMNS}" '
        f'SizeY="{ROWS}" {text} {attributes}>{tags}{data}</Pixels></Image></OME>'
    )


def tiff_data(name: str, time: int, page: int = 0, plane: int = 0, channel: int = 0) -> str:
    place = f'FirstT="{time}" FirstZ="{plane}" FirstC="{channel}" IFD="{page}" PlaneCount="1"'
    return f'<TiffData {place}><UUID FileName="{name}">urn:uuid:0</UUID></TiffData>'


def write_pages(path: Path, frames: np.ndarray, description: str | None = None) -> None:
    with tifffile.TiffWriter(path) as writer:
        for index, frame in enumerate(frames):
            writer.write(
                frame, contiguous=False, metadata=None, description=description if index == 0 else None,
                photometric="minisblack",
            )  # fmt: skip


@makes("OME-TIFF, one file")
def one_file(folder: Path) -> Made:
    """Volumes of two planes and two channels."""
    folder.mkdir(parents=True)
    frames, path = random_frames(5 * 2 * 2), folder / "m1.ome.tif"
    attributes = f'PhysicalSizeX="0.5" PhysicalSizeY="0.75" TimeIncrement="{1000 / RATE}" TimeIncrementUnit="ms"'
    sizes = {"Z": 2, "C": 2, "T": 5}
    text = ome_xml(
        sizes, '<TiffData IFD="0" PlaneCount="20"/>', attributes, ("GCaMP", "mCherry"),
        "<AcquisitionDate>2024-02-03T04:05:06</AcquisitionDate>",
    )  # fmt: skip
    write_pages(path, frames, text)
    truth = frames.reshape(5, 2, 2, ROWS, COLUMNS)[:, :, 0].transpose(0, 2, 3, 1)
    made = Made(folder, "OMETiffImagingExtractor", {"file_path": str(path)}, [path], truth, rate=RATE)
    made.num_movies = 2
    made.facts = {
        "NWBFile.session_start_time": "2024-02-03T04:05:06",
        "plane.imaging_rate": RATE,
        "plane.grid_spacing": [0.5e-6, 0.75e-6],
    }
    return made


@makes("OME-TIFF, three files")
def three_files(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, names = random_frames(6), [f"m1_{number}.ome.tif" for number in range(3)]
    data = "".join(tiff_data(names[time // 2], time, time % 2) for time in range(6))
    text = ome_xml({"Z": 1, "C": 1, "T": 6}, data, f'TimeIncrement="{1 / RATE}"', ("GCaMP",))
    for index, name in enumerate(names):
        write_pages(folder / name, frames[2 * index : 2 * index + 2], text)
    files = [folder / name for name in names]
    made = Made(folder, "OMETiffImagingExtractor", {"file_path": str(files[0])}, files, frames, rate=RATE)
    made.facts = {"plane.optical_channel": [
        {"name": "GCaMP", "description": 'Channel "GCaMP" of the recording.', "emission_lambda": "nan"}
    ]}  # fmt: skip
    return made


@makes("OME-TIFF, with a companion file")
def companion(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, names = random_frames(4), ["m1_0.ome.tif", "m1_1.ome.tif"]
    pointer = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="m1.companion.ome" UUID="urn:uuid:0"/></OME>'
    )
    for index, name in enumerate(names):
        write_pages(folder / name, frames[2 * index : 2 * index + 2], pointer)
    data = "".join(tiff_data(names[time // 2], time, time % 2) for time in range(4))
    text = ome_xml({"Z": 1, "C": 1, "T": 4}, data, f'TimeIncrement="{1 / RATE}"')
    (folder / "m1.companion.ome").write_text(text)
    files = [*(folder / name for name in names), folder / "m1.companion.ome"]
    return Made(folder, "OMETiffImagingExtractor", {"file_path": str(files[0])}, files, frames, rate=RATE)


EXPERIMENT = """<?xml version="1.0"?><ThorImageExperiment><Name name="night 3"/><User name="Ana"/>
<Computer name="RIG3"/><Software version="4.1"/><Date date="02/03/2024 10:11:12" uTime="1706955072"/>
<Magnification mag="16" name="16X Nikon"/><Wavelengths>{waves}</Wavelengths>
<ZStage steps="{planes}" stepSizeUM="5" startPos="0"/><Streaming zFastEnable="1" flybackFrames="1"/>
<LSM name="ResonanceGalvo" frameRate="32" pixelSizeUM="0.5" widthUM="10" heightUM="6" averageMode="{mode}"
averageNum="4"/><PMT gainA="40" gainB="50"/><Pockels start="12"/><MultiPhotonLaser pos="920" name="Chameleon"/>
<ExperimentNotes text="mouse 12"/></ThorImageExperiment>"""


def thor(folder: Path, samples: int, planes: int, channels: str, mode: int = 0) -> Made:
    folder.mkdir(parents=True)
    count = len(channels)
    frames = random_frames(samples * planes * count).reshape(samples, planes, count, ROWS, COLUMNS)
    names = {
        (time, plane, index): f"Chan{letter}_001_001_{plane + 1:03d}_{time + 1:03d}.tif"
        for time in range(samples)
        for plane in range(planes)
        for index, letter in enumerate(channels)
    }
    data = "".join(tiff_data(name, time, 0, plane, channel) for (time, plane, channel), name in names.items())
    text = ome_xml({"Z": planes, "C": count, "T": samples}, data, 'TimeIncrement="0"')
    for place, name in names.items():
        description = text if sum(place) == 0 else None
        tifffile.imwrite(folder / name, frames[place], description=description, metadata=None)
    waves = "".join(f'<Wavelength name="Chan{letter}"/>' for letter in channels)
    (folder / "Experiment.xml").write_text(EXPERIMENT.format(waves=waves, planes=planes, mode=mode))
    files = [folder / "Experiment.xml", *(folder / name for name in names.values())]
    truth = frames[:, :, 0].transpose(0, 2, 3, 1) if planes > 1 else frames[:, 0, 0]
    first = str(folder / names[0, 0, 0])
    made = Made(folder, "ThorTiffImagingExtractor", {"file_path": first}, files, truth, num_movies=count)
    made.start = datetime(2024, 2, 3, 10, 11, 12, tzinfo=UTC)
    made.facts = {
        "NWBFile.session_start_time": "2024-02-03T10:11:12+00:00",
        "NWBFile.experimenter": "Ana",
        "NWBFile.notes": "mouse 12",
        "device.manufacturer": "Thorlabs",
        "device.description": "ThorImageLS: 4.1",
        "plane.excitation_lambda": 920.0,
        "plane.grid_spacing": [0.5e-6, 0.5e-6, 5e-6][: 3 if planes > 1 else 2],
        "series.description": "Pockels cell: 12 %",
    }
    return made


@makes("Thor, frames that are means")
def thor_planar(folder: Path) -> Made:
    made = thor(folder, samples=5, planes=1, channels="A", mode=1)
    made.rate = 8.0
    made.facts |= {"plane.imaging_rate": 8.0, "series.pmt_gain": 40.0, "series.field_of_view": [10e-6, 6e-6]}
    return made


@makes("Thor, volumes of two channels")
def thor_volumes(folder: Path) -> Made:
    made = thor(folder, samples=4, planes=3, channels="AB")
    made.rate = 8.0  # 32 frames a second, of which three are planes and one is the flight back
    return made


@makes("Micro-Manager")
def micromanager(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, names = random_frames(7), ["stack_MMStack.ome.tif", "stack_MMStack_1.ome.tif"]
    data = "".join(tiff_data(names[time // 4], time, time % 4) for time in range(7))
    text = ome_xml({"Z": 1, "C": 1, "T": 7}, data).encode() + b"\0"
    summary = {
        "MicroManagerVersion": "2.0.1", "UserName": "ben", "StartTime": "2023-04-05 06:07:08.250 +0200",
        "PixelSize_um": 0.5, "Interval_ms": 0, "ChNames": ["GCaMP"], "Channels": 1, "Slices": 1, "Width": COLUMNS,
        "Height": ROWS,
    }  # fmt: skip
    for index, name in enumerate(names):
        write_stack(folder / name, frames[4 * index : 4 * index + 4], text, summary, first=4 * index)
    (folder / "DisplaySettings.json").write_text(json.dumps({"map": {"PlaybackFPS": {"scalar": 10.0}}}))
    tifffile.imwrite(folder / "snapshot.tif", np.zeros((5, 6, 3), "uint8"), photometric="rgb")
    files = [folder / name for name in names]
    made = Made(folder, "MicroManagerTiffImagingExtractor", {"folder_path": str(folder)}, files, frames, rate=40.0)
    made.start = datetime(2023, 4, 5, 6, 7, 8, 250_000, tzinfo=timezone(timedelta(hours=2)))
    made.facts = {
        "NWBFile.session_start_time": "2023-04-05T06:07:08.250000+02:00",
        "NWBFile.experimenter": "ben",
        "device.description": "Camera: Zyla",
        "plane.imaging_rate": 40.0,
        "plane.grid_spacing": [0.5e-6, 0.5e-6],
        "series.description": "Exposure: 20 ms",
    }
    return made


def write_stack(path: Path, frames: np.ndarray, description: bytes, summary: dict, first: int) -> None:
    """Write a file as Micro-Manager does: the summary in front, and what is known of a frame in its own field."""
    text = json.dumps(summary).encode()
    out = bytearray(struct.pack("<2sHI6I", b"II", 42, 0, 54773648, 0, 483765892, 0, 99384722, 0))
    out += struct.pack("<2I", 2355492, len(text)) + text
    out += bytes(len(out) % 2)
    struct.pack_into("<I", out, 4, len(out))
    for index, frame in enumerate(frames):
        elapsed = 100 + 25.0 * (first + index)
        known = json.dumps({"ElapsedTime-ms": elapsed, "Core-Camera": "Zyla", "Exposure-ms": 20})
        private, words = known.encode() + b"\0", description if index == 0 else b"none\0"
        words_at = len(out) + 2 + 9 * 12 + 4
        private_at = words_at + len(words)
        pixels_at = private_at + len(private)
        tags = [(256, 4, 1, COLUMNS), (257, 4, 1, ROWS), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
        tags += [(270, 2, len(words), words_at), (273, 4, 1, pixels_at), (279, 4, 1, frame.nbytes)]
        tags += [(51123, 2, len(private), private_at)]
        following = 0 if index == len(frames) - 1 else pixels_at + frame.nbytes
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        out += struct.pack("<I", following) + words + private + frame.astype("<u2").tobytes()
    path.write_bytes(out)
