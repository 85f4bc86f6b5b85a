"""
Write a recording as PrairieView, Bruker's software, does: a TIFF for each frame, and an XML file that lists them.

The pictures in ``References`` are there too, which are no part of the movie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

CHANNEL = 2
MICROMETERS_PER_PIXEL = 1.1
# What PrairieView writes down of the microscope and its settings.
SYSTEM = '<SystemIDs SystemID="5D3A-0F21-77C4"><SystemID SystemID="4512" Description="Ultima Room 2"/></SystemIDs>'
SETTINGS = f"""<PVStateShard>
  <PVStateValue key="dwellTime" value="0.8"/>
  <PVStateValue key="laserPower"><IndexedValue index="0" value="380" description="Pockels"/></PVStateValue>
  <PVStateValue key="laserWavelength"><IndexedValue index="0" value="920" description="Laser"/></PVStateValue>
  <PVStateValue key="micronsPerPixel">
    <IndexedValue index="XAxis" value="{MICROMETERS_PER_PIXEL}"/>
    <IndexedValue index="YAxis" value="{MICROMETERS_PER_PIXEL}"/>
    <IndexedValue index="ZAxis" value="5"/>
  </PVStateValue>
  <PVStateValue key="objectiveLens" value="Nikon 16X 0.8 NA"/>
  <PVStateValue key="objectiveLensMag" value="16"/>
  <PVStateValue key="objectiveLensNA" value="0.8"/>
  <PVStateValue key="opticalZoom" value="1.5"/>
  <PVStateValue key="pmtGain">
    <IndexedValue index="0" value="600" description="PMT 1 Red"/>
    <IndexedValue index="1" value="680" description="PMT 2 Green"/>
  </PVStateValue>
  <PVStateValue key="positionCurrent">
    <SubindexedValues index="XAxis"><SubindexedValue subindex="0" value="412.5"/></SubindexedValues>
    <SubindexedValues index="YAxis"><SubindexedValue subindex="0" value="-96.2"/></SubindexedValues>
    <SubindexedValues index="ZAxis">
      <SubindexedValue subindex="0" value="-215" description="Z Focus"/>
    </SubindexedValues>
  </PVStateValue>
  <PVStateValue key="scanLinePeriod" value="6.3E-05"/>
</PVStateShard>"""


def write_bruker(folder: Path, frames: Iterable[npt.NDArray[np.int16]], *, sampling_frequency: float) -> None:
    """
    Write a movie of one plane and one channel.

    :param folder: Created; the names of the files in it begin with its own.
    :param frames: Each of the shape (rows, columns); one is in memory at a time.
    :param sampling_frequency: Frames per second.
    """
    (folder / "References").mkdir(parents=True)
    listed = list(_write_frames(folder, frames, sampling_frequency))
    (folder / f"{folder.name}.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<PVScan version="5.8.64.800" date="1/16/2026 2:05:12 PM" notes="">\n'
        f"{SYSTEM}\n{SETTINGS}\n"
        f'<Sequence type="TSeries Timed Element" cycle="1">\n{"\n".join(listed)}\n</Sequence>\n</PVScan>\n'
    )
    (folder / f"{folder.name}.env").write_text("<Environment/>\n")


def _write_frames(
    folder: Path, frames: Iterable[npt.NDArray[np.int16]], sampling_frequency: float
) -> Iterator[str]:
    """Write a file for each frame; yield what the list says of it."""
    for number, frame in enumerate(frames):
        name = f"{folder.name}_Cycle00001_Ch{CHANNEL}_{number + 1:06d}.ome.tif"
        pixels = frame.clip(0).astype(np.uint16)
        tifffile.imwrite(folder / name, pixels)
        if number == 0:
            tifffile.imwrite(folder / "References" / f"{folder.name}-Cycle00001_Ch{CHANNEL}Source.tif", pixels)
        time = number / sampling_frequency
        yield (
            f'<Frame relativeTime="{time!r}" absoluteTime="{time + 2.5!r}" index="{number + 1}">'
            f'<File channel="{CHANNEL}" channelName="Ch{CHANNEL}" page="1" filename="{name}"/></Frame>'
        )
