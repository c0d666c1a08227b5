"""The settings, on one screen: ``SEATFLOW_…`` in the environment, an ``.env`` file, or flags."""

from __future__ import annotations

import os
import re
import ssl
import stat
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.runtime.errors import SeatflowError
from streams.runtime.nearest import nearest

PREFIX = "SEATFLOW_"


OTHER_VARIABLES = re.compile(
    r"SEATFLOW_((PURE|PURE_BUILD|FAULT|SCREENSHOTS|TEST_\w+|REQUIRE_\w+|RENEW_\w+)"
    r"|(CONSOLE|RECEIVER|KAFKA|PROMETHEUS|GRAFANA)_(PORT|URL|TOKENS|SOURCES)"  # of compose
    # Kubernetes' variables of services whose names begin with seatflow.
    r"|(\w+_)?SERVICE_(HOST|PORT)(_\w+)?|(\w+_)?PORT_\d+_(TCP|UDP)(_\w+)?|PORT)"
)
"""Variables with the prefix of settings that are none."""


NO_SCHEME = "host:port without a scheme"


def _brokers(value: str) -> str:
    addresses = [part.strip() for part in value.split(",")]
    for address in addresses:
        scheme, found, rest = address.partition("://")
        if found:
            raise ValueError(f"{NO_SCHEME}: {rest.strip('/') or scheme}")
        host, _, port = address.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError
    return ",".join(addresses)


def _networks(value: str) -> str:
    for part in value.split(",") if value else ():
        if not ip_network(part.strip(), strict=False).prefixlen:
            raise ValueError  # everybody
    return value


def _file(value: Path) -> Path:
    if not value.is_file():
        raise ValueError
    return value


# Each type carries what is allowed, for the messages and for `seatflow settings`.
Brokers = Annotated[str, AfterValidator(_brokers), "host:port, several separated by commas"]
Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$"), "1 to 100 characters of A-Z a-z 0-9 . _ -"
]
TopicPrefix = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._-]{0,100}$"), "at most 100 characters of A-Z a-z 0-9 . _ -"
]
Port = Annotated[int, Field(ge=0, le=65535), "a port from 0 to 65535; 0: any free one"]
File = Annotated[Path, AfterValidator(_file), "the path of a file that exists"]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$"), "an address or a host name"]
Names = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9.,:_-]{0,2000}$"), "host names, separated by commas"
]
Networks = Annotated[
    str,
    Field(max_length=2000),
    AfterValidator(_networks),
    "addresses or networks (10.1.0.0/16), separated by commas",
]
Connections = Annotated[int, Field(ge=10, le=100_000), "a whole number from 10 to 100000"]
Level = Annotated[
    Literal["debug", "info", "warning", "error"], "one of debug, info, warning, error"
]
Format = Annotated[Literal["console", "json"], "console or json"]
Protocol = Annotated[
    Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
    "one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
]
Mechanism = Annotated[
    Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
    "one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
]
Partitions = Annotated[int, Field(ge=1, le=1024), "a whole number from 1 to 1024"]
Replication = Annotated[int, Field(ge=1, le=9), "a whole number from 1 to 9"]
Session = Annotated[float, Field(ge=6, le=300), "seconds from 6 to 300"]
Interval = Annotated[float, Field(ge=0.0, le=5.0), "seconds from 0 to 5"]
Records = Annotated[int, Field(ge=1, le=100_000), "a whole number from 1 to 100000"]
Products = Annotated[int, Field(ge=0, le=100_000), "a whole number from 0 to 100000"]
Lag = Annotated[float, Field(ge=1, le=86_400), "seconds from 1 to 86400"]
Compaction = Annotated[int, Field(ge=1, le=31_536_000), "seconds from 1 to 31536000 (a year)"]
Limit = Annotated[int, Field(ge=1, le=10_000_000), "a whole number from 1 to 10000000"]
Stall = Annotated[float, Field(ge=20, le=3600), "seconds from 20 to 3600"]


