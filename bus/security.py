"""How this process gets into its Kafka: the one place that turns settings into what clients are given."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from settings import SettingsError

if TYPE_CHECKING:
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
