"""TIFFs of no maker: stacks, series of pictures, ImageJ's, an older ScanImage's, planes in files of their own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import tifffile

from recording_makers import COLUMNS, ROWS, Made, makes, random_frames
from recording_makers.ome import write_pages

BY_PAGE = "MultiTIFFMultiPageExtractor"


@makes("TIFF, a stack read by page")
def stack(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, path = random_frames(6), folder / "movie.tif"
    write_pages(path, frames)
    known = {"file_paths": [str(path)]}
    made = Made(folder, BY_PAGE, known | {"sampling_frequency": 12.0}, [path], frames, rate=12.0)
    made.found_arguments = known
    return made


@makes("TIFF, pictures that are a series")
def pictures(folder: Path) -> Made:
    """Pictures that were taken out of an ImageJ stack, and have kept its description."""
    folder.mkdir(parents=True)
    frames = random_frames(11)
    files = [folder / f"t{number}.tif" for number in range(11)]
    for file, frame in zip(files, frames, strict=True):
        tifffile.imwrite(file, frame, description="ImageJ=1.53\nimages=3500\nfinterval=0.125\n", metadata=None)
    arguments = {"file_paths": [str(file) for file in files], "sampling_frequency": 8.0}
    return Made(folder, BY_PAGE, arguments, files, frames, rate=8.0)


@makes("TIFF, channels and planes of ImageJ")
def hyperstack(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, path = random_frames(4 * 3 * 2).reshape(4, 3, 2, ROWS, COLUMNS), folder / "movie.tif"
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TZCYX", "finterval": 0.25})
    arguments = {
        "file_paths": [str(path)], "num_channels": 2, "dimension_order": "CZT", "num_planes": 3,
        "sampling_frequency": 4.0,
    }  # fmt: skip
    truth = frames[:, :, 0].transpose(0, 2, 3, 1)
    return Made(folder, BY_PAGE, arguments, [path], truth, rate=4.0, num_movies=2)


@makes("TIFF, an older ScanImage")
def older_scanimage(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, path = random_frames(5 * 2).reshape(5, 2, ROWS, COLUMNS), folder / "movie001.tif"
    text = (
        "state.software.version=3.8\rstate.acq.frameRate=4\rstate.acq.numberOfChannelsSave=2\r"
        "state.acq.numberOfZSlices=1\rstate.acq.zoomFactor=3\rstate.acq.msPerLine=0.5\r"
        "state.internal.triggerTimeString='4/5/2012 13:14:15.500'\r"
    )
    write_pages(path, frames.reshape(10, ROWS, COLUMNS), text)
    arguments = {
        "file_paths": [str(path)], "sampling_frequency": 4.0, "num_channels": 2, "num_planes": 1,
        "dimension_order": "CZT",
    }  # fmt: skip
    made = Made(folder, BY_PAGE, arguments, [path], frames[:, 0], rate=4.0, num_movies=2)
    made.facts = {
        "NWBFile.session_start_time": "2012-04-05T13:14:15.500000",
        "device.description": "ScanImage: 3.8",
        "plane.imaging_rate": 4.0,
        "series.scan_line_rate": 2000.0,
        "series.description": "Zoom: 3",
    }
    return made


@makes("ScanImage before 2016")
def legacy_scanimage(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, path = random_frames(5, "int16"), folder / "m1001.tif"
    text = (
        "state.software.version=3.8\rstate.acq.frameRate=4\rstate.acq.numberOfChannelsSave=1\r"
        "state.acq.numberOfZSlices=1\rstate.acq.zoomFactor=2.5\rstate.acq.msPerLine=2\r"
        "state.internal.triggerTimeString='4/5/2012 13:14:15.500'\r"
    )
    write_pages(path, frames, text)
    arguments = {"file_path": str(path), "sampling_frequency": 4.0}
    made = Made(folder, "ScanImageLegacyImagingExtractor", arguments, [path], frames, rate=4.0)
    made.is_found, made.found_arguments = None, {"file_paths": [str(path)], "sampling_frequency": 4.0}
    made.start = datetime(2012, 4, 5, 13, 14, 15, 500_000)  # noqa: DTZ001 - the headers say no zone
    made.facts = {
        "NWBFile.session_start_time": "2012-04-05T13:14:15.500000",
        "device.description": "ScanImage: 3.8",
        "plane.imaging_rate": 4.0,
        "series.scan_line_rate": 500.0,
        "series.description": "Zoom: 2.5",
    }
    return made


@makes("TIFF, a stack")
def mapped(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, path = random_frames(6), folder / "movie.tif"
    tifffile.imwrite(path, frames, photometric="minisblack")
    arguments = {"file_path": str(path), "sampling_frequency": 12.0}
    made = Made(folder, "TiffImagingExtractor", arguments, [path], frames, rate=12.0)
    made.is_found, made.found_arguments = None, {"file_paths": [str(path)]}
    return made


@makes("Planes in files of their own")
def planes(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames = random_frames(4 * 3).reshape(3, 4, ROWS, COLUMNS)
    files = [folder / f"plane{number}.tif" for number in range(3)]
    for file, movie in zip(files, frames, strict=True):
        write_pages(file, movie)
    stacked = [
        {"extractor": "MultiTIFF", "extractor_kwargs": {"file_paths": [str(file)], "sampling_frequency": 5.0}}
        for file in files
    ]
    truth = frames.transpose(1, 2, 3, 0)
    arguments = {"imaging_extractors": stacked}
    return Made(folder, "PlanarStackImagingExtractor", arguments, files, truth, rate=5.0, is_found=False)
