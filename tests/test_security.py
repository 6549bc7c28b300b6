"""Security settings: what cannot be is refused at start, by name; secrets come from files, and are never shown."""

import io
import logging
import ssl
from pathlib import Path

import pytest
from certificates import Authority
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from bus import security
from bus.rights import CITY, ROLES, rights
from bus.topics import wanted
from cli import main
from models import catalogue
from settings import Kafka, SettingsError, read
from sinks.influx_server import Address
from streams.consumer import credentials
from streams.logs import Folding

DOCS = Path(__file__).parent.parent / "docs"
KAFKA = {"CITYWATCH_KAFKA__BOOTSTRAP": "kafka:9093"}
SASL = {**KAFKA, "CITYWATCH_KAFKA__SECURITY": "SASL_SSL", "CITYWATCH_KAFKA__USER": "judge"}
INFLUX = {"CITYWATCH_INFLUX__URL": "https://influxdb:8086"}
SECRET = "gehe1m-gehe1m"


def refused(environ):
    with pytest.raises(SettingsError) as caught:
        read(environ)
    return str(caught.value)


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def plain_again():
    security.use(Kafka())
    yield
    security.use(Kafka())


# What goes together


@pytest.mark.parametrize(
    ("environ", "variable", "right"),
    [
        ({"CITYWATCH_KAFKA__SECURITY": "SSL"}, "KAFKA__SECURITY", "a Kafka in CITYWATCH_KAFKA__BOOTSTRAP"),
        ({**KAFKA, "CITYWATCH_KAFKA__SECURITY": "TLS"}, "KAFKA__SECURITY=TLS", "'SASL_SSL'"),
        ({**SASL, "CITYWATCH_KAFKA__EMBEDDED": "true", "CITYWATCH_KAFKA__PASSWORD": SECRET}, "KAFKA__SECURITY", "embedded"),
        ({**SASL, "CITYWATCH_KAFKA__USER": "", "CITYWATCH_KAFKA__PASSWORD": SECRET}, "KAFKA__USER", "a user is needed"),
        (SASL, "KAFKA__PASSWORD", "CITYWATCH_KAFKA__PASSWORD_FILE"),
        ({**KAFKA, "CITYWATCH_KAFKA__USER": "judge"}, "KAFKA__USER", "SASL_SSL, or leave it out"),
        ({**KAFKA, "CITYWATCH_KAFKA__PASSWORD": SECRET}, "KAFKA__PASSWORD", "SASL_SSL, or leave it out"),
        ({**SASL, "CITYWATCH_KAFKA__PASSWORD": SECRET, "CITYWATCH_KAFKA__MECHANISM": "GSSAPI"}, "KAFKA__MECHANISM=GSSAPI", "'SCRAM-SHA-512'"),
        ({"CITYWATCH_INFLUX__URL": "https://influxdb:8086"}, "INFLUX__TOKEN", "CITYWATCH_INFLUX__TOKEN_FILE"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_with_the_variable_and_what_is_right(environ, variable, right):
    [said] = refused(environ).splitlines()
    assert said.startswith(f"CITYWATCH_{variable}: ")
    assert right in said
    assert SECRET not in said


def test_certificates_without_tls_or_without_their_other_half_are_refused(authority):
    cert, key = authority.sign("half")
    ca, cert, key = map(str, (authority.ca, cert, key))
    tls = {**KAFKA, "CITYWATCH_KAFKA__SECURITY": "SSL"}
    assert "CA_FILE: is used by TLS only" in refused({**KAFKA, "CITYWATCH_KAFKA__CA_FILE": ca})
    both = {"CITYWATCH_KAFKA__CERT_FILE": cert, "CITYWATCH_KAFKA__KEY_FILE": key}
    assert "CERT_FILE: is used by TLS only" in refused({**KAFKA, **both})
    assert "KEY_FILE: the key of" in refused({**tls, "CITYWATCH_KAFKA__CERT_FILE": cert})
    assert "CERT_FILE: the certificate of" in refused({**tls, "CITYWATCH_KAFKA__KEY_FILE": key})
    plain = {"CITYWATCH_INFLUX__URL": "http://influxdb:8086", "CITYWATCH_INFLUX__TOKEN": SECRET}
    assert "must begin with https://" in refused({**plain, "CITYWATCH_INFLUX__CA_FILE": ca})
    read({**tls, **both, "CITYWATCH_KAFKA__CA_FILE": ca})


# Secrets in files


@pytest.mark.parametrize(
    ("environ", "of"),
    [
        ({**SASL, "CITYWATCH_KAFKA__PASSWORD_FILE": "@"}, lambda s: s.kafka.password),
        ({**INFLUX, "CITYWATCH_INFLUX__TOKEN_FILE": "@"}, lambda s: s.influx.token),
    ],
)
def test_a_secret_comes_from_its_file_without_the_end_of_its_line(secret, environ, of):
    found = read({name: value.replace("@", str(secret)) for name, value in environ.items()})
    assert of(found).get_secret_value() == SECRET
    assert SECRET not in repr(found) + str(found) + found.model_dump_json()


@pytest.mark.parametrize(
    ("content", "mode", "right"),
    [
        (None, None, "No such file"),
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"a\nb\n", 0o600, "more than one line"),
        (b"\xff\xfe", 0o600, "is no text"),
        (SECRET.encode(), 0o644, "mode 0644): chmod 600"),
        (SECRET.encode(), 0o660, "mode 0660): chmod 600"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_and_nothing_else_is_complained_of(
    tmp_path, content, mode, right
):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    [said] = refused({**SASL, "CITYWATCH_KAFKA__PASSWORD_FILE": str(path)}).splitlines()
    assert said.startswith(f"CITYWATCH_KAFKA__PASSWORD_FILE={path}: ")
    assert right in said
    assert SECRET not in said


def test_a_folder_is_no_file_and_a_key_that_others_may_read_is_no_secret(tmp_path, authority):
    assert "Is a directory" in refused({**SASL, "CITYWATCH_KAFKA__PASSWORD_FILE": str(tmp_path)})
    cert, key = authority.sign("open")
    key.chmod(0o644)
    tls = {**KAFKA, "CITYWATCH_KAFKA__SECURITY": "SSL", "CITYWATCH_KAFKA__CERT_FILE": str(cert)}
    assert "others may read" in refused({**tls, "CITYWATCH_KAFKA__KEY_FILE": str(key)})


def test_a_group_may_read_a_secret_so_that_a_service_of_another_user_can(secret):
    secret.chmod(0o640)
    assert read({**INFLUX, "CITYWATCH_INFLUX__TOKEN_FILE": str(secret)}).influx.token is not None


def test_a_secret_that_is_given_twice_is_refused(secret):
    said = refused(
        {
            **SASL,
            "CITYWATCH_KAFKA__PASSWORD": SECRET,
            "CITYWATCH_KAFKA__PASSWORD_FILE": str(secret),
        }
    )
    assert "leave one of them out" in said
    assert SECRET not in said


def test_an_address_of_a_store_does_not_show_its_token():
    assert SECRET not in repr(Address("https://influxdb", SECRET, "city", "city"))


# What clients are given


def test_without_settings_clients_are_plain():
    security.use(Kafka())
    assert security.options() == {"security_protocol": "PLAINTEXT"}


def test_every_client_is_given_the_same_and_faust_in_its_own_words(secret, authority):
    security.use(
        read(
            {
                **SASL,
                "CITYWATCH_KAFKA__PASSWORD_FILE": str(secret),
                "CITYWATCH_KAFKA__CA_FILE": str(authority.ca),
            }
        ).kafka
    )
    given = security.options()
    context = given.pop("ssl_context")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert given == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "judge",
        "sasl_plain_password": SECRET,
    }
    assert credentials_to_aiokafka_auth(credentials()) == {**given, "ssl_context": context}
    assert SECRET not in repr(credentials())


def test_tls_with_a_certificate_of_our_own_needs_no_password(authority):
    cert, key = authority.sign("worker")
    security.use(Kafka(bootstrap="k:1", security="SSL", ca_file=authority.ca, cert_file=cert, key_file=key))
    assert set(security.options()) == {"security_protocol", "ssl_context"}
    assert credentials().context is security.options()["ssl_context"]


def test_certificates_that_cannot_be_used_are_refused_before_anything_is_connected(authority, tmp_path):
    cert, key = authority.sign("one")
    other = authority.sign("other")[1]
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("certificate")
    for wrong, variable in (
        ({"ca_file": nonsense}, "CITYWATCH_KAFKA__CA_FILE"),
        ({"cert_file": cert, "key_file": other}, "CITYWATCH_KAFKA__CERT_FILE"),
        ({"cert_file": nonsense, "key_file": key}, "CITYWATCH_KAFKA__CERT_FILE"),
    ):
        with pytest.raises(SettingsError, match=variable):
            security.use(Kafka(bootstrap="k:1", security="SSL", **wrong))
    assert security.options() == {"security_protocol": "PLAINTEXT"}


# Who may do what


def named(names):
    """Names as the table says them: the source topics are many, and mostly together."""
    sources = set(catalogue.topics())
    public = {name for name, topic in catalogue.topics().items() if topic.access == "public"}
    for all_of_them, said in ((sources, "every source topic"), (public, "every public source topic")):
        if all_of_them <= set(names):
            return ", ".join([said, *(f"`{name}`" for name in names if name not in all_of_them)])
    return ", ".join(f"`{name}`" for name in names)


def test_the_table_of_rights_in_the_documents_is_that_of_the_code():
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    rows = [f"| {r.role} | {named(r.names)} | {r.kind} | {', '.join(r.operations)} |" for r in rights()]
    table = text.partition("<!-- rights:")[2].partition("-->\n")[2].split("\n\n")[0]
    assert table.splitlines()[2:] == rows, "\n".join(rows)
    for role, about in ROLES.items():
        assert f"- **{role}**: {about}" in text


def test_nobody_but_those_who_must_may_read_what_is_restricted():
    """Who may read everything looks for what is lost; the others read what they work on, and subscribers nothing."""
    restricted = {name for name, want in wanted().items() if want.access == "restricted"}
    readers = {
        name: {r.role for r in rights() if "Read" in r.operations and {name, CITY} & set(r.names)}
        for name in restricted
    }
    assert all("subscriber" not in roles and "source" not in roles for roles in readers.values())
    assert readers[catalogue.REJECTED] == {"store", "ledger"}
    assert readers[catalogue.ALARM_INPUT] == {"alarms", "ledger"}
    assert readers[catalogue.JUDGE_STATE] == {"judge", "ledger"}


def test_in_a_world_with_a_prefix_rights_are_on_its_own_topics_and_groups():
    for right in rights("replay-7."):
        assert all(n.startswith("replay-7.") or right.role == "subscriber" for n in right.names)


def test_the_rights_are_printed_as_commands_for_users_by_any_name(capsys, monkeypatch):
    monkeypatch.setenv("CITYWATCH_KAFKA__BOOTSTRAP", "kafka:9093")
    assert main(["topics", "acls", "--user", "judge=CN=the judge"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rights())
    assert lines[1] == (
        "kafka-acls --bootstrap-server kafka:9093 --add --allow-principal 'User:CN=the judge' --operation Read "
        "--topic city.rules.v1 --resource-pattern-type literal"
    )
    assert lines[-1].endswith("--group subscriber- --resource-pattern-type prefixed")
    assert main(["topics", "acls", "--user", "jugde=x"]) == 2
    assert "ROLE is judge, store" in capsys.readouterr().err


# What is told


def test_a_certificate_that_is_over_is_told_though_the_broker_was_away_a_moment_ago():
    out = io.StringIO()
    handler, said = Folding(out), "Unable connect to node with id %s: %s"
    for error in (ConnectionRefusedError("refused"), ssl.SSLCertVerificationError("has expired")) * 2:
        handler.handle(logging.LogRecord("aiokafka", logging.ERROR, "", 0, said, (1, error), None))
    assert [line.split(": ", 1)[1] for line in out.getvalue().splitlines()] == ["refused", "('has expired',)"]
