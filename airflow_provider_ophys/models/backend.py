"""How the arrays of an NWB file are stored: chunks, filters and compression, per dataset, in HDF5 and in Zarr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.models.validation import list_problems, number_check

Backend = Literal["hdf5", "zarr"]
Compression = Literal["fast", "small", "none"]
Layout = Literal["frames", "traces"]

Shape = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Option = bool | int | float | str
Options = Mapping[str, range | tuple[str, ...] | None]
"""Options of a codec or filter -> what each may be; ``None`` leaves that to the library that has it."""

BLOSC_CNAMES = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")

HDF5PLUGIN_OPTIONS: Mapping[str, Options] = {
    "bitshuffle": {"nelems": None, "cname": ("none", "lz4", "zstd"), "clevel": range(1, 23)},
    "blosc": {"cname": BLOSC_CNAMES, "clevel": range(10), "shuffle": range(3)},
    "blosc2": {"cname": BLOSC_CNAMES, "clevel": range(10), "filters": None},
    "bzip2": {"blocksize": range(1, 10)},
    "fcidecomp": {},
    "htj2k": {},
    "lz4": {"nbytes": None},
    "sperr": dict.fromkeys(("rate", "peak_signal_to_noise_ratio", "absolute", "swap", "missing_value_mode")),
    "sz": dict.fromkeys(("absolute", "relative", "pointwise_relative")),
    "sz3": dict.fromkeys(("absolute", "relative", "norm2", "peak_signal_to_noise_ratio")),
    "zfp": dict.fromkeys(
        ("rate", "precision", "accuracy", "reversible", "minbits", "maxbits", "maxprec", "minexp")
    ),
    "zstd": {"clevel": range(1, 23)},
}
"""The filters of hdf5plugin, with the options that its classes take; it need not be installed to name them."""

LOSSY = {"sperr", "sz", "sz3", "zfp", "bitround", "quantize", "fixedscaleoffset"}
"""Codecs and filters that round, as a rule; none of them is used unless it is asked for."""


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class _DatasetConfiguration(BaseModel):
    """How one dataset is stored; may be changed in place, and is checked again then."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)
    _wants_numbers = number_check()

    CODECS: ClassVar[Mapping[str, Options]]
    FILTERS: ClassVar[Mapping[str, Options]]

    chunk_shape: Shape | None = Field(
        None,
        description="Stored chunk, in the dataset's own axis order; samples of the first axis as a rule. Or the "
        "name of a layout for movies, 'frames' or 'traces'.",
    )
    chunk_layout: Layout | None = Field(None, description="Where the name goes that is given for chunk_shape.")
    buffer_shape: Shape | None = Field(
        None, description="Most that is read from the source at once, at least a chunk; only memory depends on it."
    )
    compression_method: str | None = Field(
        None, description="Preset or codec; the conversion's own compression when not given."
    )
    compression_options: dict[str, Option] = Field(
        default_factory=dict, description="Options of the codec, by its own names; the presets take none."
    )
    filter_methods: tuple[str, ...] | None = Field(
        None, description="What is done to a chunk before it is compressed, in this order; () for nothing."
    )
    filter_options: tuple[dict[str, Option], ...] = Field(
        (), description="Options of each filter, in the order of filter_methods."
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_layout(cls, value: object) -> object:
        """Let a user name a layout where a shape goes: what it means depends on the dataset."""
        if isinstance(value, Mapping) and isinstance(value.get("chunk_shape"), str):
            return {**value, "chunk_shape": None, "chunk_layout": value["chunk_shape"]}
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """
        Change a setting.

        A new chunk takes with it the buffer and the shard that it does not fit: their defaults count again. A new
        codec takes the old one's options with it, and new filters theirs.

        :raises BackendConfigurationError: If it makes no sense.
        """
        changed = {field: getattr(self, field) for field in self.model_fields_set} | {name: value}
        for dependent in _DEPENDENTS.get(name, ()) if getattr(self, name, None) != value else ():
            if not _fits(type(self), changed):
                changed.pop(dependent, None)
        try:
            checked = type(self).model_validate(changed)
        except ValidationError as error:
            raise BackendConfigurationError(f"{name} cannot be {value!r}:\n{list_problems(error)}") from error
        self.__dict__.update(checked.__dict__)
        self.__pydantic_fields_set__.add(name)

    @property
    def is_lossy(self) -> bool:
        """Whether what is read back may differ from what was written."""
        return bool(LOSSY & {self.compression_method, *(self.filter_methods or ())})

    @model_validator(mode="after")
    def _check_codec(self) -> Self:
        if self.compression_options and self.compression_method is None:
            raise ValueError("compression_options need a compression_method beside them")
        if self.compression_method is not None:
            _check_options(
                "compression_method",
                self.compression_method,
                self.compression_options,
                self.CODECS.get(self.compression_method, {}),
            )
        return self

    @model_validator(mode="after")
    def _check_filters(self) -> Self:
        methods = self.filter_methods or ()
        for method in methods:
            if method not in self.FILTERS:
                raise ValueError(f"filter {method!r} is not known (known: {', '.join(self.FILTERS)})")
        if len(self.filter_options) not in (0, len(methods)):
            raise ValueError(
                f"filter_options has {len(self.filter_options)} entries for {len(methods)} filter_methods; "
                "give one for each ({} for none), or leave it out"
            )
        for method, options in zip(methods, self.filter_options, strict=False):
            _check_options("filter", method, options, self.FILTERS[method])
        return self

    @model_validator(mode="after")
    def _check_buffer(self) -> Self:
        chunk, buffer = self.chunk_shape, self.buffer_shape
        if (
            chunk
            and buffer
            and (len(chunk) != len(buffer) or any(c > b for c, b in zip(chunk, buffer, strict=True)))
        ):
            raise ValueError(f"buffer_shape {buffer} does not hold a whole chunk of shape {chunk}")
        return self


# What a setting takes with it when it changes, if the two do not fit any more.
_DEPENDENTS = {
    "chunk_shape": ("chunk_layout", "shard_shape", "buffer_shape"),
    "compression_method": ("compression_options",),
    "filter_methods": ("filter_options",),
}


def _fits(model: type[BaseModel], settings: Mapping[str, Any]) -> bool:
    try:
        model.model_validate(settings)
    except ValidationError:
        return False
    return True


def _check_options(what: str, method: str, given: Mapping[str, Option], known: Options) -> None:
    for option, value in given.items():
        if option not in known:
            raise ValueError(f"{what} {method!r} has no option {option!r} (known: {', '.join(known) or 'none'})")
        allowed = known[option]
        if allowed is None or (not isinstance(value, bool) and value in allowed):
            continue
        shown = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else ", ".join(allowed)
        raise ValueError(f"{option} {value!r} of {what} {method!r} is not one of {shown}")


HDF5Method = Annotated[
    Literal[
        "fast", "small", "none", "gzip", "lzf",
        "bitshuffle", "blosc", "blosc2", "bzip2", "fcidecomp", "htj2k", "lz4", "sperr", "sz", "sz3", "zfp", "zstd",
    ],
    BeforeValidator(_lower),
]  # fmt: skip


class HDF5DatasetConfiguration(_DatasetConfiguration):
    """
    Storage of one HDF5 dataset.

    ``compression_method``: ``"fast"`` and ``"small"`` are presets of HDF5's standard filters shuffle and
    deflate, which every HDF5 reader has; ``"gzip"`` is the same with a deflate ``level`` (0 to 9); ``"lzf"`` is
    h5py's; ``"none"`` stores the bytes as they are; the others are those of hdf5plugin (extra ``hdf5plugin``),
    with its options, and their readers need it too.

    ``filter_methods``: ``"shuffle"``, the default with the first four but ``"none"``, and ``"fletcher32"``, a
    checksum for each chunk. Neither has options.
    """

    CODECS: ClassVar[Mapping[str, Options]] = {"gzip": {"level": range(10)}, **HDF5PLUGIN_OPTIONS}
    FILTERS: ClassVar[Mapping[str, Options]] = {"shuffle": {}, "fletcher32": {}}

    compression_method: HDF5Method | None = None


ZarrMethod = Annotated[
    Literal["fast", "small", "none", "zstd", "gzip", "blosc"],
    BeforeValidator(_lower),
]


class ZarrDatasetConfiguration(_DatasetConfiguration):
    """
    Storage of one Zarr (format 3) array.

    ``compression_method``: ``"fast"`` and ``"small"`` are presets of blosc with zstd and bit shuffling; ``"zstd"``
    (``level`` 1 to 22), ``"gzip"`` (``level`` 0 to 9) and ``"blosc"`` (``cname``, ``clevel`` 0 to 9, ``shuffle``)
    are the plain codecs; ``"none"`` stores the bytes as they are.

    ``filter_methods``, none by default, are those of numcodecs: ``"delta"`` and ``"shuffle"`` lose nothing,
    ``"bitround"``, ``"quantize"`` and ``"fixedscaleoffset"`` round. Only zarr-python reads them back.
    """

    CODECS: ClassVar[Mapping[str, Options]] = {
        "zstd": {"level": range(1, 23)},
        "gzip": {"level": range(10)},
        "blosc": {
            "cname": BLOSC_CNAMES,
            "clevel": range(10),
            "shuffle": ("noshuffle", "shuffle", "bitshuffle"),
        },
    }
    FILTERS: ClassVar[Mapping[str, Options]] = {
        "delta": {},
        "shuffle": {},
        "bitround": {"keepbits": None},
        "quantize": {"digits": None},
        "fixedscaleoffset": {"offset": None, "scale": None},
    }

    compression_method: ZarrMethod | None = None
    shard_shape: Shape | None = Field(
        None, description="One file holds one shard: a whole multiple of the chunk on every axis."
    )

    @model_validator(mode="after")
    def _check_shard(self) -> Self:
        if self.shard_shape and self.chunk_shape:
            check_shard_shape(self.shard_shape, self.chunk_shape)
        return self


def check_shard_shape(shard_shape: tuple[int, ...], chunk_shape: tuple[int, ...]) -> None:
    """
    Check that whole chunks fill a shard.

    :raises ValueError: If they do not.
    """
    if len(shard_shape) != len(chunk_shape) or any(
        shard % chunk for shard, chunk in zip(shard_shape, chunk_shape, strict=True)
    ):
        raise ValueError(f"shard_shape {shard_shape} is no whole multiple of chunk_shape {chunk_shape}")


DatasetConfiguration = HDF5DatasetConfiguration | ZarrDatasetConfiguration


class _BackendConfiguration(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)
    _wants_numbers = number_check()

    dataset_configurations: dict[str, Any] = {}

    def apply_global_compression(
        self, compression_method: str, compression_options: dict[str, Option] | None = None
    ) -> None:
        """
        Set the compression of all datasets, in place; filters are then those that the method has by default.

        :param compression_method: Preset or codec; ``"none"`` for none.
        :param compression_options: Of the codec.
        :raises BackendConfigurationError: If it is not one of this backend.
        """
        for configuration in self.dataset_configurations.values():
            configuration.compression_method = compression_method
            configuration.compression_options = compression_options or {}
            configuration.filter_methods = None

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


def stated_backend(configuration: Mapping[str, Any] | BackendConfiguration | None) -> Backend | None:
    """Return which backend a configuration itself says that it is for, if it does."""
    if isinstance(configuration, BaseModel):
        return configuration.backend
    return None if configuration is None else configuration.get("backend")


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
    stated = stated_backend(configuration)
    if stated not in (None, backend):
        raise BackendConfigurationError(
            f"backend_configuration is for {stated!r}, but the file is {backend!r}. "
            "Give the configuration of the same backend."
        )
    if isinstance(configuration, BaseModel):
        return configuration
    try:
        return model.model_validate(configuration or {})
    except ValidationError as error:
        raise BackendConfigurationError(
            f"backend_configuration has {error.error_count()} problem(s):\n{list_problems(error)}"
        ) from error
