"""Every record of the contract as a JSON Schema (2020-12).

The schema files, AsyncAPI (asyncapi.py) and the reference are generated from ``MESSAGES``; the
input events come from ``event_types.py``. ``make docs`` writes them to docs/reference; tests
compare them with the decoder and with the records that the engine publishes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from engine.domain.vocabulary import (
    ACTIVE_WITH_ERROR,
    ASSIGNMENT_ERRORS,
    CAPABILITY_STATUSES,
    GROUP_PROCESSING_STATES,
    LICENSE_STATES,
    NONE,
    RULE_PROCESSING_STATES,
)
from engine.domain.vocabulary import ERROR as LICENSE_ERROR
from streams.contract.event_types import EVENT_TYPES, EventType
from streams.contract.field_checks import (
    DIRECT_ID,
    MAX_ADDRESSES,
    MAX_ATTRIBUTES,
    MAX_TEXT_CHARACTERS,
    MAX_UNITS,
    NO_LOCATIONS,
)

VERSION = 1
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One type of record. ``name``: the event's type, or the topic of an output."""

    name: str
    topic: str
    key: str
    summary: str
    schema: Schema

    @property
    def title(self) -> str:
        """The name of the schema, of which generators of models make that of a class."""
        stem = self.file.removesuffix(f".v{VERSION}.schema.json")
        return "".join(part.capitalize() for part in re.split(r"[.-]", stem))

    @property
    def file(self) -> str:
        """The file name; a user's and a group's ``licenses.changed`` differ in it."""
        kind = {"user-changes": "user", "group-changes": "group"}.get(self.topic)
        name = f"{kind}.{self.name}" if kind and not self.name.startswith(kind) else self.name
        return f"{name}.v{VERSION}.schema.json"


def _text(description: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **more}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _object(required: str, /, **members: Any) -> Schema:
    return {"type": "object", "required": required.split(), "properties": members}


def _named(title: str, schema: Schema) -> Schema:
    """Returns a schema with a title; without one, generators of models number its class."""
    return {"title": title, **schema}


def _or_null(schema: Schema) -> Schema:
    if isinstance(schema.get("type"), str):
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


ID = _text(pattern="^[A-Za-z0-9_.:@-]{1,128}$") | {"not": {"enum": [".", ".."]}}
GROUP_ID = ID | {"not": {"enum": [".", "..", DIRECT_ID]}}
NAME = _text(minLength=1, maxLength=MAX_TEXT_CHARACTERS)
TEXT = _or_null(_text(maxLength=MAX_TEXT_CHARACTERS))
LOCATION = _text("ISO 3166-1 alpha-2", pattern="^[A-Z]{2}$")
GIVEN_LOCATION = LOCATION | {"not": {"enum": list(NO_LOCATIONS)}}
UNITS = {"type": "integer", "minimum": 0, "maximum": MAX_UNITS}
COUNT = {"type": "integer", "minimum": 0}
TIME = _text("RFC 3339, UTC", format="date-time")
PREPAID = _named(
    "PrepaidUnits",
    _object("", enabled=UNITS, warning=UNITS, suspended=UNITS, lockedOut=UNITS),
)
LICENSE = _named("License", _object("skuId", skuId=ID, disabledPlans=_list(ID, default=[])))
ASSIGNED_LICENSE = LICENSE | {
    "title": "AssignedLicense",
    "required": ["skuId", "disabledPlans"],
}
ADDRESSES = _list(NAME, maxItems=MAX_ADDRESSES)
PLAN = _named(
    "ServicePlan",
    _object(
        "servicePlanId",
        servicePlanId=ID,
        servicePlanName=NAME,
        appliesTo=_named("AppliesTo", {"enum": ["User", "Company"], "default": "User"}),
        exclusiveSets=_list(NAME, default=[]),
        requires=_list(_list(ID, minItems=1), default=[], description="each list: one of them"),
        prohibitedLocations=_list(GIVEN_LOCATION, default=[]),
        mailEnabled={"type": "boolean", "default": False},
    ),
)
ERRORS = list(ASSIGNMENT_ERRORS)
ERROR = _named("AssignmentError", {"enum": ERRORS})
PROBLEM = _named("ProblemState", {"enum": [LICENSE_ERROR, ACTIVE_WITH_ERROR]})
DETAILS = _named("Details", {"type": "object"})


