"""
Every error that this package raises.

.. code-block:: text

    OphysError
    ├── ConfigurationError (ValueError)             an option or setting is wrong
    │   ├── MetadataError                           the NWB metadata is wrong or lacks a field
    │   └── BackendConfigurationError               a chunk shape, compression ... is wrong
    ├── ExtractorNotFoundError (LookupError)        no roiextractors class of that name
    ├── ExtractorNotInstalledError (ImportError)    the extractor's optional package is missing
    ├── SourceDataError (ValueError)                the recording cannot be read or makes no sense
    │   └── EmptyRecordingError                     the recording has no samples or no ROIs
    ├── SourceNotFoundError (FileNotFoundError)     the recording, or a watched root, is not there
    ├── OutputExistsError (FileExistsError)         something is already at the output path
    ├── OutputBusyError (BlockingIOError)           another task is writing the output   (a retry may help)
    ├── OutputFolderError (OSError)                 the output folder is missing or not writable
    ├── InvalidOutputError (RuntimeError)           the file just written failed its check
    ├── ConversionStoppedError (RuntimeError)       the conversion was asked to stop     (a retry may help)
    ├── MemoryBudgetError (MemoryError)             the memory budget is too small       (a retry may help)
    ├── AcquisitionAccessError (OSError)            a watched folder cannot be looked at (a retry may help)
    └── StagingError (OSError)                      publishing to S3 failed              (a retry may help)
        ├── StagingConflictError (FileExistsError)  other content is already published there
        └── StagingDamageError                      an audit found something missing, altered or extra

Each takes one message that says what is wrong, where, and what to do. ``retryable`` tells whether a later try
of the same task, with the same arguments, may succeed; Airflow fails the others at once.
"""

from __future__ import annotations

from typing import ClassVar


class OphysError(Exception):
    """Root of all errors of this package."""

    retryable: ClassVar[bool] = False


class ConfigurationError(OphysError, ValueError):
    """An option or setting is wrong."""


class MetadataError(ConfigurationError):
    """The NWB metadata is wrong or lacks a required field."""


class BackendConfigurationError(ConfigurationError):
    """The storage configuration of a dataset is wrong."""


class ExtractorNotFoundError(OphysError, LookupError):
    """There is no roiextractors class of that name."""


class ExtractorNotInstalledError(OphysError, ImportError):
    """The optional package that an extractor needs is not installed."""


class SourceDataError(OphysError, ValueError):
    """The recording cannot be read, or what it holds makes no sense."""


class EmptyRecordingError(SourceDataError):
    """The recording has no samples, or the segmentation has no ROIs."""


class SourceNotFoundError(OphysError, FileNotFoundError):
    """The recording, or the folder that is watched for recordings, does not exist."""


class OutputExistsError(OphysError, FileExistsError):
    """Something that this conversion may not replace is already at the output path."""


class OutputBusyError(OphysError, BlockingIOError):
    """Another task is writing the same output."""

    retryable = True


class OutputFolderError(OphysError, OSError):
    """The folder of the output does not exist or cannot be written to."""


class InvalidOutputError(OphysError, RuntimeError):
    """The file that was just written failed its check; it was not published."""


class ConversionStoppedError(OphysError, RuntimeError):
    """The conversion was asked to stop before it was finished."""

    retryable = True


class MemoryBudgetError(OphysError, MemoryError):
    """The memory budget is too small for this conversion."""

    retryable = True


class AcquisitionAccessError(OphysError, OSError):
    """A watched folder exists but cannot be looked at."""

    retryable = True


class StagingError(OphysError, OSError):
    """Publishing to S3 failed."""

    retryable = True


class StagingConflictError(StagingError, FileExistsError):
    """Other content is already published at the destination."""

    retryable = False


class StagingDamageError(StagingError):
    """An audit found that what was staged is not there as it was any more."""

    retryable = False
