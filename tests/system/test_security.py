"""Every connection over TLS with certificates, with and without passwords, and with no more rights
than needed; and secrets that nothing tells."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from streams.kafka import producers
from streams.kafka.acls import MEANING, ROLES
from streams.runtime.errors import CONFIGURATION, TEMPORARY
from streams.runtime.settings import Settings, client_options, load_settings
from tests.streams.console.browser import console_process
from tests.support.kafka import Kafka, create_topics, produce
from tests.support.secure_broker import PASSWORD, PREFIX, Authority, SecureBroker, secure_broker
from tests.support.system import Events, Worker

ROOT = Path(__file__).resolve().parents[2]
ROLE_USERS = ("topics", "worker", "feed", "reader", "receiver", "bridge", "console")
SOURCE = "hr.public.person"
LACKING = {
    "lacks1": ("internal.configuration", "Write"),
    "lacks2": ("user-changes", "Read"),
    "lacks3": ("changelog", "Read"),
}


@dataclass(frozen=True)
class Secured:
    server: SecureBroker
    passwords: Path

    def env(self, user: str, **more: str) -> dict[str, str]:
        """Returns the settings for SASL over TLS with a client certificate."""
        certificate, key = self.server.authority.issue(user)
        return {
            "SEATFLOW_BROKERS": f"127.0.0.1:{self.server.sasl}",
            "SEATFLOW_PARTITIONS": "2",
            "SEATFLOW_SECURITY_PROTOCOL": "SASL_SSL",
            "SEATFLOW_SSL_CA_FILE": str(self.server.authority.certificate),
            "SEATFLOW_SSL_CERT_FILE": str(certificate),
            "SEATFLOW_SSL_KEY_FILE": str(key),
            "SEATFLOW_SASL_USERNAME": user,
            "SEATFLOW_SASL_PASSWORD_FILE": str(self.passwords),
            "SEATFLOW_SESSION_TIMEOUT": "6",
        } | more

    def tls_env(self, user: str) -> dict[str, str]:
        """Returns the settings for TLS alone, where the certificate names the user."""
        env = self.env(user, SEATFLOW_BROKERS=f"127.0.0.1:{self.server.tls}")
        env["SEATFLOW_SECURITY_PROTOCOL"] = "SSL"
        return {name: value for name, value in env.items() if "SASL_" not in name}


@pytest.fixture(scope="module")
def secured(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """``kafka`` only so that the tests are marked, and wait for the jars once."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("secure")
    passwords = directory / "password"
    passwords.write_text(PASSWORD + "\n")
    with secure_broker(directory, (*ROLE_USERS, "blind", *LACKING)) as server:
        for role in ROLE_USERS:
            server.allow(role, role)
        server.allow("CN=worker", "worker")
        server.allow("blind", "worker", but=(f"{PREFIX}internal.seat-grants", "*"))
        for user, (topic, operation) in LACKING.items():
            server.allow(user, "worker", but=(PREFIX + topic, operation))
        secured = Secured(server, passwords)
        made = seatflow(secured.env("topics"), "topics", "create")
        assert made.returncode == 0, made.stderr
        yield secured


