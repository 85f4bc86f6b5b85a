"""How to stage: the options of the hook and the operator, checked before any request is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_ophys.exceptions import ConfigurationError


class StagingOptions(BaseModel):
    """
    How to stage.

    :param overwrite: Whether other content of that name may be replaced.
    :raises ConfigurationError: From :meth:`parse`, with every wrong option in one message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    overwrite: bool = False

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
