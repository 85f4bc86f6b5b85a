"""What to convert and how: the options of the write operators, checked before any work is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from itertools import compress
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.backend import Backend, Compression
from airflow_provider_ophys.models.output_path import spell_paths
from airflow_provider_ophys.models.recording import Kind
from airflow_provider_ophys.models.rendered_options import OptionalBytes, none_if_blank
from airflow_provider_ophys.models.session_name import SessionName
from airflow_provider_ophys.models.validation import list_problems, number_check

IfExists = Literal["reuse", "fail", "overwrite", "append"]
Reuse = Literal["state", "content"]
SeriesType = Literal["auto", "TwoPhotonSeries", "OnePhotonSeries"]
ParentContainer = Literal["acquisition", "processing/ophys"]
IteratorType = Literal["v2"] | None
MaskType = Literal["image", "pixel", "voxel"]
CentroidType = Literal["mean", "peak"]


class NotContent:
    """Marks an option that changes where, how fast or when something is written, but not what is written."""


def _not_content(options: type[BaseModel]) -> set[str]:
    return {name for name, field in options.model_fields.items() if NotContent in field.metadata}


class ConversionOptions(BaseModel):
    """How recordings become a file, whatever they are: the options that all write operators share."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    _wants_numbers = number_check()

    backend: Backend | None = None
    backend_configuration: dict[str, Any] | None = None
    compression: Compression | None = None
    if_exists: Annotated[IfExists, NotContent] = "reuse"
    memory_limit: Annotated[OptionalBytes, NotContent] = None
    threads: Annotated[PositiveInt | None, NotContent] = None
    # Pydantic's own method of this name is in the way of the field, so the field has the name as its alias.
    validate_output: Annotated[bool, NotContent] = Field(True, alias="validate")
    inspect: Annotated[Literal["report", "fail", "dandi"] | None, NotContent] = None
    report: Annotated[bool, NotContent] = False
    check_recording: Annotated[bool, NotContent] = True
    reuse: Annotated[Reuse, NotContent] = "state"

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return each option, by the name that users write, with its default; ``...`` if it has to be given."""
        return {
            field.alias or name: ... if field.is_required() else field.default
            for name, field in cls.model_fields.items()
        }


class Conversion(ConversionOptions, ABC):
    """
    What is converted, how, and where it is written.

    :raises ConfigurationError: From :meth:`from_options`, with every wrong option in one message.
    """

    nwbfile_path: Annotated[str, BeforeValidator(spell_paths), NotContent]
    # The metadata that comes of these two is compared itself.
    metadata: Annotated[Any, NotContent] = None
    source_metadata: Annotated[bool, NotContent] = True

    kind: ClassVar[Literal["imaging", "segmentation", "session"]]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """
        Check rendered operator options; those that are ``None`` take their default, unless ``None`` is a choice.

        :raises ConfigurationError: One error that names every wrong option.
        """
        conversion, wrong = cls.read_options(options)
        if wrong is not None:
            raise wrong
        return cast("Self", conversion)

    @classmethod
    def read_options(cls, options: Mapping[str, Any]) -> tuple[Self | None, ConfigurationError | None]:
        """
        Check rendered operator options, and go on without the wrong ones, so that more can be checked.

        :returns: The conversion, with defaults in place of what is wrong; ``None`` if that has no default. And one
            error that names every wrong option, or ``None``.
        """
        given = {name: none_if_blank(value) for name, value in options.items()}
        given = {name: value for name, value in given.items() if value is not None or name == "iterator_type"}
        try:
            return cls.model_validate(given), None
        except ValidationError as error:
            wrong = ConfigurationError(
                f"{error.error_count()} option(s) of the conversion are wrong:\n{list_problems(error)}"
            )
            refused = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
        try:
            return cls.model_validate({name: given[name] for name in given.keys() - refused}), wrong
        except ValidationError:
            return None, wrong

    @property
    @abstractmethod
    def parts(self) -> list[MovieOptions | SegmentationOptions]:
        """What is converted, one by one."""

    @property
    def extractor_names(self) -> str:
        """What reads the recordings, for people."""
        return ", ".join(dict.fromkeys(part.extractor for part in self.parts))

    @property
    def session_name(self) -> str:
        """What the session is called whose file it is; empty if that is not known."""
        return ""

    def content_options(self) -> dict[str, Any]:
        """Return the options that decide what the file holds, for telling one conversion from another."""
        return self.model_dump(mode="json", exclude=_not_content(type(self)))


class _SharedByMovies(BaseModel):
    """The options that all movies of a conversion have alike."""

    always_write_timestamps: bool = False
    iterator_type: Annotated[IteratorType, NotContent] = "v2"
    iterator_options: dict[str, Any] | None = None


class _SharedBySegmentations(BaseModel):
    """The options that all segmentations of a conversion have alike."""

    plane_segmentation_name: str | None = None
    background_plane_segmentation_name: str | None = None
    include_background_segmentation: bool = False
    include_roi_centroids: bool = True
    roi_centroids: CentroidType = "mean"
    include_roi_acceptance: bool = True
    mask_type: MaskType = "image"
    iterator_options: dict[str, Any] | None = None


class _OneRecording(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    _wants_numbers = number_check()

    extractor: str
    extractor_kwargs: Annotated[dict[str, Any], NotContent] = {}
    metadata_key: str | None = None


class MovieOptions(_SharedByMovies, _OneRecording):
    """One movie and how it is written; its options are those of ``add_imaging_to_nwbfile``."""

    kind: ClassVar[Kind] = "imaging"

    photon_series_type: SeriesType = "auto"
    photon_series_index: NonNegativeInt = 0
    parent_container: ParentContainer = "acquisition"


class SegmentationOptions(_SharedBySegmentations, _OneRecording):
    """One segmentation and how it is written; its options are those of ``add_segmentation_to_nwbfile``."""

    kind: ClassVar[Kind] = "segmentation"


class RecordingConversion(Conversion):
    """
    A conversion of one recording, or of several with the same options but for those that are lists.

    Several are a list of ``extractor_kwargs``, of ``extractor``, or of both; what is no list is the same for all.
    """

    extractor: str | Annotated[list[str], Field(min_length=1)]
    extractor_kwargs: Annotated[
        dict[str, Any] | Annotated[list[dict[str, Any]], Field(min_length=1)], NotContent
    ] = {}
    metadata_key: str | list[str | None] | None = None

    # Which options may be lists, beside the extractor and its arguments: one entry for each recording.
    listed: ClassVar[tuple[str, ...]] = ("metadata_key",)

    @property
    def is_of_several(self) -> bool:
        """Whether there are several recordings: a list of extractors, or of their arguments."""
        return isinstance(self.extractor, list) or isinstance(self.extractor_kwargs, list)

    def _lists(self) -> dict[str, list[Any]]:
        """Return the options that are lists, one entry for each recording."""
        given = {name: getattr(self, name) for name in ("extractor", "extractor_kwargs", *self.listed)}
        return {name: value for name, value in given.items() if isinstance(value, list)}

    def _each(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return the options of each recording."""
        lists = self._lists()
        shared = {name: getattr(self, name) for name in names if name not in lists}
        count = max(map(len, lists.values()), default=1)
        return [shared | {name: value[place] for name, value in lists.items()} for place in range(count)]

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        lists = {name: len(value) for name, value in self._lists().items()}
        if len(set(lists.values())) > 1:
            raise ValueError(f"lists must be equally long, one entry for each recording (lengths: {lists})")
        if lists and not self.is_of_several:
            raise ValueError(f"{', '.join(lists)} is a list, but there is only one extractor")
        return self


