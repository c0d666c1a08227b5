"""The reference page of Graph's calls, from the tables that answer them."""

from __future__ import annotations

import re

from streams.console.graph import batch, bodies, filter_syntax, options, search
from streams.console.graph.properties import (
    DELETED_USERS,
    GROUPS,
    LICENSE_DETAILS,
    ORGANIZATION,
    SKUS,
    USERS,
    Collection,
    Kind,
    Property,
)
from streams.console.graph.table import ROUTES
from streams.console.read_model.pagination import MOST

HEAD = """# Microsoft Graph's calls

The console answers these calls under `/v1.0` and `/beta`, which are the same here. The tenant is
the one in the path (`/contoso/v1.0/users`) or, without it (`/v1.0/users`), the only one that the
caller may read: that of its token, or the only one there is. [Graph's
clients](../guides/graph-clients.md) shows it with real clients.

A parameter, property, function or member of a body that is not on this page is an error with
status 400 and a sentence; nothing is ignored. Errors are `{"error": {"code", "message",
"innerError"}}`; where a rule refuses a change, `code` is the rule's (`CountViolation`), and
`details` has its details.

## Calls

Everywhere, `users('id')` is `users/id`, `delta()` is `delta`, and a user's principal name stands
for its id, in any case.

"""
NOTES = f"""## Query options

- `$filter`: `eq`, `ne`, `gt`, `ge`, `lt`, `le`, `in`, `startswith`, `endswith`, `and`, `or`,
  `not`, brackets, `list/any(x:x/member eq …)`, `list/any()`, `list/$count eq 0`. Text is in
  single quotes; a GUID may stand without. Texts are compared without regard to the case of ASCII
  letters. Ids are compared exactly, but for GUIDs.
- `$search`: `"displayName:ann" AND "mail:a"`, with `OR` and brackets. Every word begins a word
  of the display name; of the others, the value begins with the text.
- `$orderby`: up to {options.MOST_ORDERS} properties, each with `asc` or `desc`.
- `$top`: 1 to {MOST}, {options.DEFAULT_TOP} by default; the next page is at `@odata.nextLink`.
  There is no `$skip`.
- `$count=true` counts, and `…/$count` is the number as text. They and the other *advanced*
  queries need no `ConsistencyLevel: eventual`, since all of them are answered from one read
  model; any other level is refused.
- `$expand`: up to {options.MOST_EXPANDED} objects each, with `$select` and `$top` in brackets
  and a link to the others.
- The names of properties and the `$` are as Graph takes them: in any case, and the `$` may be
  left out.

| bound | |
|---|---|
| characters of a filter | {filter_syntax.MOST_CHARACTERS:,} |
| characters of a search | {search.MOST_CHARACTERS:,} |
| comparisons, depth of a filter | {filter_syntax.MOST_COMPARISONS}, {filter_syntax.MOST_DEPTH} |
| items of a list in a body | {bodies.MOST_ITEMS:,} |
| `members@odata.bind` | {bodies.MOST_REFERENCES} |

## Properties

"""


def graph_page() -> str:
    """Returns the page of Graph's calls."""
    text = HEAD + "| call | |\n|---|---|\n"
    for route in ROUTES:
        path = re.sub(r"\bgraph\.", "microsoft.graph.", route.pattern)
        text += f"| `{route.method} /{path}` | {route.about} |\n"
    text += f"| `POST /{batch.PATH}` | up to {batch.MOST_REQUESTS} calls, with `dependsOn` |\n"
    text += "\n" + NOTES
    for kind in (USERS, GROUPS, SKUS, DELETED_USERS, LICENSE_DETAILS, ORGANIZATION):
        text += _kind(kind)
    return text.rstrip() + "\n"


def _kind(kind: Kind) -> str:
    text = f"### {kind.name}\n\n| property | shown | `$filter` | `$orderby` | `$search` |\n"
    text += "|---|---|---|---|---|\n"
    for name in dict.fromkeys([*kind.selected, *kind.filtered]):
        cells = [f"`{name}`", "yes" if name in kind.selected else "", *_uses(kind, name)]
        text += f"| {' | '.join(cells)} |\n"
    if kind.expanded:
        text += f"\n`$expand`: {', '.join(f'`{name}`' for name in kind.expanded)}.\n"
    return text + "\n"


def _uses(kind: Kind, name: str) -> list[str]:
    """Returns the cells of a property: filter, order and search."""
    found = kind.filtered.get(name)
    if found is None:
        return ["", "", ""]
    if isinstance(found, Collection):
        members = ", ".join(f"`{member}`" for member in found.members or ())
        return [f"`any` of {members}, `$count`" if members else "`any`, `$count`", "", ""]
    assert isinstance(found, Property)
    looked_at = {"words": "words", "start": "start", None: ""}[found.searched]
    return ["yes", "yes" if found.sortable else "", looked_at]
