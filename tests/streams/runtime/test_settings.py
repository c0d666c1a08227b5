"""Settings are checked at start, with a message that names the setting, the value, and the rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streams.runtime.settings import SettingsError, client_options, describe, load_settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("SEATFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_contracts_defaults() -> None:
    settings = load_settings()
    assert settings.brokers == "127.0.0.1:9092"
    assert settings.app_id == "seatflow"
    assert settings.worker_id is None
    assert settings.partitions == 8
    assert settings.topic_prefix == "licensing."


def test_flags_before_environment_before_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "SEATFLOW_APP_ID=file\nSEATFLOW_PARTITIONS=3\nSEATFLOW_REPLICATION=2\nOTHER=1\n"
    )
    monkeypatch.setenv("SEATFLOW_APP_ID", "environment")
    monkeypatch.setenv("SEATFLOW_PARTITIONS", "4")
    settings = load_settings(app_id="flag", partitions=None)
    assert (settings.app_id, settings.partitions, settings.replication) == ("flag", 4, 2)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATFLOW_WORKER_ID", "")
    assert load_settings().worker_id is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BROKERS", "kafka", "'kafka': must be host:port"),
        ("BROKERS", "a:1,b:x", "'a:1,b:x': must be host:port"),
        ("PARTITIONS", "0", "'0': must be a whole number from 1 to 1024"),
        ("PARTITIONS", "many", "'many': must be a whole number from 1 to 1024"),
        ("TOPIC_PREFIX", "a b", "'a b': must be at most 100 characters"),
        ("WORKER_ID", "w/1", "'w/1': must be 1 to 100 characters"),
        ("METRICS_PORT", "65536", "'65536': must be a port"),
        ("SESSION_TIMEOUT", "1", "'1': must be seconds from 6 to 300"),
        ("LOG_LEVEL", "loud", "'loud': must be one of debug"),
        ("SSL_CA_FILE", "/no/such", "'/no/such': must be the path of a file that exists"),
        ("SECURITY_PROTOCOL", "TLS", "'TLS': must be one of PLAINTEXT"),
    ],
)
def test_a_wrong_value_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"SEATFLOW_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"SEATFLOW_{name} is {said}")
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(partitions=0, log_level="x")
    assert len(str(caught.value).splitlines()) == 2


def test_what_belongs_together(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SEATFLOW_SASL_USERNAME"):
        load_settings(security_protocol="SASL_SSL")
    certificate = tmp_path / "cert.pem"
    certificate.touch()
    with pytest.raises(SettingsError, match="both or neither"):
        load_settings(ssl_cert_file=certificate)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    sasl: dict[str, Any] = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "me"}
    settings = load_settings(**sasl, sasl_password="hunter2")
    assert "hunter2" not in repr(list(describe(settings)))
    assert "hunter2" not in repr(settings)
    assert client_options(settings)["sasl_plain_password"] == "hunter2"
    secret = tmp_path / "password"
    secret.write_text("from-file\n")
    options = client_options(load_settings(**sasl, sasl_password_file=secret))
    assert options["sasl_plain_password"] == "from-file"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"


def test_every_setting_says_what_it_is() -> None:
    for one in describe(load_settings()):
        assert one.name.startswith("SEATFLOW_")
        assert one.meaning, one.name


def test_plain_clients_get_no_tls() -> None:
    assert client_options(load_settings()) == {
        "bootstrap_servers": "127.0.0.1:9092",
        "security_protocol": "PLAINTEXT",
    }
    assert "ssl_context" in client_options(load_settings(security_protocol="SSL"))