RULE_STATE = _named("RuleProcessingState", {"enum": list(RULE_PROCESSING_STATES)})
_ATTRIBUTE = {"type": ["string", "boolean", "number"], "maxLength": MAX_TEXT_CHARACTERS}
ATTRIBUTES: Schema = {
    "title": "Attributes",
    "type": ["object", "null"],
    "description": "what membership rules read (R27); null clears one, or all",
    "maxProperties": MAX_ATTRIBUTES,
    "propertyNames": {"type": "string", "pattern": "^[A-Za-z0-9_.:@-]{1,128}$"},
    "additionalProperties": {
        "anyOf": [_or_null(_ATTRIBUTE), _list(_ATTRIBUTE, maxItems=MAX_ADDRESSES)]
    },
}

_MEMBERS: dict[str, Schema] = {
    "tenant": ID,
    "user": ID,
    "group": GROUP_ID,
    "skuId": ID,
    "userPrincipalName": TEXT,
    "displayName": TEXT,
    "usageLocation": _or_null(GIVEN_LOCATION),
    "mail": TEXT,
    "proxyAddresses": _or_null(ADDRESSES),
    "mailNickname": TEXT,
    "initialDomain": TEXT,
    "memberType": NAME | {"default": "user"},
    "addLicenses": _list(LICENSE, default=[]),
    "removeLicenses": _list(ID, default=[]),
    "licenses": _list(LICENSE),
    "restorable": {"type": "boolean", "default": False},
    "attributes": ATTRIBUTES,
    "membershipRule": {"type": ["string", "null"], "description": "in the language of R27"},
    "membershipRuleProcessingState": _or_null(RULE_STATE),
    "memberships": _list(
        _named("Membership", _object("group", group=GROUP_ID, since=_or_null(TIME))),
        default=[],
        description="all of them",
    ),
    "licenseAssignmentStates": _list(
        _named(
            "HeldLicense",
            _object(
                "state",
                skuId=ID | {"description": "required where there is a licence in the state"},
                assignedByGroup=_or_null(GROUP_ID)
                | {"description": "null or absent: a direct licence"},
                disabledPlans=_list(ID, default=[]),
                state=NAME
                | {"description": "Active, ActiveWithError and Disabled have a licence in them"},
                since=_or_null(TIME),
            ),
        ),
        default=[],
        description="the licences held; other states are ignored",
    ),
    "skuPartNumber": NAME,
    "servicePlans": _list(PLAN),
    "prepaidUnits": PREPAID,
    "policies": {
        "title": "Policies",
        "type": "object",
        "properties": {
            "seatRetry": _named("SeatRetry", {"enum": ["automatic", "manual"]}),
            "onGroupDeletion": _named("OnGroupDeletion", {"enum": ["convert", "error"]}),
        },
    },
}
# Members that another type has, too, but with another schema.
_OWN_MEMBERS: dict[str, dict[str, Schema]] = {"product.defined": {"displayName": NAME}}


def _input(event_type: EventType) -> Message:
    members = _MEMBERS | _OWN_MEMBERS.get(event_type.name, {})
    schema = _object(
        " ".join(("type", "id", *event_type.key, *event_type.required)),
        type={"const": event_type.name},
        id=ID | {"description": "unique per source; echoed as causedBy"},
        time=_or_null(_text("RFC 3339; informational")),
        **{name: members[name] for name in (*event_type.key, *event_type.members)},
    )
    key = "/".join(event_type.key)
    return Message(event_type.name, event_type.topic, key, event_type.summary, schema)


EVENTS = tuple(_input(event_type) for event_type in EVENT_TYPES)

STATE = _named(
    "LicenseAssignmentState",
    _object(
        "skuId assignedByGroup disabledPlans state error since",
        skuId=ID,
        assignedByGroup=_or_null(GROUP_ID) | {"description": "null: a direct licence"},
        disabledPlans=_list(ID),
        state=_named("LicenseState", {"enum": list(LICENSE_STATES)}),
        error=_named("ErrorOrNone", {"enum": [NONE, *ERRORS]}),
        message=_text("one sentence for an administrator; only with an error"),
        since=TIME,
    ),
)


def _output(topic: str, key: str, summary: str, schema: Schema) -> Message:
    return Message(topic, topic, key, summary, schema)


