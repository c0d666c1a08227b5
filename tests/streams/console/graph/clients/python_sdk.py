"""A program with msgraph-sdk, Microsoft's client for Python: prints what it got, as JSON.

Arguments: the address up to the version, a token, and the skuId of a product with free units.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from uuid import UUID

from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.request_information import RequestInformation
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.groups.groups_request_builder import GroupsRequestBuilder
from msgraph.generated.groups.item.assign_license.assign_license_post_request_body import (
    AssignLicensePostRequestBody as GroupLicenses,
)
from msgraph.generated.models.assigned_license import AssignedLicense
from msgraph.generated.models.group import Group
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.models.password_profile import PasswordProfile
from msgraph.generated.models.reference_create import ReferenceCreate
from msgraph.generated.models.user import User
from msgraph.generated.users.item.assign_license.assign_license_post_request_body import (
    AssignLicensePostRequestBody as UserLicenses,
)
from msgraph.generated.users.users_request_builder import UsersRequestBuilder
from msgraph_core.requests.batch_request_content import BatchRequestContent
from msgraph_core.requests.batch_request_item import BatchRequestItem
from msgraph_core.tasks.page_iterator import PageIterator

Users = UsersRequestBuilder.UsersRequestBuilderGetQueryParameters
Groups = GroupsRequestBuilder.GroupsRequestBuilderGetQueryParameters


class Bearer:
    """Adds the console's token, where Entra's would be."""

    def __init__(self, token: str) -> None:
        self.token = token

    async def authenticate_request(
        self, request: RequestInformation, additional_authentication_context: Any = None
    ) -> None:
        """Adds the header."""
        request.headers.add("Authorization", f"Bearer {self.token}")


def asked(parameters: Any, advanced: bool = False) -> Any:
    """Query parameters, for an advanced query with the header that Graph wants of one."""
    config = RequestConfiguration(query_parameters=parameters)
    if advanced:
        config.headers.add("ConsistencyLevel", "eventual")
    return config


async def reads(client: GraphServiceClient, sku: str) -> dict[str, Any]:
    """Lists, single objects, counts."""
    found: dict[str, Any] = {}
    page = await client.users.get(asked(Users(top=3, orderby=["displayName"], select=["id"])))
    ids: list[str] = []

    def take(user: Any) -> bool:
        ids.append(user.id)
        return True

    await PageIterator(page, client.request_adapter).iterate(take)
    found["all"] = ids
    named = Users(filter="userPrincipalName eq 'ANN@contoso.example'")
    (ann,) = (await client.users.get(asked(named))).value
    found["ann"] = [ann.id, ann.usage_location, [str(x.sku_id) for x in ann.assigned_licenses]]
    states = ann.license_assignment_states
    found["states"] = [[s.state, s.error, s.assigned_by_group, str(s.sku_id)] for s in states]
    holders = Users(filter=f"assignedLicenses/any(x:x/skuId eq {sku})", select=["id"])
    found["holders"] = [u.id for u in (await client.users.get(asked(holders))).value]
    without = Users(filter="assignedLicenses/$count eq 0", count=True, select=["id"])
    page = await client.users.get(asked(without, advanced=True))
    found["without"] = [page.odata_count, [u.id for u in page.value]]
    searched = Users(search='"displayName:smi"', select=["displayName"])
    page = await client.users.get(asked(searched, advanced=True))
    found["searched"] = [u.display_name for u in page.value]
    expanded = Users(expand=["memberOf($select=id)"], filter="id eq 'ann'")
    (ann,) = (await client.users.get(asked(expanded))).value
    found["expanded"] = [g.id for g in ann.member_of]
    user = client.users.by_user_id("ann@contoso.example")
    details = (await user.license_details.get()).value
    found["details"] = [[str(d.sku_id), d.sku_part_number, len(d.service_plans)] for d in details]
    found["member_of"] = [type(g).__name__ for g in (await user.member_of.get()).value]
    found["groups"] = [g.id for g in (await user.member_of.graph_group.get()).value]
    count = RequestConfiguration()
    count.headers.add("ConsistencyLevel", "eventual")
    found["count"] = await user.transitive_member_of.count.get(count)
    skus = (await client.subscribed_skus.get()).value
    found["skus"] = [[s.sku_part_number, s.consumed_units, s.prepaid_units.enabled] for s in skus]
    found["sku"] = (
        await client.subscribed_skus.by_subscribed_sku_id(skus[0].id).get()
    ).sku_part_number
    in_error = Groups(filter="hasMembersWithLicenseErrors eq true")
    (group,) = (await client.groups.get(asked(in_error))).value
    found["in_error"] = [group.id, group.license_processing_state.state]
    group_of = client.groups.by_group_id(group.id)
    members = (await group_of.members_with_license_errors.get()).value
    found["errors"] = [[type(m).__name__, m.id] for m in members]
    found["users"] = [u.id for u in (await group_of.members.graph_user.get()).value]
    found["members"] = await group_of.members.count.get(count)
    found["tenant"] = [o.id for o in (await client.organization.get()).value]
    return found


async def changes(client: GraphServiceClient, sku: str) -> dict[str, Any]:
    """The life of a user and of a group."""
    found: dict[str, Any] = {}
    new = User(account_enabled=True, display_name="Dee", mail_nickname="dee", usage_location="DE",
               user_principal_name="dee@contoso.example",
               password_profile=PasswordProfile(password="of Dee"))  # fmt: skip
    dee = await client.users.post(new)
    assert dee is not None
    user = client.users.by_user_id(dee.id or "")
    licence = AssignedLicense(sku_id=UUID(sku), disabled_plans=[])
    body = UserLicenses(add_licenses=[licence], remove_licenses=[])
    given = await user.assign_license.post(body)
    found["given"] = [str(x.sku_id) for x in given.assigned_licenses]
    found["reprocessed"] = (await user.reprocess_license_assignment.post()).display_name
    given = await user.assign_license.post(
        UserLicenses(add_licenses=[], remove_licenses=[UUID(sku)])
    )
    found["taken"] = given.assigned_licenses
    await user.patch(User(usage_location="FR"))
    found["moved"] = (await user.get()).usage_location
    new_group = Group(display_name="New", mail_enabled=False, mail_nickname="new",
                      security_enabled=True)  # fmt: skip
    made = await client.groups.post(new_group)
    assert made is not None
    group = client.groups.by_group_id(made.id or "")
    address = f"https://graph.microsoft.com/v1.0/directoryObjects/{dee.id}"
    await group.members.ref.post(ReferenceCreate(odata_id=address))
    await group.assign_license.post(GroupLicenses(add_licenses=[licence], remove_licenses=[]))
    found["inherited"] = [x.assigned_by_group == made.id
                          for x in (await user.get()).license_assignment_states]  # fmt: skip
    await group.assign_license.post(GroupLicenses(add_licenses=[], remove_licenses=[UUID(sku)]))
    await group.members.by_directory_object_id(dee.id or "").ref.delete()
    await group.patch(Group(display_name="Renamed"))
    found["renamed"] = (await group.get()).display_name
    await group.delete()
    await user.delete()
    return found


async def failure(request: Any) -> list[Any]:
    """The parts of an error."""
    try:
        await request
    except ODataError as error:
        inner = error.error.inner_error
        return [error.response_status_code, error.error.code, bool(error.error.message),
                bool(inner.request_id)]  # fmt: skip
    return []


async def others(client: GraphServiceClient) -> dict[str, Any]:
    """Errors, delta queries, a batch."""
    found: dict[str, Any] = {}
    found["nobody"] = await failure(client.users.by_user_id("nobody").get())
    found["unknown"] = await failure(client.users.get(asked(Users(filter="department eq 'a'"))))
    page = await client.users.delta.get()
    first = len(page.value)
    while page.odata_next_link:
        page = await client.users.delta.with_url(page.odata_next_link).get()
        first += len(page.value)
    await client.users.by_user_id("bob").patch(User(display_name="Bob II"))
    page = await client.users.delta.with_url(page.odata_delta_link).get()
    found["delta"] = [first, [u.id for u in page.value], [u.display_name for u in page.value]]
    batch = BatchRequestContent()
    for id in ("ann", "nobody"):
        info = client.users.by_user_id(id).to_get_request_information()
        batch.add_request(id, BatchRequestItem(request_information=info, id=id))
    answer = await client.batch.post(batch_request_content=batch)
    found["batch"] = {id: part.status for id, part in answer.responses.items()}
    return found


async def main(address: str, token: str, sku: str) -> None:
    """Prints all of it."""
    adapter = GraphRequestAdapter(Bearer(token))
    adapter.base_url = address
    client = GraphServiceClient(request_adapter=adapter)
    found = {**await reads(client, sku), **await changes(client, sku), **await others(client)}
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
