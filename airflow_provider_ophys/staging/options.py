"""How to stage: the options of the hook and the operator, checked before any request is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator, model_validator

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.conversion import parse_bytes
from airflow_provider_ophys.staging.extra_args import ALLOWED
from airflow_provider_ophys.staging.files import MIB
from airflow_provider_ophys.staging.parallel import LEAST_MEMORY


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
    :raises ConfigurationError: From :meth:`parse`, with every wrong option in one message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    overwrite: bool = False
    layout: Literal["in_place", "versioned"] = "in_place"
    unsafe_no_conditional: bool = False
    memory_limit: Annotated[int, BeforeValidator(parse_bytes)] = 256 * MIB
    extra_args: dict[str, str] = {}
    dry_run: bool = False
    delete_local: Literal["never", "after_verify"] = "never"

    @field_validator("memory_limit")
    @classmethod
    def _holds_a_part(cls, value: int) -> int:
        if value < LEAST_MEMORY:
            raise ValueError(f"give at least {LEAST_MEMORY // MIB} MiB")
        return value

    @field_validator("extra_args")
    @classmethod
    def _only_allowed(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(value.keys() - ALLOWED):
            raise ValueError(f"{', '.join(unknown)} cannot be passed on; these can: {', '.join(sorted(ALLOWED))}")
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
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'together'}: {problem['msg']}"
                for problem in error.errors()
            )
            raise ConfigurationError(f"These options of staging are wrong: {problems}. Correct them.") from error
