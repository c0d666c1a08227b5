"""Apache Kafka's jars and what runs and fetches them: Java and Maven.

The jars are named by deploy/kafka/pom.xml and kept in the user's cache between runs.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

KAFKA_VERSION = "4.3.1"
JAVA_NEEDED = 17
KAFKA_FILES = Path(__file__).resolve().parents[2] / "deploy" / "kafka"
if not KAFKA_FILES.exists():  # installed from a wheel
    KAFKA_FILES = Path(sys.prefix) / "share" / "seatflow" / "kafka"

Say = Callable[[str], None]


class BrokerError(Exception):
    """The broker cannot be had. The message is for people: what is wrong, what to do."""


def say(line: str) -> None:
    """Progress is for people, so it goes to stderr."""
    print(line, file=sys.stderr, flush=True)


def find_java() -> Path:
    """The machine's Java (JAVA_HOME first), 17 or later; BrokerError if there is none."""
    advice = (
        f"install Java {JAVA_NEEDED} or later (Debian and Ubuntu: "
        "apt-get install default-jre-headless), or use `docker compose up`"
    )
    java = _command("java", "JAVA_HOME")
    if java is None:
        raise BrokerError(f"No Java found: {advice}.")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', told)
    if version is None or int(version[1]) < JAVA_NEEDED:
        found = told.splitlines()[0] if told else "no version"
        raise BrokerError(f"Java at {java} is too old ({found}): {advice}.")
    return java


def find_maven() -> Path:
    """The machine's Maven, which fetches the jars; BrokerError if there is none."""
    maven = _command("mvn", "MAVEN_HOME")
    if maven is None:
        raise BrokerError(
            f"No Maven found, which fetches Apache Kafka {KAFKA_VERSION} the first time: install it"
            " (Debian and Ubuntu: apt-get install maven), or use `docker compose up`."
        )
    return maven


def _command(name: str, home_variable: str) -> Path | None:
    home = os.environ.get(home_variable)
    if home and os.access(at_home := Path(home) / "bin" / name, os.X_OK):
        return at_home
    found = shutil.which(name)
    return Path(found) if found else None


def ensure_jars(progress: Say = say) -> Path:
    """The directory of Kafka's jars, fetched by Maven once per machine and version of the pom.

    Safe when several processes start at once: one fetches, the others wait for it; the directory
    appears whole or not at all.
    """
    pom = KAFKA_FILES / "pom.xml"
    if not pom.exists():
        raise BrokerError(
            f"{pom} is missing: `seatflow broker` runs from a checkout of the project; "
            "elsewhere use any Apache Kafka, or `docker compose up`."
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seatflow"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:8]
    jars = cache / f"kafka-{KAFKA_VERSION}-{digest}"
    if jars.is_dir():
        return jars
    maven = find_maven()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            progress(f"Fetching Apache Kafka {KAFKA_VERSION} (about 55 MB, once) ...")
            _fetch(maven, pom, jars)
    return jars


def _fetch(maven: Path, pom: Path, jars: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=jars.parent) as scratch:
        target = Path(scratch) / "jars"
        command = [str(maven), "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        run = subprocess.run(
            [*command, f"-DoutputDirectory={target}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            complaints = [line for line in run.stdout.splitlines() if "ERROR" in line]
            raise BrokerError(
                "Maven could not fetch Apache Kafka (is there a network, or does Maven need a proxy"
                " in ~/.m2/settings.xml?):\n" + "\n".join(complaints[:3] or [run.stderr.strip()])
            )
        target.rename(jars)
