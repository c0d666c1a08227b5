"""A broker that lets nobody in without a certificate: SASL SCRAM over TLS, and TLS alone.

Its own certificate authority is made with openssl. Rights are granted over a plain listener, whose
user is the broker's superuser.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from streams.kafka.acls import Grant, grants
from streams.local.broker import Broker
from streams.local.ports import free_port

RESOURCES = {"topic": 2, "group": 3, "cluster": 4, "transactional-id": 5}
OPERATIONS = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Describe": 8,
    "DescribeConfigs": 10,
    "AlterConfigs": 11,
}
LITERAL, PREFIXED = 3, 4
ALLOW = 3
PREFIX, APP = "licensing.", "seatflow"
PASSWORD = "correct-horse-battery-staple"  # of every user


class Authority:
    """A certificate authority in a directory; PEM files."""

    def __init__(self, directory: Path, name: str = "Test authority") -> None:
        directory.mkdir()
        self.directory = directory
        self.certificate = directory / "ca.crt"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", directory / "ca.key", "-out", self.certificate, "-subj", f"/CN={name}"),
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """Issues certificate and key of a client, or of a server on this machine."""
        at = self.directory
        key, certificate, request = (at / f"{name}.{end}" for end in ("key", "crt", "csr"))
        extensions = at / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl("genpkey", "-algorithm", "RSA", "-out", key)
        _openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", at / "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate),
        )
        return certificate, key


def _openssl(*arguments: object) -> None:
    run = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


class SecureBroker:
    def __init__(self, directory: Path, users: Iterable[str]) -> None:
        self.authority = Authority(directory / "ca")
        certificate, key = self.authority.issue("broker")
        store = directory / "broker.pem"
        store.write_text(key.read_text() + certificate.read_text())
        self.plain, self.sasl, self.tls, controller = (free_port() for _ in range(4))
        names = {"PLAINTEXT": self.plain, "SASL": self.sasl, "TLS": self.tls}
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in names.items())
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        self.broker = Broker(
            self.plain,
            directory / "data",
            {
                "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": listeners,
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                "listener.security.protocol.map": (
                    "PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,TLS:SSL,CONTROLLER:PLAINTEXT"
                ),
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(store),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.authority.certificate),
                "listener.name.sasl.ssl.client.auth": "required",
                "listener.name.tls.ssl.client.auth": "required",
                "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
                "listener.name.sasl.scram-sha-512.sasl.jaas.config": scram,
                "listener.name.sasl.scram-sha-256.sasl.jaas.config": scram,
                "authorizer.class.name": (
                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
                ),
                "super.users": "User:ANONYMOUS",
                "allow.everyone.if.no.acl.found": "false",
            },
            progress=lambda _: None,
        )
        self.broker.format_options = tuple(
            option
            for user in users
            for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256")
            for option in ("--add-scram", f"{mechanism}=[name={user},password={PASSWORD}]")
        )

    @property
    def admin(self) -> str:
        return f"127.0.0.1:{self.plain}"

    def allow(self, user: str, role: str, but: tuple[str, str] = ("", "")) -> None:
        """Grants the user what the role needs, except this operation (or all) on this topic."""
        topic, lacking = but
        found = [
            grant._replace(operations=tuple(o for o in grant.operations if lacking not in (o, "*")))
            if grant.name == topic
            else grant
            for grant in grants(role, PREFIX, APP)
        ]
        asyncio.run(self._allow(user, found))

    async def _allow(self, user: str, found: Iterable[Grant]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.admin)
        await admin.start()
        try:
            for grant in found:
                pattern = PREFIXED if grant.prefixed else LITERAL
                for operation in grant.operations:
                    request = CreateAclsRequest(
                        RESOURCES[grant.resource],
                        grant.name,
                        pattern,
                        f"User:{user}",
                        "*",
                        OPERATIONS[operation],
                        ALLOW,
                    )
                    response = await admin._send_request(request)
                    assert not response.to_object()["creation_responses"][0]["error_code"]
        finally:
            await admin.close()


@contextmanager
def secure_broker(directory: Path, users: Iterable[str]) -> Iterator[SecureBroker]:
    secure = SecureBroker(directory, users)
    with secure.broker:
        yield secure
