"""Query parameters of the lists, as FastAPI's parameter models: the filters of each listing.

The names are those of ``read_model.queries``, where the conditions are; a test compares the two.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Text = Annotated[str | None, Field(None, max_length=200)]


class ListParameters(BaseModel):
    """The parameters of every list: page, order and format."""

    top: int = Field(100, alias="$top", ge=1, le=999, description="Rows of a page.")
    skiptoken: str | None = Field(
        None, alias="$skiptoken", max_length=2_000, description="From `@odata.nextLink`."
    )
    orderby: str | None = Field(
        None, alias="$orderby", max_length=60, description="A name, then `asc` or `desc`."
    )
    format: Literal["json", "csv"] | None = Field(
        None, description="`csv`: the whole list as a file."
    )

    def filters(self) -> dict[str, str]:
        """Returns the filters that are set, by their names in the URL."""
        general = ListParameters.model_fields.keys()
        return self.model_dump(by_alias=True, exclude=set(general), exclude_defaults=True)


class Tenants(BaseModel):
    """Of tenants."""

    top: int = Field(999, alias="$top", ge=1, le=999, description="Tenants of a page.")
    skiptoken: str | None = Field(
        None, alias="$skiptoken", max_length=128, description="From `@odata.nextLink`."
    )


class Skus(ListParameters):
    """Of products."""

    search: Text
    waiting: Text


class Users(ListParameters):
    """Of users."""

    search: Text
    skuId: Text  # noqa: N815
    group: Text
    error: Text
    state: Text
    hasLicenseErrors: Text  # noqa: N815


class LicenceReport(BaseModel):
    """Of the list of licences: the filters of the list of users."""

    search: Text
    skuId: Text  # noqa: N815
    group: Text
    error: Text
    state: Text
    hasLicenseErrors: Text  # noqa: N815

    def filters(self) -> dict[str, str]:
        """Returns the filters that are set, by their names in the URL."""
        return self.model_dump(exclude_defaults=True)


class Groups(ListParameters):
    """Of groups."""

    search: Text
    hasMembersWithLicenseErrors: Text  # noqa: N815
    deleted: Text
    skuId: Text  # noqa: N815
    state: Text


class Members(ListParameters):
    """Of a group's direct members."""

    search: Text
    error: Text
    state: Text


class MembersInError(Members):
    """Of a group's members with errors from it."""


class Errors(ListParameters):
    """Of open errors."""

    error: Text
    skuId: Text  # noqa: N815
    group: Text
    user: Text
    state: Text
    search: Text


class Audit(ListParameters):
    """Of the activity log. ``from`` is the first time, ``to`` the first one no longer shown."""

    user: Text
    group: Text
    target: Text
    activity: Text
    result: Text
    initiatedBy: Text  # noqa: N815
    causedBy: Text  # noqa: N815
    since: str | None = Field(None, alias="from", max_length=200)
    until: str | None = Field(None, alias="to", max_length=200)


class DeadLetters(ListParameters):
    """Of input that could not be read."""

    topic: Text
    code: Text