class Settings(BaseSettings):
    """All settings. A value comes from a flag, the environment or ``.env``, in this order."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    brokers: Brokers = Field("127.0.0.1:9092", description="Kafka bootstrap servers")
    app_id: Name = Field(
        "seatflow", description="consumer group, and prefix of the transactional ids"
    )
    worker_id: Name | None = Field(
        None,
        description="static membership: a quick restart moves no partition; unset: dynamic",
    )
    partitions: Partitions = Field(
        8, description="partitions of every topic; fixed when the topics are created"
    )
    topic_prefix: TopicPrefix = Field("licensing.", description="prefix of all topic names")
    replication: Replication = Field(
        1, description="replication factor, used when topics are created"
    )
    compaction_lag: Compaction = Field(
        604_800,
        description="seconds after which compacted topics have lost what was replaced or deleted;"
        " used when topics are created",
    )
    data_dir: Path = Field(
        Path(".seatflow"),
        description="directory of the local broker and the console; workers store nothing",
    )
    http_host: Host = Field(
        "127.0.0.1",
        description="address that the console listens on; beyond loopback, tokens are required",
    )
    http_port: Port = Field(8080, description="port of the console")
    http_names: Names = Field("", description="host names by which browsers reach the console")
    http_tokens_file: File | None = Field(None, description="tokens of the console's users (TOML)")
    http_cert_file: File | None = Field(None, description="HTTPS certificate of the console")
    http_key_file: File | None = Field(None, description="private key of that certificate")
    http_behind_proxy: bool = Field(
        False,
        description="a proxy terminates HTTPS: console and receiver may listen without"
        " a certificate",
    )
    http_trusted_proxies: Networks = Field(
        "",
        description="addresses of the proxies whose X-Forwarded-For and -Proto are believed",
    )
    http_max_connections: Connections = Field(
        500,
        description="connections to the console or receiver; a further one ends the longest idle",
    )
    metrics_port: Port = Field(0, description="port of a worker's /metrics, /healthz and /readyz")
    metrics_max_products: Products = Field(
        500,
        description="maximum number of products with own series; the rest are summed as `other`",
    )
    ready_lag: Lag = Field(60.0, description="a worker that lags by more seconds is not ready")
    session_timeout: Session = Field(
        10.0, description="seconds without a heartbeat after which a worker loses its partitions"
    )
    stall_timeout: Stall = Field(
        60.0, description="seconds of work without progress after which a worker exits"
    )
    commit_interval: Interval = Field(
        0.05, description="seconds between two transactions under load"
    )
    commit_records: Records = Field(5_000, description="maximum number of events in a transaction")
    limit_memberships: Limit = Field(
        5_000, description="direct memberships of a user; limits are the same for all workers"
    )
    limit_licensed_groups: Limit = Field(
        1_000, description="groups through which a user is licensed"
    )
    limit_assignments: Limit = Field(
        2_000, description="licences of all groups together that a user is evaluated with"
    )
    limit_products: Limit = Field(
        500, description="products of a group, and direct licences of a user"
    )
    limit_address_claims: Limit = Field(100_000, description="users who claim one proxy address")
    limit_deferred_changes: Limit = Field(
        100, description="changes of a group or user that wait for a product"
    )
    limit_deferred_bytes: Limit = Field(
        262_144,
        description="bytes of the changes of a group or user that wait for a product, and of the"
        " events that wait for a user's change",
    )
    limit_waiting_events: Limit = Field(
        1_000, description="events of a user that wait for a change of this user"
    )
    limit_group_completions: Limit = Field(
        100, description="reprocesses and licence changes of a group that are not complete"
    )
    limit_attributes: Limit = Field(250, description="attributes of a user that rules can read")
    limit_attribute_characters: Limit = Field(
        65_536, description="characters in the attributes of a user together"
    )
    log_level: Level = Field("info", description="least severe level that is logged")
    log_format: Format = Field(
        "console", description="format of log lines: for people (console) or machines (json)"
    )
    security_protocol: Protocol = Field(
        "PLAINTEXT", description="security protocol of the connections to the brokers"
    )
    ssl_ca_file: File | None = Field(
        None, description="CA certificates to trust; unset: the system's"
    )
    ssl_cert_file: File | None = Field(None, description="client certificate")
    ssl_key_file: File | None = Field(None, description="private key of the client certificate")
    sasl_mechanism: Mechanism = Field("SCRAM-SHA-512", description="SASL mechanism")
    sasl_username: str | None = Field(None, description="SASL user")
    sasl_password: SecretStr | None = Field(
        None, description="SASL password; prefer SEATFLOW_SASL_PASSWORD_FILE"
    )
    sasl_password_file: File | None = Field(
        None, description="file that contains the SASL password"
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.ssl_cert_file is None) != (self.ssl_key_file is None):
            raise ValueError("SEATFLOW_SSL_CERT_FILE and SEATFLOW_SSL_KEY_FILE: both or neither")
        if (self.http_cert_file is None) != (self.http_key_file is None):
            raise ValueError("SEATFLOW_HTTP_CERT_FILE and SEATFLOW_HTTP_KEY_FILE: both or neither")
        if self.security_protocol.startswith("SASL") and (
            not self.sasl_username or not (self.sasl_password or self.sasl_password_file)
        ):
            raise ValueError(
                f"SEATFLOW_SECURITY_PROTOCOL is {self.security_protocol!r}: SEATFLOW_SASL_USERNAME,"
                " and SEATFLOW_SASL_PASSWORD or SEATFLOW_SASL_PASSWORD_FILE must be set"
            )
        return self


class SettingsError(SeatflowError):
    """One line for each wrong setting: its name, its value, the allowed values."""


class SettingDoc(NamedTuple):
    """A setting with its present value, for `seatflow settings` and the reference."""

    name: str
    value: str
    default: str
    meaning: str
    allowed: str


def load_settings(**flags: Any) -> Settings:
    """Returns the settings; a flag that is None counts as not given.

    Raises:
        SettingsError: with one line for each wrong setting.
    """
    path = env_file()
    _check_names(path)
    try:
        given = {name: value for name, value in flags.items() if value is not None}
        return Settings(_env_file=path, **given)  # type: ignore[call-arg]
    except ValidationError as error:
        lines = dict.fromkeys(_line(problem) for problem in error.errors())
        raise SettingsError("\n".join(lines)) from None


def _check_names(path: Path | None) -> None:
    """Warns of unknown settings in the environment and ``.env``.

    Raises: SettingsError, if one is nearly the name of a setting: it would have no effect.
    """
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    given = dict.fromkeys(os.environ, "the environment")
    if path is not None:
        text = path.read_text(errors="replace")
        named = re.findall(r"^\s*(?:export\s+)?(\w+)\s*=", text, re.MULTILINE)
        given = dict.fromkeys(named, str(path)) | given
    misspelt = []
    for name, where in given.items():
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known or OTHER_VARIABLES.fullmatch(upper):
            continue
        if meant := nearest(upper, known):
            misspelt.append(f"{name} ({where}) is no setting: did you mean {meant}?")
        elif name not in _warned:
            _warned.add(name)
            print(
                f"warning: {name} ({where}) is no setting and has no effect; `seatflow settings`"
                " lists them all",
                file=sys.stderr,
            )
    if misspelt:
        raise SettingsError("\n".join(misspelt))


_warned: set[str] = set()


def env_file() -> Path | None:
    """Returns ``.env`` of the current directory, or None if it may be somebody else's.

    The file and the directory must belong to the current user or to root, and not everybody may
    write to them: in a shared directory such as /tmp, others could set the brokers to send to.
    """
    path = Path(".env")
    if not path.is_file():
        return None
    for each in (path.parent, path):
        found = each.stat()
        if found.st_uid not in (os.getuid(), 0) or found.st_mode & stat.S_IWOTH:
            whose = "belongs to another user or can be written by everybody"
            print(f"{path.resolve()} is ignored: {each.resolve()} {whose}", file=sys.stderr)
            return None
    return path


def describe(settings: Settings) -> Iterator[SettingDoc]:
    """Yields all settings with their meaning; secrets are masked."""
    for name, field in Settings.model_fields.items():
        yield SettingDoc(
            PREFIX + name.upper(),
            _shown(getattr(settings, name)),
            _shown(field.default),
            field.description or "",
            _allowed(name),
        )


def client_options(settings: Settings) -> dict[str, Any]:
    """Returns the options of every aiokafka client: brokers and security."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.brokers,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        ca = settings.ssl_ca_file
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        if settings.ssl_cert_file and settings.ssl_key_file:
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
        options["ssl_context"] = context
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = _password(settings)
    return options


def _password(settings: Settings) -> str:
    if settings.sasl_password_file is not None:
        return settings.sasl_password_file.read_text().rstrip("\r\n")
    return settings.sasl_password.get_secret_value() if settings.sasl_password else ""


def _line(problem: Any) -> str:
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    value = "***" if "password" in name else repr(str(problem["input"]))
    allowed = _allowed(name) or problem["msg"]
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if reason.startswith(NO_SCHEME):
        allowed = reason
    return f"{PREFIX}{name.upper()} is {value}: must be {allowed}"


def _allowed(name: str) -> str:
    """Returns the text in the annotation, or in that of the optional type."""
    field = Settings.model_fields[name]
    candidates: list[Any] = list(field.metadata)
    for part in getattr(field.annotation, "__args__", ()):
        candidates += getattr(part, "__metadata__", ())
    return next((text for text in candidates if isinstance(text, str)), "")


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
