"""How this process gets into its Kafka: the one place that turns settings into what clients are given."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from settings import Kafka

#: A process speaks to one Kafka, so this is said once, when it starts, and not to each of a hundred functions.
_options: dict[str, Any] = {}


def use(kafka: Kafka) -> None:
    """Have every client that is opened from now on get in as the settings say.

    Raises SettingsError if a certificate cannot be used. Nothing is connected to.
    """
    found: dict[str, Any] = {"security_protocol": kafka.security}
    if kafka.has_tls:
        found["ssl_context"] = _context(kafka)
    if kafka.has_sasl:
        assert kafka.password is not None  # settings say so
        found |= {
            "sasl_mechanism": kafka.mechanism,
            "sasl_plain_username": kafka.user,
            "sasl_plain_password": kafka.password.get_secret_value(),
        }
    _options.clear()
    _options.update(found)


def options() -> dict[str, Any]:
    """What kafka-python and aiokafka are given; both call it the same."""
    return dict(_options)


def explained(error: Exception) -> str:
    """Why a connection was not made, and what would be right where that can be told."""
    said = next((right(error) for kind, right in _MEANS.items() if _is(error, kind)), None)
    return said or str(error) or type(error).__name__


def _is(error: Exception, kind: str) -> bool:
    return any(cls.__name__ == kind for cls in type(error).__mro__)


def _untrusted(error: Any) -> str:
    return (
        f"it shows a certificate that is not trusted ({error.verify_message}): renew it, or set "
        "CITYWATCH_KAFKA__CA_FILE to what it is signed by"
    )


def _refused(error: Any) -> str:
    return (
        f"it does not let the user {_options.get('sasl_plain_username')} in ({error.args[0] if error.args else error}): put "
        "CITYWATCH_KAFKA__USER, its password and CITYWATCH_KAFKA__MECHANISM right"
    )


def _forbidden(error: Any) -> str:
    return (
        f"it does not let the user {_options.get('sasl_plain_username') or 'of our certificate'} do this ({error}): "
        "`citywatch topics acls` says which rights each role needs"
    )


def _other_language(error: Any) -> str:
    return (
        f"{error}: is CITYWATCH_KAFKA__SECURITY={_options.get('security_protocol', 'PLAINTEXT')} "
        "what its listener speaks, and does it want a certificate of ours (CITYWATCH_KAFKA__CERT_FILE)?"
    )


#: By the name of an error's class or of one it descends from, the first that fits: of TLS, aiokafka and kafka-python.
_MEANS: dict[str, Callable[[Any], str]] = {
    "SSLCertVerificationError": _untrusted,
    "SSLError": _other_language,
    "SaslAuthenticationFailed": _refused,
    "UnsupportedSaslMechanismError": _refused,
    "AuthorizationError": _forbidden,
    "TopicAuthorizationFailedError": _forbidden,
    "GroupAuthorizationFailedError": _forbidden,
    "ClusterAuthorizationFailedError": _forbidden,
    "ConnectionResetError": _other_language,
    "KafkaConnectionError": _other_language,
    "KafkaTimeoutError": _other_language,
}


def _context(kafka: Kafka) -> ssl.SSLContext:
    """Checks the broker's certificate and its name; shows ours where there is one."""
    try:
        context = ssl.create_default_context(cafile=kafka.ca_file)
    except ssl.SSLError as error:
        raise SettingsError(
            f"CITYWATCH_KAFKA__CA_FILE={kafka.ca_file}: holds no certificate that can be read, as PEM: {error.reason or error}"
        ) from error
    if kafka.cert_file is not None:
        try:
            # Without a password OpenSSL would ask the terminal for one.
            context.load_cert_chain(kafka.cert_file, kafka.key_file, password="")
        except ssl.SSLError as error:
            raise SettingsError(
                f"CITYWATCH_KAFKA__CERT_FILE={kafka.cert_file}: cannot be used with {kafka.key_file}; it must be a certificate "
                f"as PEM, and CITYWATCH_KAFKA__KEY_FILE its key without a password: {error.reason or error}"
            ) from error
    return context
