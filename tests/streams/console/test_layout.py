"""The pages on a phone and on paper, in a real browser, on the demo's tenant in memory."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe

from streams.console.app import create_app
from streams.runtime.deadline import Deadline
from tests.streams.console.browser import misfits
from tests.streams.console.local import demo, local_service
from tests.support.timing import limit_seconds

T = "/t/contoso"
VISIO = "c5928f49-12ba-48f7-ada3-0d743a3601d5"
PAGES = [
    *("/", T, f"{T}/products", f"{T}/products/{VISIO}", f"{T}/groups", f"{T}/users"),
    *(f"{T}/groups/diagram-designers", f"{T}/users/u0011", f"{T}/errors", f"{T}/audit"),
    *(f"{T}/whatif", "/rules", "/docs", "/dead-letters"),
]
FORMS = {
    "a group's licences": ("group-licences?group=diagram-designers", "Licences of a group"),
    "a user's licences": ("user-licences?user=u0011", "Direct licences of a user"),
    "an exchange": ("exchange?group=sales-europe", "Exchange a group's product"),
    "new members": ("add-members?group=choir", "Add members to a group"),
    "which group": ("remove-members", "Remove members from a group"),
    "a new group": ("new-group", "New group"),
    "a rule": ("membership-rule?group=sales-europe", "Membership rule of a group"),
    "seats": ("seats?sku=c5928f49-12ba-48f7-ada3-0d743a3601d5", "Buy or give back seats"),
    "a product": ("seats", "Buy or give back seats"),
    "reprocess": ("reprocess", "Reprocess users"),
    "a group's reprocess": ("reprocess-group?group=sales-europe", "Reprocess a group"),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console without Kafka, served by the server that the product uses."""
    settings, service, world = local_service(tmp_path_factory.mktemp("layout"))
    demo(world)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(create_app(settings, service), log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = Deadline(limit_seconds(10))
        while not server.started and not deadline.has_passed:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()
    service.store.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, locale="en")
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_every_page_fits_a_phone(url: str, page: Any, path: str) -> None:
    """At 390 pixels nothing is clipped, off the screen or in a column of single letters."""
    page.goto(url + path)
    assert misfits(page) == []


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_sound(url: str, page: Any, name: str) -> None:
    """It has its heading and its labels, nothing for axe to find, and it fits a phone."""
    path, heading = FORMS[name]
    page.goto(f"{url}{T}/change/{path}")
    assert page.locator("h1").inner_text() == heading
    found = Axe().run(page).response["violations"]
    assert [f"{v['id']}: {node['html'][:150]}" for v in found for node in v["nodes"]] == []
    assert misfits(page) == []


def test_cells_have_the_headings_of_their_columns(url: str, page: Any) -> None:
    """On a phone the heading stands beside each cell, so it must be that of its column."""
    for path in PAGES:
        page.goto(url + path)
        tables = "[...document.querySelectorAll('table')].map((t) => getComputedStyle(t).display)"
        assert set(page.evaluate(tables)) <= {"table"}
        wrong = page.evaluate(
            """() => [...document.querySelectorAll("table")].flatMap((table) => {
              const heads = [...table.querySelectorAll("th")].map((th) => th.textContent.trim());
              return [...table.querySelectorAll("tbody tr")].flatMap((row) =>
                [...row.cells].map((cell, n) => [cell.dataset.label, heads[n]])
                  .filter(([label, head]) => label !== head));
            })"""
        )
        assert wrong == []


WORDS_IN_PIECES = """() => [...document.querySelectorAll("td")].flatMap((cell) => {
  const words = cell.innerText.split(/\\s+/).filter((word) => /^[A-Za-z]{3,15}$/.test(word));
  const longest = Math.max(0, ...words.map((word) => word.length));
  return cell.clientWidth && cell.clientWidth < longest * 5 ? [cell.innerText] : [];
})"""
"""Cells that are thinner than their longest word, at 5 pixels for a letter."""


@pytest.mark.parametrize("path", PAGES[:7])
def test_pages_print(url: str, page: Any, path: str, tmp_path: Path) -> None:
    """Navigation, forms and buttons are left out; tables fit an A4 page, in black on white."""
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 690, "height": 1000})  # A4 without its margins
    page.goto(url + path)
    for hidden in (".top", "footer", ".filters", ".heading .button", "td.select"):
        assert not any(each.is_visible() for each in page.locator(hidden).all())
    assert page.evaluate("document.documentElement.scrollWidth") <= 690
    assert page.evaluate(WORDS_IN_PIECES) == []
    body = "getComputedStyle(document.body)"
    assert page.evaluate(f"{body}.backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(f"{body}.color") == "rgb(0, 0, 0)"
    assert page.locator("h1").is_visible()
    printed = page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert printed.startswith(b"%PDF")


def test_a_list_prints_as_a_whole(url: str, page: Any) -> None:
    """The link shows up to 999 rows on one page, for paper."""
    page.goto(f"{url}{T}/groups")
    total = int(page.locator(".pager span").first.inner_text().split()[0])
    page.goto(f"{url}{T}/users")
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("link", name="999 on one page, to print").click()
    page.locator("tbody tr").nth(998).wait_for()
    assert page.locator("tbody tr").count() == 999
    page.goto(f"{url}{T}/groups?$top=999")
    assert page.locator("tbody tr").count() == total
