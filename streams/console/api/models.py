"""Bodies of the API. Ids are the contract's; the workers' decoder validates the resulting event."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, Field

from streams.console.whatif.process import MOST_EVENTS
from streams.contract import schemas
from streams.contract.field_checks import MAX_UNITS

ID: str = schemas.ID["pattern"]
Id = Annotated[str, Field(pattern=ID)]
PathId = Annotated[str, Path(pattern=ID)]
MOST_ITEMS = 1_000


class AssignedLicense(BaseModel):
    """A product and the plans of it that are off."""

    skuId: Id  # noqa: N815
    disabledPlans: list[Id] = Field([], max_length=MOST_ITEMS)  # noqa: N815


class AssignLicense(BaseModel):
    """Graph's body of assignLicense."""

    addLicenses: list[AssignedLicense] = Field([], max_length=MOST_ITEMS)  # noqa: N815
    removeLicenses: list[Id] = Field([], max_length=MOST_ITEMS)  # noqa: N815


Text = Annotated[str, Field(max_length=1024)]


class UserBody(BaseModel):
    """A patch of a user: absent members stay, null clears them."""

    userPrincipalName: Text | None = None  # noqa: N815
    displayName: Text | None = None  # noqa: N815
    usageLocation: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None  # noqa: N815
    mail: Text | None = None
    proxyAddresses: list[Text] | None = Field(None, max_length=500)  # noqa: N815


class GroupBody(BaseModel):
    """A patch of a group."""

    displayName: Text | None = None  # noqa: N815


class PrepaidUnits(BaseModel):
    """Units bought, by their status."""

    enabled: int = Field(0, ge=0, le=MAX_UNITS)
    warning: int = Field(0, ge=0, le=MAX_UNITS)
    suspended: int = Field(0, ge=0, le=MAX_UNITS)
    lockedOut: int = Field(0, ge=0, le=MAX_UNITS)  # noqa: N815


class SubscriptionBody(BaseModel):
    """A tenant's subscription of a product."""

    prepaidUnits: PrepaidUnits  # noqa: N815


class WhatIfBody(BaseModel):
    """Events of the contract in their order; `id`, `time` and `tenant` may be left out."""

    events: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_EVENTS)


class ErrorText(BaseModel):
    """Graph's code and message of an error, with its details."""

    code: str
    message: str
    details: list[Any] = []


class ErrorBody(BaseModel):
    """Graph's form of an error."""

    error: ErrorText
