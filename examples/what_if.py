"""Asks the console for the effect of a change that is not made.

    python examples/what_if.py http://127.0.0.1:8080

A console beyond loopback needs `Authorization: Bearer TOKEN` as well.
"""

from __future__ import annotations

import json
import sys
import urllib.request

EVENTS = [
    {
        "type": "membership.added",
        "id": "try-1",
        "tenant": "contoso",
        "user": "dan",
        "group": "sales",
    },
    {
        "type": "user.upserted",
        "id": "try-2",
        "tenant": "contoso",
        "user": "dan",
        "usageLocation": "US",
    },
]


def main(console: str) -> None:
    """Prints the outcome as JSON."""
    request = urllib.request.Request(
        f"{console}/v1/tenants/contoso/whatif",
        json.dumps({"events": EVENTS}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        json.dump(json.load(response), sys.stdout, indent=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
