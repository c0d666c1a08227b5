"""One name for a product on every page, and the rules as the specification has them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest

from engine.domain import messages
from engine.domain.model import Product
from streams.console.pages.product_names import ProductNames
from streams.console.pages.rules import RULES
from tests.streams.console.conftest import Console
from tests.support.system import ROOT

PARTS = ("VISIOCLIENT", "ENTERPRISEPACK", "STANDARDPACK", "PROJECTPROFESSIONAL")
T = "/t/contoso"


def sentences() -> Iterator[str]:
    """Each sentence of the engine, about Visio and Office."""
    known = {
        sku: Product(sku, part, sku.title(), {})
        for sku, part in (("visio", "VISIOCLIENT"), ("e3", "ENTERPRISEPACK"))
    }
    yield messages.location(known, "visio", ["p"], None)
    yield messages.location(known, "visio", ["p"], "CN")
    yield messages.conflict(known, "visio", [("p", "q", "e3"), ("p", "r", "e3")], 2)
    yield messages.conflict(known, "visio", [("p", "q", "e3")], 4)
    yield messages.missing(known, "visio", [("p", ["q", "r"])], 3)
    yield messages.needed_by_others(known, "visio", [("p", ["q"])], 1)
    yield messages.duplicate(known, "visio", "a@x.example", "ann")
    yield messages.count(known, "visio")
    yield messages.other(known, "visio", ["e3", "visio"], 2)
    yield messages.other(known, "visio", ["e3"], 3)


@pytest.mark.parametrize("text", list(sentences()))
def test_sentences_have_the_display_names(demo_console: Console, text: str) -> None:
    names = ProductNames(demo_console.service.store.read_connection())
    shown = names.sentence(text)
    assert "Visio Plan 2" in shown
    assert "VISIOCLIENT" not in shown
    assert "ENTERPRISEPACK" not in shown


@pytest.mark.parametrize(
    "path", ["", "/products", "/groups", "/users?hasLicenseErrors=true", "/errors", "/audit",
             "/groups/diagram-designers", "/users/u0011", "/change/group-licences?group=choir"]
)  # fmt: skip
def test_pages_have_one_name_and_one_spelling(demo_console: Console, path: str) -> None:
    """The part number stands only beside the name of the product that a page is about."""
    answer = demo_console.client.get(T + path, headers={"accept": "text/html"})
    assert answer.status_code == 200
    body = re.sub(r'<(?:div|span) class="quiet">[A-Z0-9_]+</(?:div|span)>', "", answer.text)
    body = re.sub(r"<select name=\"\$orderby\">.*?</select>", "", body)
    text = html.unescape(re.sub(r"<[^>]+>", " ", body))
    assert not [part for part in PARTS if part in text]
    assert not re.search(r"\blicenses?\b(?! it)", text)


def test_the_rules_are_those_of_the_specification() -> None:
    """Numbers and titles, of every rule that a page can name; R7's checks are its numbered list."""
    spec = (ROOT / "docs/spec/rules.md").read_text()
    stated = dict(re.findall(r"^### (R\d+)\n\n\*\*(.+?)\.?\*\*", spec, re.MULTILINE))
    checks = spec.partition("### R7\n")[2].partition("### R8\n")[0]
    stated |= {f"R7.{n}": title for n, title in re.findall(r"^(\d)\. \*(\w+)\*", checks, re.M)}
    assert {number: rule.title for number, rule in RULES.items()}.items() <= stated.items()
    sources = [ROOT / "streams/console/whatif/explanation.py", ROOT / "engine/rules/trace.py"]
    sources += (ROOT / "streams/console/templates").glob("*.html")
    named = {n for path in sources for n in re.findall(r'"(R\d+(?:\.\d)?)"', path.read_text())}
    assert len(named) > 10
    assert named <= RULES.keys()


def test_a_number_explains_itself(demo_console: Console) -> None:
    """By a tooltip, and a link to the rule on the page of all."""
    page = html.unescape(demo_console.client.get(f"{T}/users/u0011").text)
    found = re.search(r'href="/rules#(R[\d.]+)" title="([^"]+)"', page)
    assert found is not None
    assert found[2] == f"{RULES[found[1]].title}: {RULES[found[1]].text}"
    assert f'id="{found[1]}"' in demo_console.client.get("/rules").text