def seatflow(
    env: Mapping[str, str], *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


def jsonl(users: int, run: str) -> str:
    make = Events(run=run)
    events = [make.product("base"), make.seats("base", 5), make.license("staff", "base")]
    for n in range(users):
        events += [make.user(f"{run}{n}"), make.join(f"{run}{n}", "staff")]
    return "".join(value.decode() + "\n" for _, _, value in events)


def settled(secured: Secured) -> None:
    waited = seatflow(secured.env("reader"), "status", "--wait", "--timeout", "60")
    assert waited.returncode == 0, waited.stderr


def fed(secured: Secured, run: str) -> None:
    done = seatflow(secured.env("feed"), "feed", "jsonl", "-", stdin=jsonl(7, run))
    assert done.returncode == 0, done.stderr


def test_each_role_does_its_work_with_its_rights_alone(secured: Secured) -> None:
    worker = Worker({**secured.env("worker"), "SEATFLOW_LOG_LEVEL": "debug"})
    try:
        worker.wait_for("partition_restored", 2)
        fed(secured, "sasl")
        settled(secured)
        shown = seatflow(secured.env("reader"), "status", "--json")
        assert shown.returncode == 0, shown.stderr
        (seats,) = json.loads(shown.stdout)["seats"]
        assert (seats["consumedUnits"], seats["waitingUsers"]) == (5, 2)
        read = seatflow(secured.env("reader"), "read", "errors")
        assert read.stdout.count("CountViolation") == 2
        assert worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()
    assert PASSWORD not in "\n".join(worker.lines)


def test_a_bridge_carries_with_its_rights_alone(secured: Secured, tmp_path: Path) -> None:
    server = secured.server.admin
    asyncio.run(create_topics(server, SOURCE))
    person = {"number": 1, "login": "ann@x.example", "country": "DE"}
    change = {"before": None, "after": person, "op": "c", "ts_ms": 1, "source": {"ts_ms": 1}}
    asyncio.run(produce(server, SOURCE, [(b"1", json.dumps(change).encode()), (b"2", b"{}")]))
    mapping = tmp_path / "map.toml"
    mapping.write_text(
        'tenant = "contoso"\n[user]\nid = "{number}"\n'
        'userPrincipalName = "{login}"\nusageLocation = "{country}"\n'
    )
    arguments = ("feed", "debezium", "--topic", SOURCE, "--map", str(mapping), "--once")
    done = seatflow(secured.env("bridge"), *arguments)
    assert done.returncode == 0, done.stderr
    assert "2 records processed, 1 dead letters" in done.stderr
    refused = seatflow(secured.env("feed"), *arguments)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr


def test_a_receiver_receives_with_its_rights_alone(secured: Secured, tmp_path: Path) -> None:
    sources = tmp_path / "sources.toml"
    sources.write_text('[[source]]\nname = "hr"\ntenant = "contoso"\ntoken = "sixteen-letters-1"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "receive", "--port", "0", "--sources", str(sources)],
        cwd=ROOT,
        env={**os.environ, **secured.env("receiver")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+/", process.stdout.readline())
        assert found is not None
        made = httpx2.post(
            f"{found[0]}scim/v2/Users",
            json={
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                "userName": "bo@x.example",
            },
            headers={"Authorization": "Bearer sixteen-letters-1"},
            timeout=20,
        )
        assert made.status_code == 201, made.text
    finally:
        process.terminate()
        assert process.wait(timeout=15) == 0


def test_a_certificate_alone_is_enough_where_the_listener_says_so(secured: Secured) -> None:
    worker = Worker(secured.tls_env("worker"))
    try:
        worker.wait_for("partition_restored", 2)
        fed(secured, "tls")
        settled(secured)
        assert worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()


def test_scram_sha_256_works_as_well(secured: Secured) -> None:
    env = secured.env("reader", SEATFLOW_SASL_MECHANISM="SCRAM-SHA-256")
    assert seatflow(env, "status", "--json").returncode == 0


def ends(secured: Secured, env: Mapping[str, str]) -> tuple[int, str]:
    worker = Worker(env)
    try:
        code = worker.process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        worker.kill()
        raise AssertionError(worker.log()) from None
    return code, worker.log()


def test_a_worker_that_may_not_see_a_topic_says_so_and_exits(secured: Secured) -> None:
    code, said = ends(secured, secured.env("blind"))
    assert code == CONFIGURATION
    assert f"first {PREFIX}internal.seat-grants" in said
    assert "this user may not see them (docs/security.md" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("user", LACKING)
def test_a_worker_that_may_not_use_a_topic_says_so_and_exits(secured: Secured, user: str) -> None:
    fed(secured, user)
    code, said = ends(secured, secured.env(user))
    assert code == CONFIGURATION, said
    assert "lacks a right that workers need" in said
    assert "Authorization" in said
    assert "Traceback" not in said


def test_a_worker_of_another_group_is_refused(secured: Secured) -> None:
    code, said = ends(secured, secured.env("worker", SEATFLOW_APP_ID="another"))
    assert code == CONFIGURATION, said
    assert "lacks a right" in said


def test_nobody_does_what_is_not_his(secured: Secured) -> None:
    wrote = seatflow(secured.env("reader"), "feed", "jsonl", "-", stdin=jsonl(1, "reader"))
    assert wrote.returncode != 0
    assert "Traceback" not in wrote.stderr
    assert "uthoriz" in wrote.stderr
    made = seatflow(secured.env("worker", SEATFLOW_TOPIC_PREFIX="other."), "topics", "create")
    assert made.returncode == CONFIGURATION
    assert "Traceback" not in made.stderr


def test_who_is_not_known_is_not_let_in(secured: Secured, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    strangers = Authority(tmp_path / "strangers", "Strangers")
    certificate, key = strangers.issue("reader")
    for changed in (
        {"SEATFLOW_SASL_PASSWORD_FILE": str(wrong)},
        {"SEATFLOW_SSL_CERT_FILE": str(certificate), "SEATFLOW_SSL_KEY_FILE": str(key)},
        {"SEATFLOW_SSL_CA_FILE": str(strangers.certificate)},
    ):
        shown = seatflow(secured.env("reader") | changed, "status")
        assert shown.returncode == TEMPORARY, shown.stderr
        assert "certificates or the password" in shown.stderr
        assert "Traceback" not in shown.stderr


# --- without a broker -----------------------------------------------------------------------------


def test_every_client_is_made_with_the_options_of_the_settings() -> None:
    """No aiokafka client in the product forgets the certificates."""
    makers = {"AIOKafkaProducer", "AIOKafkaConsumer", "AIOKafkaAdminClient"}
    found = 0
    for path in (ROOT / "streams").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id in makers and "bench" not in path.parts:
                spread = [ast.unparse(k.value) for k in node.keywords if k.arg is None]
                allowed = {f"client_options({of}settings)" for of in ("", "self.", "self._")}
                if path.name == "producers.py":  # the next test looks at what it passes on
                    allowed |= {"options"}
                assert set(spread) & allowed, f"{path}:{node.lineno}"
                found += 1
    assert found >= 6


def test_an_idempotent_producer_has_the_options_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producers, "AIOKafkaProducer", lambda **options: options)
    values: dict[str, Any] = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_username": "feed",
        "sasl_password": SecretStr(PASSWORD),
    }
    settings = Settings(**values)
    options: Any = client_options(settings)
    for client in (settings, options):
        made: Any = producers.idempotent_producer(client)
        assert {name: made[name] for name in options} == options
        assert made["sasl_plain_password"] == PASSWORD


def test_the_console_does_its_work_with_its_rights_alone(secured: Secured, tmp_path: Path) -> None:
    """It reads what it shows, and sends a command with its audit record in one transaction."""
    with console_process(secured.env("console"), tmp_path) as (url, _):
        tenant = f"{url}/v1/tenants/audited"
        sent = httpx2.put(f"{tenant}/users/ann", json={"displayName": "Ann"}, timeout=30)
        assert sent.status_code in (200, 202), sent.text
        for _ in range(100):
            audit = httpx2.get(f"{tenant}/audit", timeout=30)
            if audit.status_code == 200 and audit.json()["value"]:
                break
            time.sleep(0.1)
        (record,) = audit.json()["value"]
        assert (record["activity"], record["result"]) == ("Request user update", "success")


def test_no_role_may_do_everything() -> None:
    assert set(ROLES) == set(MEANING)
    for grants in ROLES.values():
        for grant in grants:
            assert "*" not in grant.name
            assert not {"All", "Alter", "Delete"} & set(grant.operations)


def test_a_password_is_never_shown() -> None:
    env = {
        "SEATFLOW_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SEATFLOW_SASL_USERNAME": "worker",
        "SEATFLOW_SASL_PASSWORD": PASSWORD,
    }
    shown = seatflow(env, "settings")
    assert shown.returncode == 0
    assert PASSWORD not in shown.stdout + shown.stderr
    settings = load_settings(
        security_protocol="SASL_PLAINTEXT", sasl_username="worker", sasl_password=PASSWORD
    )
    assert PASSWORD not in repr(settings) + str(settings) + settings.model_dump_json()
    assert client_options(settings)["sasl_plain_password"] == PASSWORD
    wrong = seatflow(env | {"SEATFLOW_SASL_USERNAME": ""}, "settings")
    assert wrong.returncode == CONFIGURATION
    assert PASSWORD not in wrong.stdout + wrong.stderr


def test_a_password_comes_from_a_file_without_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    settings = load_settings(
        security_protocol="SASL_PLAINTEXT", sasl_username="worker", sasl_password_file=str(path)
    )
    assert client_options(settings)["sasl_plain_password"] == PASSWORD
    assert PASSWORD not in repr(settings)


def test_no_flag_takes_a_secret() -> None:
    """Every user of the machine can read the command line."""
    text = (ROOT / "streams" / "cli" / "main.py").read_text()
    assert "password" not in text
