"""What S3 and boto3 say when something is wrong, turned into our errors, which say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)

from airflow_provider_ophys.exceptions import ConfigurationError, OphysError, StagingError
from airflow_provider_ophys.staging.store import ConditionNotMetError

CLOCKS_APART = "RequestTimeTooSkewed"
# More is refused by AWS and by those who do as it does.
_TOO_FAR_APART = timedelta(minutes=15)
CONDITION_NOT_MET = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "NoSuchUpload"})


class _Advice(NamedTuple):
    """What to tell the user of an error that the server answered with, known by its code or its status."""

    error: type[OphysError]
    text: str
    codes: frozenset[str] = frozenset()
    status: int = 0


_ADVICE = (
    _Advice(
        ConditionNotMetError,
        "Another writer interfered with what was done in bucket {bucket!r} ({operation}: {code}). Try again when "
        "it is done.",
        codes=CONDITION_NOT_MET,
    ),
    _Advice(
        ConfigurationError,
        "There is no bucket {bucket!r}. Create it, or correct the destination.",
        codes=frozenset({"NoSuchBucket"}),
    ),
    _Advice(
        ConfigurationError,
        "{connection} has credentials that the server of bucket {bucket!r} does not accept ({code}). Correct "
        "access key and secret key.",
        codes=frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity"}),
    ),
    _Advice(
        StagingError,
        "The clock of this machine is too far from that of the server of bucket {bucket!r}, which refuses all "
        "until they agree ({operation}: {code}). Set it, and try again.",
        codes=frozenset({CLOCKS_APART}),
    ),
    _Advice(
        StagingError,
        "{connection} has credentials that have expired ({code}). Renew them.",
        codes=frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}),
    ),
    _Advice(
        ConfigurationError,
        "{connection} has another region than bucket {bucket!r} ({code}: {message}). Correct region_name.",
        codes=frozenset(
            {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
        ),
    ),
    _Advice(
        StagingError,
        "What arrived in bucket {bucket!r} is not what was sent ({code}). Try again.",
        codes=frozenset(
            {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
        ),
    ),
    _Advice(
        ConfigurationError,
        "{connection} may not do {operation} in bucket {bucket!r} ({code}: {message}). Allow it, or use a "
        "connection that may.",
        status=HTTPStatus.FORBIDDEN,
    ),
    _Advice(
        ConfigurationError,
        "The server of bucket {bucket!r} cannot do {operation} as safe publishing needs it ({code}: {message}). "
        "Use a store with conditional writes, or set unsafe_no_conditional=True if never more than one task "
        "writes to this destination.",
        status=HTTPStatus.NOT_IMPLEMENTED,
    ),
)
_OTHER_ANSWER = _Advice(
    StagingError, "The server of bucket {bucket!r} answered {operation} with {code} ({message}). Try again later."
)


@contextmanager
def explained(connection: str, bucket: str) -> Iterator[None]:
    """
    Turn what botocore raises meanwhile into our errors.

    :param connection: What the credentials come from, as the beginning of a sentence.
    :raises ConfigurationError: If connection, credentials, rights or bucket are wrong.
    :raises ConditionNotMetError: If the condition of a write does not hold.
    :raises StagingError: If the server fails or cannot be reached.
    """
    try:
        yield
    except ClientError as error:
        raise _client_error(error, connection, bucket) from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound, ParamValidationError) as error:
        raise ConfigurationError(f"{connection} cannot be used: {error}. Correct it.") from error
    except CredentialRetrievalError as error:
        raise StagingError(f"{connection} gave no credentials: {error}") from error
    except BotoCoreError as error:
        if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise ConfigurationError(
                f"The server of bucket {bucket!r} shows a certificate that is not trusted: {error}. Give the "
                f"path of its CA bundle as 'verify', here or in the extra of {_inside(connection)}."
            ) from error
        raise StagingError(
            f"The server of bucket {bucket!r} cannot be reached or does not answer: {error} Try again; if it "
            f"stays so, check the endpoint of {_inside(connection)}."
        ) from error


def error_code(error: ClientError) -> str:
    """Give the code of an answer, such as ``NoSuchBucket``."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    # An answer to HEAD has no body to say why.
    return CLOCKS_APART if code == "403" and _clocks_are_apart(error) else code


def _clocks_are_apart(error: ClientError) -> bool:
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return bool(date) and abs(parsedate_to_datetime(date) - datetime.now(UTC)) > _TOO_FAR_APART


def error_status(error: ClientError) -> int:
    """Give the HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _client_error(error: ClientError, connection: str, bucket: str) -> OphysError:
    code, status = error_code(error), error_status(error)
    advice = next((known for known in _ADVICE if code in known.codes or status == known.status), _OTHER_ANSWER)
    ours = advice.error(
        advice.text.format(
            connection=connection,
            bucket=bucket,
            operation=error.operation_name,
            code=code,
            message=error.response.get("Error", {}).get("Message", ""),
        )
    )
    if isinstance(ours, ConditionNotMetError):
        ours.code = code
    return ours


def _inside(name: str) -> str:
    """Give a name as it stands inside a sentence."""
    return name[0].lower() + name[1:]
