"""A browser's session: its principal, the pages it gets, and lists as tables.

Sessions are the console's own, not Starlette's SessionMiddleware: that one keeps the session in a
signed cookie, which cannot be revoked. Here, logging out and removing a token both end a session on
the server, and the CSRF token stays there.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from streams.console.api.dependencies import SESSION_COOKIE, CurrentService
from streams.console.api.models import PathId
from streams.console.pages import formatting
from streams.console.pages.product_names import ProductNames
from streams.console.read_model import queries, tenants
from streams.console.read_model.pagination import MOST, Listing, count, page
from streams.console.security.auth import Principal, Session
from streams.console.service import Service
from streams.runtime.errors import SenderError

ROWS = 50


class LoginNeededError(SenderError):
    """Raised for a page that needs a login."""


class BrowserSession:
    """The session of the browser that sent a request, and the pages for it."""

    def __init__(self, request: Request, service: Service, cookie: str, fresh: bool) -> None:
        found = service.authenticator.session(cookie)
        assert found is not None
        self.session: Session = found[0]
        self.principal: Principal = found[1]
        self.request, self.service = request, service
        self.cookie = cookie if fresh else None
        self._key = cookie

    @property
    def db(self) -> queries.Connection:
        """The calling thread's connection to the read model."""
        return self.service.store.read_connection()

    def tenants(self, most: int, after: str = "") -> list[str]:
        """Returns the tenants that the principal may read, in their order, after an id."""
        return tenants.tenants(self.db, self.principal.tenants, most, after)

    def renew(self) -> bool:
        """Takes what the token may do now; returns False if the session has ended."""
        found = self.service.authenticator.session(self._key)
        if found is not None:
            self.session, self.principal = found
        return found is not None

    def check_csrf(self, given: str) -> None:
        """Raises HTTPException 403 unless a form carries this session's CSRF token."""
        if not hmac.compare_digest(given.encode(), self.session.csrf.encode()):
            message = "The form has expired or was not sent from this page; reload it."
            raise HTTPException(403, message)

    def require_tenant(self, tenant: str) -> None:
        """Raises HTTPException if there is no such tenant for this current_session."""
        if not self.principal.can_read(tenant) or not tenants.is_tenant(self.db, tenant):
            raise HTTPException(404, f"There is no tenant {tenant!r}.")

    def page(
        self, template: str, tenant: str | None = None, status: int = 200, **more: Any
    ) -> Response:
        """Returns a page as the response."""
        html = self.render(template, tenant, **more)
        return self.keep(HTMLResponse(html, status))

    def render(self, template: str, tenant: str | None = None, **more: Any) -> str:
        """Returns the HTML of a template, with what every page shows."""
        product_name = ProductNames(self.db)
        return formatting.TEMPLATES.get_template(template).render(
            tenant=tenant,
            product_name=product_name,
            sentence=product_name.sentence,
            has_more_tenants=len(self.tenants(2)) > 1,
            principal=self.principal,
            operator=tenant is not None and self.principal.can_operate(tenant),
            csrf=self.session.csrf,
            open_access=self.service.authenticator.open,
            health=self.service.health(),
            path=self.request.url.path,
            **more,
        )

    def keep(self, response: Response) -> Response:
        """Adds the cookie of a new session to the response."""
        if self.cookie is not None:
            set_cookie(self.request, response, self.cookie)
        return response


def set_cookie(request: Request, response: Response, cookie: str) -> None:
    """Sets the session cookie: HttpOnly, SameSite=Lax, and Secure under HTTPS."""
    secure = request.app.state.tls or request.url.scheme == "https"
    response.set_cookie(
        SESSION_COOKIE, cookie, httponly=True, samesite="lax", secure=secure, path="/"
    )


def current_session(request: Request, service: CurrentService) -> BrowserSession:
    """Returns the session of a request; a new one where no token is needed.

    Raises: LoginNeededError.
    """
    cookie, fresh = request.cookies.get(SESSION_COOKIE), False
    if service.authenticator.session(cookie) is None:
        cookie, fresh = service.authenticator.log_in() if service.authenticator.open else None, True
    if cookie is None:
        raise LoginNeededError
    return BrowserSession(request, service, cookie, fresh)


CurrentSession = Annotated[BrowserSession, Depends(current_session)]


def _tenant(tenant: PathId, current: CurrentSession) -> str:
    current.require_tenant(tenant)
    return tenant


Tenant = Annotated[str, Depends(_tenant)]
Csrf = Annotated[str, Form(max_length=200)]


# --- lists ---------------------------------------------------------------------------------------


class FormValues(dict[str, str]):
    """The filters that are set; any other one reads as empty."""

    def __missing__(self, _name: str) -> str:
        return ""


def table(
    current: BrowserSession,
    listing: Listing,
    fixed: tuple[Any, ...],
    preset: dict[str, str] | None = None,
    order: str | None = None,
) -> dict[str, Any]:
    """Returns a page of a list by the request's own parameters, and the links around it."""
    asked = current.request.query_params
    given = FormValues(
        (n, asked[n].strip()[:200]) for n in listing.filters if asked.get(n, "").strip()
    )
    cursor = asked.get("$skiptoken")
    chosen = asked.get("$orderby")
    order = chosen or order
    filters = {**given, **(preset or {})}
    rows = asked.get("$top", "")
    top = int(rows) if rows.isascii() and rows.isdigit() and 0 < int(rows[:4]) <= MOST else ROWS
    found = page(current.db, listing, fixed, filters, top, cursor, order)
    kept = {**given, **({"$orderby": chosen} if chosen else {})}
    if top != ROWS:
        kept["$top"] = str(top)
    base = current.request.url.path

    def link(**more: str) -> str:
        query = urlencode(
            {**kept, **{k.replace("_", "$", 1): v for k, v in more.items()}}, safe="$"
        )
        return f"{base}?{query}" if query else base

    return {
        "rows": found.rows,
        "given": given,
        "total": count(current.db, listing, fixed, filters),
        "first": link() if cursor else None,
        "next": link(_skiptoken=found.next) if found.next else None,
        "order": order or "",
        "whole": link(_top=str(MOST)) if (found.next or cursor) and top != MOST else None,
        "csv": _csv(base, {n: value for n, value in kept.items() if n != "$top"}),
        "licences_csv": _licences_csv(base, given) if listing is queries.USERS else None,
    }


def _csv(base: str, kept: dict[str, str]) -> str:
    """Returns the link to the same list as a CSV file, from the API."""
    path = base.replace("/t/", "/v1/tenants/", 1).replace("/products", "/subscribedSkus", 1)
    return f"{path}?{urlencode({**kept, 'format': 'csv'}, safe='$')}"


def _licences_csv(base: str, given: dict[str, str]) -> str:
    """Returns the link to the licences of the same users: a row for each user and product."""
    path = base.replace("/t/", "/v1/tenants/", 1).removesuffix("/users") + "/licences"
    return f"{path}?{urlencode(given)}" if given else path