RECORDS = (
    _output(
        "user-licenses",
        "tenant/user",
        "A user's licences, with errors; a tombstone after user.deleted.",
        _object(
            "tenant user usageLocation mail proxyAddresses"
            " assignedLicenses licenseAssignmentStates revision updatedAt causedBy",
            tenant=ID,
            user=ID,
            usageLocation=_or_null(LOCATION),
            effectiveUsageLocation=_or_null(LOCATION)
            | {"description": "the user's own, else the tenant's; missing in records of 0.1"},
            mail=TEXT,
            mailNickname=TEXT,
            proxyAddresses=_list(_text()),
            assignedLicenses=_list(ASSIGNED_LICENSE),
            licenseAssignmentStates=_list(STATE),
            revision={"type": "integer", "minimum": 1},
            updatedAt=TIME,
            causedBy=_text(),
        ),
    ),
    _output(
        "errors",
        "tenant/user/group/skuId",
        "One open error; a tombstone when it is gone. Partitioned by tenant/user.",
        _object(
            "tenant user group skuId state error message details since causedBy revision",
            tenant=ID,
            user=ID,
            group=ID | {"description": "direct for a direct licence"},
            skuId=ID,
            state=PROBLEM,
            error=ERROR,
            message=_text(),
            details=DETAILS,
            since=TIME,
            causedBy=_text(),
            revision={"type": "integer", "minimum": 1},
        ),
    ),
    _output(
        "group-status",
        "tenant/group",
        "Progress and figures of a group.",
        _object(
            "tenant group displayName deleted licenseProcessingState assignedLicenses deferred"
            " members membersLicensed membersWithErrors errors updatedAt",
            tenant=ID,
            group=ID,
            displayName=TEXT,
            deleted={"type": "boolean"},
            licenseProcessingState=_named(
                "GroupProcessingState", {"enum": list(GROUP_PROCESSING_STATES)}
            ),
            assignedLicenses=_list(ASSIGNED_LICENSE),
            deferred=_list(ID),
            members=COUNT,
            membersLicensed=COUNT,
            membersWithErrors=COUNT,
            errors={
                "title": "UsersByError",
                "type": "object",
                "propertyNames": ERROR,
                "additionalProperties": {"type": "integer", "minimum": 1},
            },
            membershipRule=_text("of a group that has one"),
            membershipRuleProcessingState=RULE_STATE,
            updatedAt=TIME,
        ),
    ),
    _output(
        "product-seats",
        "tenant/skuId",
        "Seats of a product.",
        _object(
            "tenant skuId skuPartNumber prepaidUnits consumedUnits availableUnits waitingUsers"
            " updatedAt",
            tenant=ID,
            skuId=ID,
            skuPartNumber=_or_null(NAME),
            prepaidUnits=PREPAID
            | {"title": "AllPrepaidUnits", "required": list(PREPAID["properties"])},
            consumedUnits=COUNT,
            availableUnits={"type": "integer", "description": "negative after shrinking (R15)"},
            waitingUsers=COUNT,
            capabilityStatus={
                "title": "CapabilityStatus",
                "enum": list(CAPABILITY_STATUSES),
                "description": "missing in records of release 0.1",
            },
            updatedAt=TIME,
        ),
    ),
    _output(
        "results",
        "the key of the change",
        "The outcome of a direct change, a change of a group's licences or rule, or a reprocess.",
        _object(
            "causedBy tenant status",
            causedBy=_text(),
            tenant=ID,
            user=ID,
            group=ID,
            status=_named("ResultStatus", {"enum": ["applied", "rejected", "deferred"]}),
            error=_text("with rejected"),
            skuId=_or_null(ID),
            message=_text(),
            details=DETAILS,
        )
        | {"oneOf": [{"required": ["user"]}, {"required": ["group"]}]},
    ),
    _output(
        "audit",
        "tenant/user, tenant/group or tenant/skuId",
        "What was done, in the terms of Entra's audit log.",
        _object(
            "time tenant activity category target initiatedBy result resultReason"
            " modifiedProperties causedBy",
            time=TIME,
            tenant=ID,
            activity=_text(),
            category=_named(
                "AuditCategory",
                {"enum": ["UserManagement", "GroupManagement", "DirectoryManagement"]},
            ),
            target=_named(
                "AuditTarget",
                _object(
                    "type id",
                    type=_named("TargetType", {"enum": ["User", "Group", "Subscription"]}),
                    id=ID,
                ),
            ),
            initiatedBy=_text(),
            result=_named("AuditResult", {"enum": ["success", "failure"]}),
            resultReason=_text(),
            modifiedProperties=_list(
                _named(
                    "ModifiedProperty",
                    _object("name oldValue newValue", name=_text(), oldValue={}, newValue={}),
                )
            ),
            causedBy=_text(),
        ),
    ),
)
MESSAGES = (*EVENTS, *RECORDS)


def schema_of(message: Message) -> Schema:
    """Returns the JSON Schema of a message as a document of its own."""
    return {
        "$schema": DIALECT,
        "$id": f"urn:seatflow:{message.file.removesuffix('.schema.json')}",
        "title": message.title,
        "description": message.summary,
        **message.schema,
    }


def schemas() -> dict[str, Schema]:
    """Returns all schemas by file name."""
    return {message.file: schema_of(message) for message in MESSAGES}
