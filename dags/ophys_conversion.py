"""
What a folder's session.yaml names, as options of the two write operators: for DAGs that write in parts.

The DAGs beside this file need none of it: they describe a session and write all of it at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.settings import allowed_roots


def read_session(folder: Path) -> dict[str, dict[str, Any]]:
    """
    Read what a folder's session.yaml says was recorded.

    :param folder: The acquisition's folder.
    :returns: The options of the write operators, with absolute paths, for ``imaging`` and, where there is one,
        ``segmentation``.
    :raises ConfigurationError: If the file is missing or says something else.
    :raises PathNotAllowedError: If a path leads out of the folder and of ``[ophys] allowed_roots``.
    """
    from airflow_provider_ophys.sessions.session_yaml import operator_options, read_session_yaml

    session = read_session_yaml(folder, allowed_roots())
    if not session.imaging:
        raise ConfigurationError(
            f"{folder / 'session.yaml'} must say what 'imaging' is. docs/session-yaml.md shows one."
        )
    options = {"imaging": operator_options(session.imaging)}
    return options | ({"segmentation": operator_options(session.segmentation)} if session.segmentation else {})
