"""The pages in a real browser, on the demo's tenant behind a real Kafka and a real worker."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.streams.console.browser import Running, misfits
from tests.support.system import ROOT, Events

SHOTS = Path(os.environ["SEATFLOW_SCREENSHOTS"]) if "SEATFLOW_SCREENSHOTS" in os.environ else None
"""Where screenshots go, say docs/images; without it none are taken."""
T = "/t/contoso"
PAGES = {
    "overview": (T, "Contoso"),
    "tenants": ("/", "Tenants"),
    "products": (f"{T}/products", "Products"),
    "product": (f"{T}/products/c5928f49-12ba-48f7-ada3-0d743a3601d5", "Visio Plan 2"),
    "groups": (f"{T}/groups", "Groups"),
    "group": (f"{T}/groups/diagram-designers", "Diagram Designers"),
    "users": (f"{T}/users?search=garcia", "Users"),
    "user": (f"{T}/users/u0011", "Emil Fontana"),
    "errors": (f"{T}/errors", "Errors"),
    "whatif": (f"{T}/whatif", "What if"),
    "audit": (f"{T}/audit", "Audit"),
    "api": ("/docs", "HTTP API"),
}
EVENTS = [
    {"type": "membership.added", "user": "u0019", "group": "diagram-designers"},
    {"type": "licenses.changed", "group": "choir",
     "addLicenses": [{"skuId": "c5928f49-12ba-48f7-ada3-0d743a3601d5"}]},
]  # fmt: skip


class Looking:
    """A page that remembers what went wrong in it."""

    def __init__(self, running: Running, page: Any) -> None:
        self.running, self.page = running, page
        page.set_default_timeout(10_000)
        self.wrong: list[str] = []
        page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("requestfailed", lambda r: self._failed(r))

    def _failed(self, request: Any) -> None:
        # What is still on its way when the page is left, a stream above all, is no failure.
        if request.failure != "net::ERR_ABORTED":
            self.wrong.append(f"{request.url} failed")

    def open(self, path: str) -> Any:
        answer = self.page.goto(self.running.url + path)
        assert answer.status == 200
        return self.page

    def axe(self) -> list[str]:
        """Returns the violations of WCAG and of good practice that axe-core finds."""
        found = Axe().run(self.page).response["violations"]
        return [f"{v['id']}: {node['html'][:150]}" for v in found for node in v["nodes"]]


@pytest.fixture
def looking(running: Running, chromium: Any) -> Iterator[Looking]:
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, locale="en")
    found = Looking(running, context.new_page())
    yield found
    assert found.wrong == []
    context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_sound(looking: Looking, name: str, scheme: Any) -> None:
    """Its heading, no error in the console, nothing for axe to find, and it fits a phone."""
    path, heading = PAGES[name]
    looking.page.emulate_media(color_scheme=scheme)
    page = looking.open(path)
    assert page.locator("h1").inner_text() == heading
    assert "behind" in page.locator(".fresh").inner_text()
    assert looking.axe() == []
    if SHOTS is not None and (scheme == "light" or name in ("overview", "user")):
        page.screenshot(path=SHOTS / f"{name}{'-dark' if scheme == 'dark' else ''}.png")
    assert misfits(page) == []


def test_links_lead_everywhere(looking: Looking) -> None:
    """From the overview along the tabs, to a group, its user, and back to the product."""
    page = looking.open(T)
    for tab in ("Products", "Groups", "Users", "Errors", "What if", "Audit", "Overview"):
        page.get_by_role("link", name=tab, exact=True).first.click()
        current = page.locator(".tabs [aria-current]")
        assert current.inner_text() == tab
    page.get_by_role("link", name="Sales Europe").first.click()
    page.get_by_role("link", name="Emil Fontana").first.click()
    assert page.locator("h1").inner_text() == "Emil Fontana"
    page.get_by_role("link", name="Office 365 E3").click()
    assert "ENTERPRISEPACK" in page.locator(".lead").inner_text()


def test_search_and_pages(looking: Looking) -> None:
    """By name, by address, by id; and on to the next page."""
    page = looking.open(f"{T}/users")
    first = page.locator("tbody a").first.inner_text()
    page.get_by_role("link", name="Next page").click()
    assert page.locator("tbody a").first.inner_text() != first
    page.get_by_role("link", name="First page").click()
    for text in ("emil fontana", "EMIL.FONTANA@contoso", "u0011"):
        page.get_by_label("Id, name or address").fill(text)
        page.get_by_role("button", name="Search").click()
        assert page.locator("tbody tr").count() == 1
        assert page.locator("tbody a").first.inner_text() == "Emil Fontana"
    page.get_by_label("Id, name or address").fill("nobody at all")
    page.keyboard.press("Enter")
    assert "No user matches" in page.locator(".empty").inner_text()


def test_errors_are_filtered_and_exported(looking: Looking) -> None:
    """From a cause to its users, by a filter, and the same rows as CSV."""
    page = looking.open(f"{T}/errors")
    page.get_by_role("region", name="Causes").get_by_role("link", name="Not enough seats").click()
    rows = page.get_by_role("region", name="Errors").locator("tbody tr")
    assert rows.count() > 0
    assert set(rows.locator(".badge").all_inner_texts()) == {"Not enough seats"}
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    text = Path(download.value.path()).read_text()
    assert text.count("CountViolation") == rows.count()
    page.locator("select[name=error]").select_option("UniquenessViolation")
    page.get_by_label("Product id").fill("")
    page.get_by_label("Group id").fill("")
    page.get_by_role("button", name="Show").click()
    assert set(page.locator("tbody .badge").all_inner_texts()) == {"Duplicate address"}


def test_why_a_user_lacks_a_licence(looking: Looking) -> None:
    """Rule by rule, in sentences; the plans can be unfolded."""
    page = looking.open(f"{T}/users/u0011")
    lacking = page.locator("article.lacking")
    assert "Conflicting plans" in lacking.inner_text()
    assert "SHAREPOINTENTERPRISE with SHAREPOINTSTANDARD" in lacking.locator(".no").inner_text()
    plans = page.locator("article.held details").first
    assert not plans.locator(".chips").is_visible()
    plans.locator("summary").click()
    assert plans.locator(".chips").is_visible()


@pytest.mark.parametrize("script", [True, False], ids=["", "without JavaScript"])
def test_reprocess_shows_what_came_of_it(running: Running, chromium: Any, script: bool) -> None:
    """A seat is free and the tenant's policy is manual: reprocessing gives it to a waiting user."""
    make = Events("fabrikam", f"re{script}")
    running.publish(make.user(f"u{script}"), make.seats("e3", 0))
    running.publish(make.join(f"u{script}", "team"))
    context = chromium.new_context(java_script_enabled=script)
    page = context.new_page()
    page.goto(f"{running.url}/t/fabrikam/groups/team")
    before = page.get_by_role("region", name="Members in error").locator("tbody tr").count()
    assert before > 0
    running.publish(make.seats("e3", 9))
    page.get_by_role("button", name="Reprocess").click()
    assert "Retry what is in error for the members of" in page.locator("main").inner_text()
    assert "errors would be resolved" in page.locator("#answer").inner_text()
    page.get_by_role("button", name="Confirm").click()
    assert "Applied." in page.locator("#outcome").inner_text()
    assert "No member is in error" in page.locator("main").inner_text()
    page.get_by_role("link", name="Audit", exact=True).click()
    assert "Request group licence recalculation" in page.locator("tbody").inner_text()
    context.close()


