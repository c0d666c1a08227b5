"""Bodies of the API, for OpenAPI; the contract's own decoder is what checks them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, Field

from streams.console.whatif.process import MOST_EVENTS

ID = r"^[A-Za-z0-9_.:@-]{1,128}$"
Id = Annotated[str, Field(pattern=ID)]
PathId = Annotated[str, Path(pattern=ID)]
MOST_ITEMS = 1_000

Top = Annotated[int, Query(alias="$top", ge=1, le=999, description="rows of a page")]
SkipToken = Annotated[
    str | None, Query(alias="$skiptoken", max_length=2_000, description="from @odata.nextLink")
]
OrderBy = Annotated[
    str | None, Query(alias="$orderby", max_length=60, description="name, then asc or desc")
]


class AssignedLicense(BaseModel):
    skuId: Id  # noqa: N815
    disabledPlans: list[Id] = Field([], max_length=MOST_ITEMS)  # noqa: N815


class AssignLicense(BaseModel):
    """Graph's body of assignLicense."""

    addLicenses: list[AssignedLicense] = Field([], max_length=MOST_ITEMS)  # noqa: N815
    removeLicenses: list[Id] = Field([], max_length=MOST_ITEMS)  # noqa: N815


Text = Annotated[str, Field(max_length=1024)]


class UserBody(BaseModel):
    """A patch: what is not given stays, null clears it."""

    userPrincipalName: Text | None = None  # noqa: N815
    displayName: Text | None = None  # noqa: N815
    usageLocation: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None  # noqa: N815
    mail: Text | None = None
    proxyAddresses: list[Text] | None = Field(None, max_length=500)  # noqa: N815


class GroupBody(BaseModel):
    displayName: Text | None = None  # noqa: N815


class PrepaidUnits(BaseModel):
    enabled: int = Field(0, ge=0, le=1 << 53)
    warning: int = Field(0, ge=0, le=1 << 53)
    suspended: int = Field(0, ge=0, le=1 << 53)
    lockedOut: int = Field(0, ge=0, le=1 << 53)  # noqa: N815


class SubscriptionBody(BaseModel):
    prepaidUnits: PrepaidUnits  # noqa: N815


class WhatIfBody(BaseModel):
    """Events of the contract in their order; `id`, `time` and `tenant` may be left out."""

    events: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_EVENTS)


class ErrorText(BaseModel):
    code: str
    message: str
    details: list[Any] = []


class ErrorBody(BaseModel):
    """Graph's form of an error."""

    error: ErrorText
