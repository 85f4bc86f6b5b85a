"""
Every error that this package raises.

.. code-block:: text

    OphysError
    ├── ConfigurationError (ValueError)             an option or setting is wrong
    │   ├── MetadataError                           the NWB metadata is wrong or lacks a field
    │   └── BackendConfigurationError               a chunk shape, compression ... is wrong
    ├── ExtractorNotFoundError (LookupError)        no roiextractors class of that name
    ├── ExtractorNotInstalledError (ImportError)    the extractor's optional package is missing
    ├── ExtractorVersionError (RuntimeError)        roiextractors is not as this package knows it
    ├── SourceDataError (ValueError)                the recording cannot be read or makes no sense
    │   ├── EmptyRecordingError                     the recording has no samples or no ROIs
    │   └── SourceChangedError                      the recording is still growing       (a retry may help)
    ├── SourceNotFoundError (FileNotFoundError)     the recording, or a watched root, is not there
    ├── SourceAccessError (OSError)                 the recording's disk or share fails  (a retry may help)
    ├── PathNotAllowedError (PermissionError)       a path is outside [ophys] allowed_roots
    ├── PreflightError (ValueError)                 several of these at once             (if each may be mended)
    ├── OutputExistsError (FileExistsError)         something is already at the output path
    ├── OutputBusyError (BlockingIOError)           another task is writing the output   (a retry may help)
    ├── PlanLostError (FileNotFoundError)           what a plan had allocated is not there any more
    ├── OutputFolderError (OSError)                 the output folder is missing or not writable
    ├── OutputWriteError (OSError)                  the output's disk or share fails     (a retry may help)
    │   └── DiskSpaceError                          too little space for the output      (a retry may help)
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

import errno
import io
import re
from collections.abc import Iterator, Sequence
from typing import Self

# What a log, a web page and a mail can show; a library may quote all of a file in its message.
MOST_CHARACTERS = 6000


class OphysError(Exception):
    """Root of all errors of this package; a message that is too long for a log loses its middle."""

    retryable: bool = False

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(_shortened(one) if isinstance(one, str) else one for one in arguments))


def _shortened(message: str) -> str:
    if len(message) <= MOST_CHARACTERS:
        return message
    head, tail = MOST_CHARACTERS * 3 // 4, MOST_CHARACTERS // 6
    left_out = len(message) - head - tail
    return f"{message[:head]} ... ({left_out:,} characters are left out) ... {message[-tail:]}"


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


class ExtractorVersionError(OphysError, RuntimeError):
    """The installed roiextractors is not as this package knows it."""


class SourceDataError(OphysError, ValueError):
    """The recording cannot be read, or what it holds makes no sense."""


class EmptyRecordingError(SourceDataError):
    """The recording has no samples, or the segmentation has no ROIs."""


class SourceChangedError(SourceDataError):
    """The recording is still growing, or changed while it was converted."""

    retryable = True


class SourceNotFoundError(OphysError, FileNotFoundError):
    """The recording, or the folder that is watched for recordings, does not exist."""


class SourceAccessError(OphysError, OSError):
    """The disk or network share with the recording fails at this moment."""

    retryable = True


class PathNotAllowedError(OphysError, PermissionError):
    """A path is outside the folders that ``[ophys] allowed_roots`` allows."""


class PreflightError(OphysError, ValueError):
    """Several things are in the way of a conversion; nothing was read or written."""

    @classmethod
    def of(cls, problems: Sequence[OphysError]) -> Self:
        """Put several errors into one, which may be retried if each of them may."""
        listed = "\n".join(
            f"{number}. {problem}".replace("\n", "\n   ") for number, problem in enumerate(problems, 1)
        )
        error = cls(f"{len(problems)} things are in the way of this conversion; nothing was done.\n{listed}")
        error.retryable = all(problem.retryable for problem in problems)
        return error


class OutputExistsError(OphysError, FileExistsError):
    """Something that this conversion may not replace is already at the output path."""


class OutputBusyError(OphysError, BlockingIOError):
    """Another task is writing the same output."""

    retryable = True


class PlanLostError(OphysError, FileNotFoundError):
    """What a plan had allocated for several tasks to fill is not there any more."""


class OutputFolderError(OphysError, OSError):
    """The folder of the output does not exist or cannot be written to."""


class OutputWriteError(OphysError, OSError):
    """The disk or network share of the output fails at this moment."""

    retryable = True


class DiskSpaceError(OutputWriteError):
    """There is too little space on the output's disk."""


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


# What a disk or a network share says when it fails as a whole, not because of what is asked of it.
PASSING_ERRNOS = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNABORTED}
    | {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EREMOTEIO, errno.EAGAIN}
    | {errno.ECONNREFUSED, errno.ENETRESET, errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN, errno.EINTR, errno.EBUSY}
)

# What it says as often as it is asked: somebody has to change a right, a name or a mount.
LASTING_ERRNOS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
    | {errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EXDEV, errno.EFBIG, errno.EILSEQ}
)

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})

# As h5py and Python write the number into a message.
ERRNO_IN_TEXT = re.compile(r"\berrno = (\d+)|\[Errno (\d+)\]")
# What HDF5 says, without a number, where an open file cannot be asked for its state: no matter of its content.
WITHOUT_A_NUMBER = "can't retrieve stat info for file"


def unreadable(message: str, cause: BaseException) -> SourceDataError | SourceAccessError:
    """
    Return the error for a recording that cannot be read: of its disk, if that fails, or of its content.

    :param message: What is wrong, where, and what to do.
    :param cause: What a library raised.
    """
    return SourceAccessError(message) if is_passing(cause) else SourceDataError(message)


def is_passing(error: BaseException) -> bool:
    """
    Tell whether an error comes from a disk or a network share that fails as a whole.

    Python takes a regular file on such a share for one in which it cannot be sought.
    """
    for cause in causes(error):
        if isinstance(cause, io.UnsupportedOperation) or WITHOUT_A_NUMBER in str(cause):
            return True
    return not PASSING_ERRNOS.isdisjoint(system_errors(error))


def system_errors(error: BaseException) -> list[int]:
    """Return the numbers that the system gave for an error: in it, in what it came from, or in a text of these."""
    numbers = []
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno is not None:
            numbers.append(cause.errno)
        else:
            numbers += [int(one or other) for one, other in ERRNO_IN_TEXT.findall(str(cause)[:MOST_CHARACTERS])]
    return numbers


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
