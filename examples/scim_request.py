"""Creates a user over SCIM 2.0, as an identity provider does.

    python examples/scim_request.py http://127.0.0.1:8090 TOKEN

The receiver (`seatflow receive`) answers when Kafka has the events.
"""

from __future__ import annotations

import json
import sys
import urllib.request

USER = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
    "userName": "ann@contoso.example",
    "displayName": "Ann",
    "addresses": [{"type": "work", "country": "US"}],
}


def main(receiver: str, token: str) -> None:
    """Sends the request and prints the id of the new user."""
    request = urllib.request.Request(
        f"{receiver}/scim/v2/Users",
        json.dumps(USER).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/scim+json"},
    )
    with urllib.request.urlopen(request) as response:
        print(response.status, json.load(response)["id"])


if __name__ == "__main__":
    main(*sys.argv[1:])