class ImagingConversion(_SharedByMovies, RecordingConversion):
    """The options of a movie, or of several; see :class:`MovieOptions`."""

    kind: ClassVar[Kind] = "imaging"
    listed: ClassVar[tuple[str, ...]] = (
        "metadata_key",
        "photon_series_type",
        "photon_series_index",
        "parent_container",
    )

    photon_series_type: SeriesType | list[SeriesType] = "auto"
    photon_series_index: NonNegativeInt | list[NonNegativeInt] = 0
    parent_container: ParentContainer | list[ParentContainer] = "acquisition"

    @property
    def parts(self) -> list[MovieOptions | SegmentationOptions]:
        """The movies."""
        return [MovieOptions.model_validate(each) for each in self._each(MovieOptions.model_fields)]


class SegmentationConversion(_SharedBySegmentations, RecordingConversion):
    """The options of a segmentation, or of several; see :class:`SegmentationOptions`."""

    kind: ClassVar[Kind] = "segmentation"

    @property
    def parts(self) -> list[MovieOptions | SegmentationOptions]:
        """The segmentations."""
        return [SegmentationOptions.model_validate(each) for each in self._each(SegmentationOptions.model_fields)]


class SessionConversion(Conversion):
    """
    All of a session in one file: any number of movies and of segmentations.

    :param imaging: The movies, in the order in which they are written.
    :param segmentation: The segmentations.
    :param session: Whose they are; no other session that would have its file by its name may replace it.
    :param names: Of the series and tables that these become, if that is known: of the movies, then of the
        segmentations.
    """

    kind: ClassVar[Literal["session"]] = "session"

    session: Annotated[SessionName | None, NotContent] = None
    names: Annotated[list[str], NotContent] = []
    imaging: list[MovieOptions] = []
    segmentation: list[SegmentationOptions] = []

    @property
    def parts(self) -> list[MovieOptions | SegmentationOptions]:
        """The movies, then the segmentations."""
        return [*self.imaging, *self.segmentation]

    @property
    def session_name(self) -> str:
        """What the session is called whose file it is; empty if that is not known."""
        return "" if self.session is None else self.session.name

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if not self.parts:
            raise ValueError("imaging and segmentation are both empty: there is nothing to convert")
        if self.names and len(self.names) != len(self.parts):
            raise ValueError(f"names has {len(self.names)} entries for {len(self.parts)} movies and segmentations")
        return self

    def without(self, names: Collection[str]) -> SessionConversion:
        """Return the conversion of the parts that have other names, which may be none."""
        kept = [name not in names for name in self.names]
        movies = len(self.imaging)
        return self.model_copy(
            update={
                "imaging": list(compress(self.imaging, kept)),
                "segmentation": list(compress(self.segmentation, kept[movies:])),
                "names": list(compress(self.names, kept)),
            }
        )

    def content_options(self) -> dict[str, Any]:
        """Return the options that decide what the file holds; where the recordings lie is not among them."""
        parts: dict[str, type[BaseModel]] = {"imaging": MovieOptions, "segmentation": SegmentationOptions}
        return self.model_dump(
            mode="json",
            exclude=dict.fromkeys(_not_content(type(self)), True)
            | {name: {"__all__": _not_content(part)} for name, part in parts.items()},
        )
