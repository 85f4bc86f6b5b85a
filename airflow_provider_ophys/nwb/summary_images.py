"""Summary images of a segmentation: mean, correlation and whatever else it has of the whole field of view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pynwb import NWBFile
from pynwb.base import Images
from pynwb.image import GrayscaleImage, RGBAImage, RGBImage

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.nwb.nwbfile import ophys_module
from airflow_provider_ophys.nwb.segmentation_entry import SegmentationEntry
from airflow_provider_ophys.writing.number_types import stored_dtype
from airflow_provider_ophys.writing.roi_masks import RoiMasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

type Image = GrayscaleImage | RGBImage | RGBAImage

CONTAINER = "SegmentationImages"

PLANE, VOLUME = 2, 3
COLOURED = {3: RGBImage, 4: RGBAImage}


def make_images(images: Mapping[str, NDArray[Any]], entry: SegmentationEntry, extractor: Any) -> list[Image]:
    """
    Make NWB images, (columns, rows[, colours]); of a volume, one for each plane.

    :param images: By role.
    :param entry: Gives their names and descriptions.
    :param extractor: Tells whether the third axis of an image, if there is one, is that of planes or of colours.
    :raises SourceDataError: If an image has a shape that no image has.
    """
    made: list[Image] = []
    for role, found in images.items():
        described = entry.image(role)
        image = found.astype(stored_dtype(found.dtype, f"The pixels of the {role} image"), copy=False)
        fields = described.model_dump(exclude_none=True)
        if image.ndim == PLANE:
            made.append(GrayscaleImage(**fields, data=_columns_first(image)))
        elif image.ndim == VOLUME and image.shape[-1] in COLOURED and not _is_volumetric(extractor):
            made.append(COLOURED[image.shape[-1]](**fields, data=_columns_first(image)))
        elif image.ndim == VOLUME:
            made += [
                GrayscaleImage(
                    resolution=described.resolution,
                    name=f"{described.name}_plane{plane}",
                    description=f"{described.description} Plane {plane}, counted from 0.",
                    data=_columns_first(image[:, :, plane]),
                )
                for plane in range(image.shape[-1])
            ]
        else:
            raise SourceDataError(
                f"The {role} image of {type(extractor).__name__} is {image.shape}; an image is (rows, columns), "
                "with an axis for planes or colours after them. Check the segmentation."
            )
    return made


def _is_volumetric(extractor: Any) -> bool:
    masks = RoiMasks(extractor)
    return masks.exist and len(masks.image_shape) == VOLUME


def _columns_first(image: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(np.swapaxes(image, 0, 1))


def add_images(nwbfile: NWBFile, images: list[Image]) -> None:
    """Add images to the container ``SegmentationImages``."""
    module = ophys_module(nwbfile)
    if images and CONTAINER not in module.data_interfaces:
        module.add(Images(name=CONTAINER, description="The summary images of the segmentation."))
    for image in images:
        module[CONTAINER].add_image(image)
