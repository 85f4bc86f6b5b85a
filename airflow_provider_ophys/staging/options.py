"""How to stage, each option declared once and checked before any request is made; and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.rendered_options import none_if_blank, parse_bytes
from airflow_provider_ophys.models.validation import number_check
from airflow_provider_ophys.staging.files import MIB
from airflow_provider_ophys.staging.transfer_threads import LEAST_MEMORY

# No keys of the customer's own: they would be secrets in options. No metadata: S3 compares none of it.
ALLOWED_EXTRA_ARGS = frozenset(
    {"ACL", "ExpectedBucketOwner", "SSEKMSKeyId", "ServerSideEncryption", "StorageClass", "Tagging"}
)


def _true_or_false(value: object) -> object:
    """Read what a template made of a boolean, where any other text means something else."""
    return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


class StagingOptions(BaseModel):
    """
    How to stage.

    :param overwrite: Whether other content of that name may be replaced. Of a tree, objects that the new one lacks
        are then deleted.
    :param layout: ``in_place`` is ``<name>``, where a tree that is replaced is absent for a while. ``versioned``
        is ``<name>/<digest>/<name>`` for each content, all of which stay, and ``<name>/latest.json``, which is
        switched to the newest at once.
    :param unsafe_no_conditional: Stage to a store that keeps no conditions of writes. It is then up to the user
        that never more than one task writes to a destination.
    :param memory_limit: Most bytes that staging holds beyond its imports, at least 32 MiB: a number, or
        ``"512MiB"``. What is known of each file and object of a tree comes on top.
    :param extra_args: What the requests carry, as boto3 names it: ``ServerSideEncryption``, ``SSEKMSKeyId``,
        ``Tagging``, ``StorageClass``, ``ACL``, ``ExpectedBucketOwner``.
    :param dry_run: Only tell what would be done: nothing is written or deleted anywhere.
    :param delete_local: ``after_verify`` deletes the source when a listing has just confirmed all of it.
    :param dandi_path: Name the file as ``dandi organize`` would, below the destination.
    :raises ConfigurationError: From :meth:`parse`, with every wrong option in one message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    _wants_numbers = number_check()
    _may_be_none: ClassVar[frozenset[str]] = frozenset()

    overwrite: bool = False
    layout: Literal["in_place", "versioned"] = "in_place"
    unsafe_no_conditional: bool = False
    memory_limit: Annotated[int, BeforeValidator(parse_bytes)] = 256 * MIB
    extra_args: dict[str, str] = {}
    dry_run: bool = False
    delete_local: Literal["never", "after_verify"] = "never"
    dandi_path: bool = False

    @field_validator("memory_limit")
    @classmethod
    def _holds_a_part(cls, value: int) -> int:
        if value < LEAST_MEMORY:
            raise ValueError(f"give at least {LEAST_MEMORY // MIB} MiB")
        return value

    @field_validator("extra_args")
    @classmethod
    def _only_allowed(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(value.keys() - ALLOWED_EXTRA_ARGS):
            raise ValueError(
                f"{', '.join(unknown)} cannot be passed on; these can: {', '.join(sorted(ALLOWED_EXTRA_ARGS))}"
            )
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.overwrite and self.layout == "versioned":
            raise ValueError("the versioned layout keeps all versions, so overwrite=True has nothing to replace")
        return self

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """
        Check options, some of which a template may have turned into text.

        :raises ConfigurationError: One error that names every wrong option.
        """
        given = {name: none_if_blank(value) for name, value in options.items()}
        # None is a choice of its own only where a model says so.
        given = {name: value for name, value in given.items() if value is not None or name in cls._may_be_none}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'together'}: {problem['msg']}"
                for problem in error.errors()
            )
            raise ConfigurationError(f"These options of staging are wrong: {problems}. Correct them.") from error


class StageToS3Options(StagingOptions):
    """
    All options of ``StageToS3Operator`` but its source and destination.

    :param aws_conn_id: Id of the Airflow connection of type ``aws``. None leaves the search for credentials to
        boto3.
    :param region_name: Region of the bucket; by default the connection's.
    :param verify: Whether to check TLS certificates, or the path of a CA bundle; by default the connection's.
    :param verify_only: Audit what was staged earlier, and change nothing.
    :param max_concurrency: Most requests at the same time.
    :param allow_insecure_http: Whether data may go over plain http to another machine.
    """

    _may_be_none: ClassVar[frozenset[str]] = frozenset({"aws_conn_id"})

    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    verify: Annotated[bool | str | None, BeforeValidator(_true_or_false)] = None
    verify_only: bool = False
    max_concurrency: PositiveInt = 10
    allow_insecure_http: bool = False

    @model_validator(mode="after")
    def _audits_change_nothing(self) -> Self:
        changing = ("overwrite", "delete_local", "dry_run")
        given = [name for name in changing if getattr(self, name) != type(self).model_fields[name].default]
        if self.verify_only and given:
            raise ValueError(f"verify_only changes nothing, so it cannot be combined with {', '.join(given)}")
        return self

    def of_publishing(self) -> dict[str, Any]:
        """Return those that :class:`StagingOptions` has, as the hook takes them."""
        return {name: getattr(self, name) for name in StagingOptions.model_fields}


@dataclass(frozen=True, slots=True)
class StagingResult:
    """
    What staging reports.

    ``source`` is the local path. ``manifest_uri`` is the list of a tree's objects; a file needs none. ``digest``
    stands for the content: ``crc64nvme:`` and the checksum that S3 itself shows of a file, ``sha256:`` and that of
    the list of all objects and their checksums of a tree. ``latest_uri`` is what names the newest version in the
    versioned layout. ``objects`` and ``size_bytes`` count all that it became;
    ``uploaded`` of these objects were sent now and ``skipped`` were there already; ``deleted`` objects of earlier
    content were removed, and ``deleted_local`` tells whether the source was. ``sent_bytes`` went to the store;
    ``copied_bytes`` it copied itself, of what it replaced or had elsewhere; what an interrupted upload had left is
    in neither. After a ``dry_run`` these say what would have been done, if nothing could be copied.
    """

    source: str
    s3_uri: str
    manifest_uri: str | None
    latest_uri: str | None
    digest: str
    objects: int
    size_bytes: int
    uploaded: int
    skipped: int
    deleted: int
    sent_bytes: int
    copied_bytes: int
    deleted_local: bool
    dry_run: bool
    elapsed_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as what XCom and asset events carry."""
        return asdict(self)
