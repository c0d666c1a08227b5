"""Stand-ins for the images that the project names, built from Debian's packages.

Each has the paths, the user and the entry point of the image it stands in for, so that the
Dockerfile and the compose file run unchanged where no image registry is reachable.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from hashlib import sha256
from pathlib import Path

from streams.local.kafka_jars import KAFKA_VERSION, ensure_jars, find_java
from tests.containers.engine import Docker, UnavailableError

CONTEXTS = Path(__file__).resolve().parent / "stand_ins"
RELEASE = "bookworm"
BASE_IMAGE = f"seatflow-stand-in/debian:{RELEASE}"
BASE_PACKAGES = "python3,python3-venv,python3-dev,wget,ca-certificates,libstdc++6,zlib1g"
BASE_MAX_AGE_SECONDS = 86_400
PYTHON_IMAGE = "python:3.11-slim-bookworm"
KAFKA_IMAGE = f"apache/kafka:{KAFKA_VERSION}"


def build_stand_ins(docker: Docker, prometheus_image: str, folder: Path) -> None:
    """Builds the images of Python, Kafka and Prometheus under the names that the project uses.

    Raises:
        UnavailableError: Debian's packages cannot be had.
    """
    docker("import", str(_base_archive()), BASE_IMAGE)
    contexts = folder / "contexts"
    shutil.copytree(CONTEXTS, contexts)
    try:
        trusted = os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
        shutil.copy(trusted, contexts / "python" / "trusted.crt")
        shutil.copytree(ensure_jars(), contexts / "kafka" / "libs")
        shutil.copytree(
            find_java().resolve().parent.parent,
            contexts / "kafka" / "java",
            ignore=shutil.ignore_patterns("jmods", "src.zip", "man", "docs", "include", "legal"),
            ignore_dangling_symlinks=True,
        )
        shutil.copy(shutil.which("prometheus") or "", contexts / "prometheus")
        for name, tag in (
            ("python", PYTHON_IMAGE),
            ("kafka", KAFKA_IMAGE),
            ("prometheus", prometheus_image),
        ):
            docker("build", "--network", "none", "--tag", tag, str(contexts / name))
    finally:
        shutil.rmtree(contexts)


def _base_archive() -> Path:
    """Returns a small Debian as a tar file, made once per machine and day in half a minute."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seatflow"
    cache.mkdir(parents=True, exist_ok=True)
    digest = sha256(BASE_PACKAGES.encode()).hexdigest()[:8]
    archive = cache / f"debian-{RELEASE}-{digest}.tar"
    if archive.exists() and time.time() - archive.stat().st_mtime < BASE_MAX_AGE_SECONDS:
        return archive
    new = archive.with_suffix(f".{os.getpid()}.tar")
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io"),
        *(f"--include={BASE_PACKAGES}", RELEASE, str(new)),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    if run.returncode:
        new.unlink(missing_ok=True)
        lines = run.stderr.strip().splitlines() or ["mmdebstrap failed without a message"]
        raise UnavailableError(f"Debian's packages cannot be had: {lines[-1]}")
    new.rename(archive)
    return archive
