"""What suite2p, CaImAn, CNMF-E, EXTRACT, Inscopix' software and this package leave."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
from cell_recordings import COLUMNS, RATE, ROWS, masks, suite2p, traces
from scipy.sparse import csc_matrix

from airflow_provider_ophys.extractors import open_segmentation
from airflow_provider_ophys.nwb import write_segmentation_to_nwbfile
from recording_makers import Made, makes

ROIS, SAMPLES = 5, 8


def _made(file: Path, extractor: str, truth: np.ndarray, **more) -> Made:
    arguments = more.pop("arguments", {"file_path": str(file)})
    return Made(file.parent, extractor, arguments, [file], truth, RATE, kind="segmentation", **more)


@makes("suite2p")
def two_planes_of_suite2p(folder: Path) -> Made:
    suite2p(folder, planes=2, second=True)
    names = ("ops", "stat", "F", "Fneu", "spks", "redcell", "iscell")
    files = [folder / "plane0" / f"{name}.npy" for name in names]
    return Made(
        folder,
        "Suite2pSegmentationExtractor",
        {"folder_path": str(folder)},
        files,
        traces(ROIS, SAMPLES).T,
        RATE,
        kind="segmentation",
        num_movies=4,
        facts={"plane.imaging_rate": RATE, "plane.description": "suite2p: 0.14.4"},
        dispensable=[folder / "plane0" / "redcell.npy"],
        uncut=[folder / "plane0" / "redcell.npy"],
    )


@makes("CaImAn")
def caiman(folder: Path) -> Made:
    """C and YrA, of which the raw traces are the sum; S and F_dff; background; what was not computed."""
    folder.mkdir()
    denoised, residual = traces(ROIS, SAMPLES), traces(ROIS, SAMPLES, 1)
    sparse = csc_matrix(np.stack([mask.ravel(order="F") for mask in masks(ROIS)], 1))
    with h5py.File(folder / "results.hdf5", "w") as file:
        estimates = file.create_group("estimates")
        for name in ("data", "indices", "indptr", "shape"):
            estimates[f"A/{name}"] = np.asarray(getattr(sparse, name))
        arrays = {"C": denoised, "YrA": residual, "S": traces(ROIS, SAMPLES, 2), "F_dff": traces(ROIS, SAMPLES, 3)}
        arrays |= {"b": np.ones((ROWS * COLUMNS, 1)), "f": np.ones((1, SAMPLES)), "Cn": np.ones((ROWS, COLUMNS))}
        arrays |= {"idx_components": np.array([0, 3]), "SNR_comp": np.arange(ROIS), "cnn_preds": b"NoneType"}
        for name, array in arrays.items():
            estimates[name] = array
        file["params/data/dims"] = np.array([ROWS, COLUMNS])
        file["params/data/fr"] = RATE
        file["params/data/decay_time"] = 0.4
        file["params/data/caiman_version"] = "1.11.3"
    told = "CaImAn: 1.11.3; Decay time of the sensor: 0.4 s."
    facts = {"plane.imaging_rate": RATE, "plane.description": told}
    truth = (denoised + residual).T
    return _made(folder / "results.hdf5", "CaimanSegmentationExtractor", truth, facts=facts)


@makes("CNMF-E")
def cnmfe(folder: Path) -> Made:
    folder.mkdir()
    truth = traces(ROIS, SAMPLES).T
    with h5py.File(folder / "cells.mat", "w", userblock_size=512) as file:
        file.create_group("#refs#")
        result = file.create_group("result")
        result["extractedImages"], result["extractedSignals"] = masks(ROIS), truth
        result["time/totalTime"], result["Cn"] = [[SAMPLES / RATE]], np.ones((ROWS, COLUMNS))
    facts = {"plane.imaging_rate": RATE}
    return _made(folder / "cells.mat", "CnmfeSegmentationExtractor", truth, facts=facts)


def _version(text: str) -> np.ndarray:
    return np.array([[ord(letter)] for letter in text], "uint16")


@makes("EXTRACT")
def extract(folder: Path) -> Made:
    folder.mkdir()
    truth = traces(ROIS, SAMPLES).T
    with h5py.File(folder / "cells.mat", "w", userblock_size=512) as file:
        output = file.create_group("output")
        output["spatial_weights"], output["temporal_weights"] = masks(ROIS).swapaxes(1, 2), truth.T
        output["config/preprocess"], output["config/avg_cell_radius"] = [[1.0]], [[6.0]]
        output["info/version"], output["info/summary_image"] = _version("1.2.0"), np.ones((COLUMNS, ROWS))
    arguments = {"file_path": str(folder / "cells.mat"), "sampling_frequency": RATE}
    facts = {"plane.description": "EXTRACT: 1.2.0; Radius of cells: 6 pixels."}
    more = {"arguments": arguments, "facts": facts, "unknown": ("sampling_frequency",)}
    return _made(folder / "cells.mat", "ExtractSegmentationExtractor", truth, **more)


@makes("EXTRACT before version 1")
def extract_legacy(folder: Path) -> Made:
    folder.mkdir()
    truth = traces(ROIS, SAMPLES).T
    with h5py.File(folder / "cells.mat", "w", userblock_size=512) as file:
        output = file.create_group("extractAnalysisOutput")
        output["filters"], output["traces"], output["time/totalTime"] = masks(ROIS), truth, [[SAMPLES / RATE]]
        output["info/version"], output["info/summary_image"] = _version("0.5.0"), np.ones((ROWS, COLUMNS))
    arguments = {"file_path": str(folder / "cells.mat"), "sampling_frequency": RATE}
    facts = {"plane.imaging_rate": RATE, "plane.description": "EXTRACT: 0.5.0."}
    return _made(folder / "cells.mat", "ExtractSegmentationExtractor", truth, arguments=arguments, facts=facts)


def inscopix_cells(folder: Path) -> Made:
    """Inscopix' library takes nothing but its own files, so it writes this one."""
    import isx

    folder.mkdir()
    file, truth = folder / "cells.isxd", traces(ROIS, SAMPLES)
    timing = isx.Timing(num_samples=SAMPLES, period=isx.Duration.from_msecs(round(1000 / RATE)))
    cells = isx.CellSet.write(str(file), timing, isx.Spacing(num_pixels=(ROWS, COLUMNS)))
    for number, mask in enumerate(masks(ROIS)):
        cells.set_cell_data(number, mask.astype("float32"), truth[number], f"C{number}")
    cells.flush()
    facts = {"plane.imaging_rate": RATE, "device.manufacturer": "Inscopix"}
    more = {"facts": facts, "reader_shape": (COLUMNS, ROWS)}
    return _made(file, "InscopixSegmentationExtractor", truth.T, **more)


if find_spec("isx"):
    makes("Inscopix cells")(inscopix_cells)


@makes("NWB cells")
def nwb_cells(folder: Path) -> Made:
    """As this package writes them: they may be results, so nobody looks for them."""
    folder.mkdir()
    suite2p(folder / "suite2p")
    file = folder / "cells.nwb"
    subject = {"Subject": {"subject_id": "m1"}, "NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
    cells = open_segmentation("Suite2p", {"folder_path": str(folder / "suite2p")})
    write_segmentation_to_nwbfile(cells, file, metadata=subject, backend="hdf5")
    shutil.rmtree(folder / "suite2p")
    facts = {"Subject.subject_id": "m1", "NWBFile.session_start_time": "2026-11-22T09:30:00+01:00"}
    return _made(file, "NwbSegmentationExtractor", traces(ROIS, SAMPLES).T, facts=facts, is_found=False)