def test_what_if_by_paste_and_by_file(looking: Looking, tmp_path: Path) -> None:
    """The answer names the users that would fail and the missing seats; nothing is changed."""
    page = looking.open(f"{T}/whatif")
    page.get_by_label("Events, one JSON object").fill("\n".join(map(json.dumps, EVENTS)))
    page.get_by_role("button", name="Try it").click()
    answer = page.locator("#answer")
    assert "Mei Garcia" in answer.inner_text()
    assert "No seat of Visio Plan 2 is free" in answer.inner_text()
    assert looking.axe() == []
    if SHOTS is not None:
        page.set_viewport_size({"width": 1280, "height": 1250})
        page.screenshot(path=SHOTS / "whatif-outcome.png")
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"type": "user.deleted", "user": "u0019"}))
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name="Try it").click()
    assert "loses it" in page.locator("#answer").inner_text()
    user = page.request.get(f"{looking.running.url}/v1/tenants/contoso/users/u0019")
    assert user.status == 200


def test_a_licence_is_assigned_with_the_keyboard(looking: Looking) -> None:
    """From the group's page through the form and its preview to what came of it."""
    make = Events("fabrikam", "form")
    looking.running.publish(make.product("e5", "calls"), make.seats("e5", 3))
    looking.running.publish(make.user("eve", displayName="Eve"), make.join("eve", "team"))
    page = looking.open("/t/fabrikam/groups/team")
    page.get_by_role("link", name="Licences", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_label("e5").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    answer = page.locator("#answer")
    assert "gains it" in answer.inner_text()
    assert looking.axe() == []
    assert misfits(page) == []
    page.get_by_role("button", name="Confirm").focus()
    page.keyboard.press("Enter")
    assert "Applied." in page.locator("#outcome").inner_text()
    assert "e5" in page.get_by_role("region", name="Licences").inner_text()
    page.get_by_role("link", name="What came of it").click()
    assert "Request group licence change" in page.locator("main").inner_text()
    assert looking.axe() == []


def test_a_dead_letter_is_mended_and_sent_again(looking: Looking) -> None:
    """From its topic, with the event's own id; the preview says what it would do."""
    make = Events("fabrikam", "letter")
    topic, key, value = make.join("dolly", "team")
    looking.running.publish(make.user("dolly", displayName="Dolly"))
    looking.running.publish((topic, key, value.replace(b'"team"', b"7")))
    page = looking.open("/dead-letters")
    assert "group is 7" in page.locator("tbody tr").first.inner_text()
    assert looking.axe() == []
    assert misfits(page) == []
    page.locator("tbody a").first.click()
    content = page.get_by_role("textbox", name="Value", exact=True)
    assert '"group": 7' in content.input_value()
    content.fill(value.decode())
    page.get_by_role("button", name="Show what would happen").click()
    assert "Send membership.added of dolly in fabrikam" in page.locator("main").inner_text()
    assert looking.axe() == []
    assert misfits(page) == []
    page.get_by_role("button", name="Confirm").click()
    assert "Applied." in page.locator("#outcome").inner_text()
    assert page.locator("h1").inner_text() == "Dolly"
    assert "team" in page.locator(".facts").inner_text()


def test_users_are_selected_for_reprocess(looking: Looking) -> None:
    """By their checkboxes; the outcome names how many were retried."""
    make = Events("fabrikam", "select")
    looking.running.publish(make.user("sel-1"), make.user("sel-2"))
    page = looking.open("/t/fabrikam/users?search=sel-")
    page.get_by_label("Select sel-1").check()
    page.get_by_label("Select all of this page").check()
    page.get_by_role("button", name="Reprocess those selected").click()
    assert "Retry what is in error for 2 users" in page.locator("main").inner_text()
    page.get_by_role("button", name="Confirm").click()
    assert "of 2 changes" in page.locator("#outcome").inner_text()


def test_what_if_says_what_is_wrong(running: Running, chromium: Any) -> None:
    """With the line or the event; the text stays, to be repaired."""
    page = chromium.new_page()
    page.goto(f"{running.url}{T}/whatif")
    for text, says in (("{oops", "Line 1 is not JSON"), ('{"type":"x"}', "event 1")):
        page.get_by_label("Events, one JSON object").fill(text)
        page.get_by_role("button", name="Try it").click()
        assert says in page.locator("[role=alert]").inner_text()
        assert page.get_by_label("Events, one JSON object").input_value() == text
    page.close()


def test_the_overview_is_live(looking: Looking) -> None:
    """A change appears without a reload, and a focused link keeps the focus."""
    page = looking.open(T)
    tile = page.locator(".tile b").first
    before = int(tile.inner_text().replace(",", ""))
    page.get_by_role("link", name="Office 365 E3").focus()
    page.evaluate("window.sameDocument = true")
    looking.running.publish(Events("contoso", "live").user("live-1"))
    page.wait_for_function(
        "n => document.querySelector('.tile b').innerText.replace(',', '') == n",
        arg=str(before + 1),
        timeout=20_000,
    )
    assert page.evaluate("window.sameDocument")
    assert page.evaluate("document.activeElement.innerText") == "Office 365 E3"


def test_the_keyboard_reaches_everything(looking: Looking) -> None:
    """The first stop leads to the content; the focus can be seen; Enter follows a link."""
    page = looking.open(f"{T}/groups")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "To the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "New group"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "search"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.type("finance")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Finance").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/groups/finance"))


def test_a_failure_says_what_to_do(running: Running, chromium: Any) -> None:
    """A page that is not there leads back."""
    page = chromium.new_page()
    answer = page.goto(f"{running.url}/t/contoso/users/nobody")
    assert answer.status == 404
    assert "There is no user 'nobody' in 'contoso'." in page.locator("main").inner_text()
    page.get_by_role("link", name="To the overview").click()
    page.close()


def test_the_screenshots_are_in_the_documents() -> None:
    """Each page has one, and what is shown is there."""
    for name in (*PAGES, "whatif-outcome"):
        assert (ROOT / "docs" / "images" / f"{name}.png").is_file()
