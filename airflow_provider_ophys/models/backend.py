"""How the arrays of an NWB file are stored: chunks and compression, per dataset, for HDF5 and for Zarr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.models.problems import list_problems

Backend = Literal["hdf5", "zarr"]
Compression = Literal["fast", "small", "none"]
Layout = Literal["frames", "traces"]

Shape = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class _DatasetConfiguration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    chunk_shape: Shape | None = Field(
        None, description="Stored chunk, same axis order as the dataset; whole frames when not given."
    )
    compression_options: dict[str, int] = Field(
        default_factory=dict, description="{'level': n} for a named codec; the presets take none."
    )

    def _check_options(self, method: str, levels: Mapping[str, range]) -> None:
        unknown = sorted(set(self.compression_options) - {"level"})
        if unknown:
            raise ValueError(f"compression_options has {unknown[0]!r}; only 'level' is known")
        level = self.compression_options.get("level")
        if level is None:
            return
        if method not in levels:
            raise ValueError(f"compression_method {method!r} takes no level; only {', '.join(levels)} do")
        if level not in levels[method]:
            raise ValueError(
                f"level {level} is not one of {method!r} ({levels[method][0]} to {levels[method][-1]})"
            )


class HDF5DatasetConfiguration(_DatasetConfiguration):
    """
    Storage of one HDF5 dataset.

    ``compression_method``: ``"fast"`` and ``"small"`` are presets of HDF5's standard filters shuffle and
    deflate, which every HDF5 reader has; ``"gzip"`` is the same with a deflate level (0 to 9); ``"lzf"`` is
    h5py's; ``"none"`` stores the bytes as they are. Default: what the conversion's ``compression`` says.
    """

    LEVELS: ClassVar[Mapping[str, range]] = {"gzip": range(10)}

    compression_method: Literal["fast", "small", "none", "gzip", "lzf"] | None = None

    @model_validator(mode="after")
    def _check(self) -> HDF5DatasetConfiguration:
        self._check_options(str(self.compression_method), self.LEVELS)
        return self


class ZarrDatasetConfiguration(_DatasetConfiguration):
    """
    Storage of one Zarr (format 3) array.

    ``compression_method``: ``"fast"`` and ``"small"`` are presets of blosc with zstd and bit shuffling;
    ``"zstd"`` (level 1 to 22), ``"gzip"`` (0 to 9) and ``"blosc"`` (0 to 9) are the plain codecs; ``"none"``
    stores the bytes as they are. Default: what the conversion's ``compression`` says.
    """

    LEVELS: ClassVar[Mapping[str, range]] = {"zstd": range(1, 23), "gzip": range(10), "blosc": range(10)}

    compression_method: Literal["fast", "small", "none", "zstd", "gzip", "blosc"] | None = None
    shard_shape: Shape | None = Field(
        None, description="One file holds one shard: a whole multiple of the chunk on every axis."
    )

    @model_validator(mode="after")
    def _check(self) -> ZarrDatasetConfiguration:
        self._check_options(str(self.compression_method), self.LEVELS)
        if self.shard_shape is not None:
            if self.chunk_shape is None:
                raise ValueError("shard_shape needs chunk_shape beside it")
            if len(self.shard_shape) != len(self.chunk_shape) or any(
                shard % chunk for shard, chunk in zip(self.shard_shape, self.chunk_shape, strict=True)
            ):
                raise ValueError(
                    f"shard_shape {self.shard_shape} is no whole multiple of chunk_shape {self.chunk_shape}"
                )
        return self


class _BackendConfiguration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _accept_bare_mapping(cls, value: object) -> object:
        """Let a DAG say ``{"acquisition/TwoPhotonSeries/data": {...}}`` without the field around it."""
        if isinstance(value, Mapping) and not set(value) & set(cls.model_fields):
            return {"dataset_configurations": value}
        return value


class HDF5BackendConfiguration(_BackendConfiguration):
    """Storage of the datasets of an HDF5 file, by their location, for example ``acquisition/S/data``."""

    backend: Literal["hdf5"] = "hdf5"
    dataset_configurations: dict[str, HDF5DatasetConfiguration] = {}


class ZarrBackendConfiguration(_BackendConfiguration):
    """Storage of the arrays of a Zarr store, by their location, for example ``acquisition/S/data``."""

    backend: Literal["zarr"] = "zarr"
    dataset_configurations: dict[str, ZarrDatasetConfiguration] = {}


BackendConfiguration = HDF5BackendConfiguration | ZarrBackendConfiguration


def parse_backend_configuration(
    backend: Backend, configuration: Mapping[str, Any] | BackendConfiguration | None
) -> BackendConfiguration:
    """
    Check a storage configuration against the backend that it is for.

    :param backend: What will be written.
    :param configuration: ``None`` for the defaults, a model, or the mapping that a DAG carries: dataset
        location to its settings.
    :raises BackendConfigurationError: If a setting is wrong, or the configuration is for the other backend.
    """
    model = HDF5BackendConfiguration if backend == "hdf5" else ZarrBackendConfiguration
    if isinstance(configuration, BaseModel):
        if configuration.backend != backend:
            raise BackendConfigurationError(
                f"backend_configuration is for {configuration.backend!r}, but the file is {backend!r}. "
                "Give the configuration of the same backend."
            )
        return configuration
    try:
        return model.model_validate(configuration or {})
    except ValidationError as error:
        raise BackendConfigurationError(
            f"backend_configuration has {error.error_count()} problem(s):\n{list_problems(error)}"
        ) from error
