"""Apache Kafka's jars: finds Java, and fetches the jars with Maven.

kafka_files/pom.xml lists the jars; they are kept in the user's cache.
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

from streams.runtime.errors import SeatflowError

KAFKA_VERSION = "4.3.1"
MIN_JAVA_VERSION = 17
KAFKA_FILES = Path(__file__).resolve().parent / "kafka_files"

Say = Callable[[str], None]


class BrokerError(SeatflowError):
    """Raised if the local broker cannot be installed or started.

    The message states cause and remedy.
    """


def say(line: str) -> None:
    """Prints a line of progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def find_java() -> Path:
    """Returns the path of Java 17 or later, JAVA_HOME first. Raises: BrokerError."""
    advice = (
        f"install Java {MIN_JAVA_VERSION} or later (Debian and Ubuntu: "
        "apt-get install default-jre-headless), or use `docker compose up`"
    )
    java = _command("java", "JAVA_HOME")
    if java is None:
        raise BrokerError(f"No Java found: {advice}.")
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if version is None or int(version[1]) < MIN_JAVA_VERSION:
        found = output.splitlines()[0] if output else "no version"
        raise BrokerError(f"Java at {java} is too old ({found}): {advice}.")
    return java


def find_maven() -> Path:
    """Returns the path of Maven. Raises: BrokerError."""
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
    """Returns the directory of Kafka's jars, fetched once per machine and version of the pom.

    Safe for concurrent processes: one fetches, the others wait; the directory appears complete or
    not at all. Raises: BrokerError.
    """
    pom = KAFKA_FILES / "pom.xml"
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
