"""Kafka behind SASL_SSL with an authorizer, and InfluxDB behind TLS, as processes on loopback, for the slow tests."""

import json
import shutil
import signal
import socket
import ssl
import tempfile
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)
from real_kafka import RealKafka

from commands.servers import Server, free_ports
from sinks.influxd import Influxd


class SecureKafka(RealKafka):
    """Users come in at `secured` by SASL_SSL, and may do what `allow` says; nobody else may do anything.

    Whoever gives users and rights does it at the plain listener, as the broker itself.
    """

    def __init__(self, authority):
        self._signed = authority.folder / "kafka-shows.pem"
        self.show(*authority.sign("kafka"))
        mine = "listener.name.sasl_ssl"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        super().__init__(
            {
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
                f"{mine}.scram-sha-512.sasl.jaas.config": scram,
                f"{mine}.scram-sha-256.sasl.jaas.config": scram,
                f"{mine}.ssl.keystore.type": "PEM",
                f"{mine}.ssl.keystore.location": str(self._signed),
            },
            ["SASL_SSL"],
        )
        self.secured = self.address("SASL_SSL")

    def show(self, cert, key):
        """What the broker shows of itself from its next start on."""
        self._signed.write_text(key.read_text() + cert.read_text())

    def admin(self):
        return closing(KafkaAdminClient(bootstrap_servers=self.bootstrap))

    def give_passwords(self, passwords, mechanism="SCRAM-SHA-512"):
        """To users by name."""
        with self.admin() as client:
            client.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(user, mechanism, given) for user, given in passwords.items()]
            )

    def allow(self, rights):
        """Rights as `citywatch topics acls --json` says them."""
        acls = [
            ACL(
                f"User:{right['user']}",
                "*",
                _OPERATIONS[operation.upper()],
                ACLPermissionType.ALLOW,
                ResourcePattern(
                    ResourceType[right["kind"].upper()],
                    name.rstrip("*"),
                    ACLResourcePatternType.PREFIXED if name.endswith("*") else ACLResourcePatternType.LITERAL,
                ),
            )
            for right in rights
            for name in right["names"]
            for operation in right["operations"]
        ]
        with self.admin() as client:
            assert client.create_acls(acls)["failed"] == []


_OPERATIONS = {operation.name.replace("_", ""): operation for operation in ACLOperation}


@dataclass(frozen=True)
class _TlsInfluxd(Influxd):
    """As Influxd, behind TLS as soon as it has a certificate."""

    @property
    def url(self):
        return f"http{'s' if self._signed.exists() else ''}://127.0.0.1:{self.port}"

    @property
    def _signed(self):
        return self.folder / "signed.pem"

    def show(self, cert, key):
        self._signed.write_bytes(cert.read_bytes())
        (self.folder / "signed.key").write_bytes(key.read_bytes())

    def command(self):
        tls = ["--tls-cert", str(self._signed), "--tls-key", str(self.folder / "signed.key")]
        return super().command() + (tls if self._signed.exists() else [])

    def answers(self):
        if not self._signed.exists():
            return super().answers()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class SecureInflux:
    """An InfluxDB at an https address, with an organisation, a bucket and a token that may do everything in it."""

    ORG, BUCKET = "city", "citywatch"

    def __init__(self, authority):
        self.folder = Path(tempfile.mkdtemp(prefix="citywatch-secure-influx-"))
        self._trust = ssl.create_default_context(cafile=authority.ca)
        self._what = _TlsInfluxd(self.folder, *free_ports(1))
        self._server = Server(self._what)
        try:
            self._server.start()
            self._what.set_up(self.ORG, self.BUCKET)
            self._server.kill(signal.SIGTERM)
            self._what.show(*authority.sign("influxdb"))
            self._server.start()
        except BaseException:
            self.close()
            raise
        self.url, self.token = self._what.url, self._what.token()

    def revoke_and_replace(self):
        """The token is known no more; another one is, that may do the same."""
        found = self._call("GET", "/api/v2/authorizations")["authorizations"]
        [old] = [one for one in found if one["token"] == self.token]
        wanted = {"orgID": old["orgID"], "permissions": old["permissions"]}
        made = self._call("POST", "/api/v2/authorizations", wanted)
        self._call("DELETE", f"/api/v2/authorizations/{old['id']}")
        self.token = made["token"]

    def _call(self, method, path, body=None):
        asked = urllib.request.Request(
            f"{self.url}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(asked, timeout=10, context=self._trust) as answer:
            return json.loads(answer.read() or b"null")

    def close(self):
        self._server.kill(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)
