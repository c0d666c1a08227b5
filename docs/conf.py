"""The documentation's site: `make docs`."""

import tomllib
from pathlib import Path

project = "Seatflow"
author = copyright = "the Seatflow developers"
release = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
    "version"
]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
html_theme = "furo"
html_title = f"Seatflow {release}"
html_show_sourcelink = False
# Pages that are also read on the forge link to files of the repository, which no site has.
suppress_warnings = ["myst.xref_missing"]
