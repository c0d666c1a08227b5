"""The input contract (section 2): a record's bytes become an engine event, or a reason why not.

``DECODERS`` has one decoder per input topic, named without its prefix. Decoding is total: any key,
value and headers give an event or a ``Rejected``. It is on every worker's hot path, so what orjson
gives is checked by hand with no model in between, and ids that recur (tenants, groups, products,
plans) come from one bounded table, so that equal ids are one string in memory.
Of members given twice in one JSON object the last one counts, as in every common JSON reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from string import ascii_uppercase
from sys import intern
from typing import Any, Final, NoReturn, TypeVar

import orjson
from orjson import loads

from engine.domain import events as ev
from engine.domain.events import ABSENT, InputEvent, _Absent
from engine.domain.model import ServicePlan
from engine.native import short_cut
from streams.contract.rejection import ReadError, escaped, refusal, typed
from streams.contract.rejection import Rejected as Rejected

MAX_VALUE_BYTES: Final = 1 << 20
REGISTRY_PREFIX_BYTES: Final = 5
MAX_TEXT: Final = 1024
MAX_ADDRESSES: Final = 500
MAX_UNITS: Final = 1 << 53
MAX_KNOWN_IDS = 1 << 16

ID_RULE = "a string of 1 to 128 characters of A-Z a-z 0-9 . _ : @ -"
NAME_RULE = f"a string of 1 to {MAX_TEXT} characters without control characters but tabs"
NULL = "the value is null: an input topic carries events, not tombstones"
TEXT_RULE = f"null or a string of at most {MAX_TEXT} characters without control characters but tabs"


Headers = Sequence[tuple[str, bytes | None]]
Decoded = tuple[InputEvent, str] | Rejected  # with the CloudEvents source, "" for a plain event


_Body = dict[str, Any]
_Builder = Callable[[_Body, str, bytes | None], InputEvent]
_SubjectOf = Callable[[_Body, bytes | None], tuple[str, str]]
_T = TypeVar("_T")


_new: Final = tuple.__new__  # of a named tuple: half the time of its own constructor
_foreign: Final = re.compile(r"[^A-Za-z0-9_.:@-]").search
_control: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]").search  # names contain tabs
_locations: Final = {a + b: a + b for a in ascii_uppercase for b in ascii_uppercase}
_known_ids: Final[dict[str, str]] = {}
_scanner: Final = short_cut("streams.contract.scanner")


def _id(value: Any, name: str) -> str:
    if type(value) is str and 0 < len(value) <= 128 and not _foreign(value):
        return value
    raise refusal(name, value, ID_RULE)


def _shared_id(value: Any, name: str) -> str:
    """The one string that stands for an id that recurs; checked once while it is remembered."""
    try:
        return _known_ids[value]
    except (KeyError, TypeError):  # TypeError: a list or an object
        checked = _id(value, name)
    if len(_known_ids) >= MAX_KNOWN_IDS:
        _known_ids.clear()
    return _known_ids.setdefault(checked, checked)


def _text(value: Any, name: str, allowed: str = TEXT_RULE) -> str | _Absent | None:
    if type(value) is str and len(value) <= MAX_TEXT:
        # Quick, but it also refuses the joiners and spaces of real names: those go the long way.
        if value.isprintable() or not _control(value):
            return value
    elif value is None or value is ABSENT:
        return value
    raise refusal(name, value, allowed)


def _name(value: Any, name: str) -> str:
    if type(value) is str and value and _text(value, name, NAME_RULE):
        return value
    raise refusal(name, value, NAME_RULE)


def _location(value: Any, name: str, allowed: str = "two capital letters") -> str:
    try:
        return _locations[value]
    except (KeyError, TypeError):
        raise refusal(name, value, allowed) from None


def _usage_location(body: _Body) -> str | _Absent | None:
    value = body.get("usageLocation", ABSENT)
    if value is None or value is ABSENT:
        return value
    return _location(value, "usageLocation", "two capital letters, or null")


def _one_of(owner: _Body, at: str, member: str, choices: tuple[str, ...], default: _T) -> str | _T:
    value = owner.get(member, default)
    if value is default or value in choices:
        return value  # type: ignore[no-any-return]
    raise refusal(at + member, value, " or ".join(choices))


def _each(check: Callable[[Any, str], _T], value: Any, name: str) -> tuple[_T, ...]:
    """The checked items of a list in their order, each once."""
    return tuple(
        {check(item, f"{name}[{i}]"): None for i, item in enumerate(typed(list, value, name))}
    )


def _any_of(value: Any, name: str) -> tuple[str, ...]:
    if value == []:
        raise refusal(name, value, "a list of at least one id: an empty one could never be met")
    return _each(_shared_id, value, name)


def _addresses(value: Any) -> tuple[str, ...] | _Absent | None:
    """Proxy addresses in their order; one given again in other letter case is dropped."""
    if value is None or value is ABSENT:
        return value
    if type(value) is not list or len(value) > MAX_ADDRESSES:
        raise refusal(
            "proxyAddresses", value, f"a list of at most {MAX_ADDRESSES} strings, or null"
        )
    if len(value) == 1:  # by far the most common, and half the time
        return (_name(value[0], "an item of proxyAddresses"),)
    first: dict[str, str] = {}
    for item in value:
        first.setdefault(_name(item, "an item of proxyAddresses").lower(), item)
    return tuple(first.values())


def _check_key(key: bytes | None, expected: str, form: str) -> None:
    if key != expected.encode():
        found = ABSENT if key is None else key
        raise refusal("the key of the record", found, f"{form}: {expected}", "wrong_key")


def _subject(body: _Body, key: bytes | None, member: str) -> tuple[str, str]:
    """The tenant and the group or product of a body, which the key must name too."""
    tenant = _shared_id(body.get("tenant", ABSENT), "tenant")
    subject = _shared_id(body.get(member, ABSENT), member)
    _check_key(key, f"{tenant}/{subject}", f"tenant/{member}")
    return tenant, subject


class _Latest:
    """The last user who was read, as (key, tenant, user). A user's events often come together:
    checked once then. In one piece, since the console reads in several threads."""

    def __init__(self) -> None:
        self.read: tuple[bytes, str, str] | None = None


_latest: Final = _Latest()


def _user(body: _Body, key: bytes | None) -> tuple[str, str]:
    """The tenant and the user of a body, which the key must name too."""
    tenant, user = body.get("tenant", ABSENT), body.get("user", ABSENT)
    latest = _latest.read
    if latest is not None:
        known_key, known_tenant, known_user = latest
        if key == known_key and user == known_user and tenant == known_tenant:
            return known_tenant, known_user
    tenant, user = _shared_id(tenant, "tenant"), _id(user, "user")
    expected = f"{tenant}/{user}"
    _check_key(key, expected, "tenant/user")
    _latest.read = (expected.encode(), tenant, user)
    return tenant, user


def _group(body: _Body, key: bytes | None) -> tuple[str, str]:
    return _subject(body, key, "group")


def _bare(make: Callable[..., InputEvent], subject_of: _SubjectOf) -> _Builder:
    """The builder of a type that names its subject and nothing else."""
    return lambda body, event, key: make(event, *subject_of(body, key))


def _licenses(make: Callable[..., InputEvent], subject_of: _SubjectOf) -> _Builder:
    """The builder of ``licenses.changed`` of a user or of a group."""

    def build(body: _Body, event: str, key: bytes | None) -> InputEvent:
        tenant, subject = subject_of(body, key)
        added: dict[str, tuple[str, ...]] = {}
        for i, item in enumerate(typed(list, body.get("addLicenses", []), "addLicenses")):
            name = f"addLicenses[{i}]"
            sku = _shared_id(typed(dict, item, name).get("skuId", ABSENT), f"{name}.skuId")
            plans = item.get("disabledPlans", [])
            added[sku] = _each(_shared_id, plans, f"{name}.disabledPlans")
        removed = _each(_shared_id, body.get("removeLicenses", []), "removeLicenses")
        return make(event, tenant, subject, tuple(added.items()), removed)

    return build


def _user_upserted(body: _Body, event: str, key: bytes | None) -> InputEvent:
    tenant, user = _user(body, key)
    get = body.get
    _text(get("displayName"), "displayName")  # in the contract, but nothing depends on it
    upn = _text(get("userPrincipalName", ABSENT), "userPrincipalName")
    mail = _text(get("mail", ABSENT), "mail")
    addresses = _addresses(get("proxyAddresses", ABSENT))
    patch = (event, tenant, user, upn, _usage_location(body), mail, addresses)
    return _new(ev.UserUpserted, patch)


def _membership_added(body: _Body, event: str, key: bytes | None) -> InputEvent:
    tenant, user = _user(body, key)
    group = _shared_id(body.get("group", ABSENT), "group")
    member_type = body.get("memberType", "user")
    if member_type == "user":
        return _new(ev.MembershipAdded, (event, tenant, user, group))
    return ev.MembershipIgnored(event, tenant, user, group, _name(member_type, "memberType"))


def _membership_removed(body: _Body, event: str, key: bytes | None) -> InputEvent:
    tenant, user = _user(body, key)
    return ev.MembershipRemoved(event, tenant, user, _shared_id(body.get("group", ABSENT), "group"))


def _group_upserted(body: _Body, event: str, key: bytes | None) -> InputEvent:
    tenant, group = _group(body, key)
    display_name = _text(body.get("displayName", ABSENT), "displayName")
    return ev.GroupUpserted(event, tenant, group, display_name)


def _product_defined(body: _Body, event: str, key: bytes | None) -> InputEvent:
    sku = _shared_id(body.get("skuId", ABSENT), "skuId")
    _check_key(key, sku, "skuId")
    part_number = _name(body.get("skuPartNumber", sku), "skuPartNumber")
    display_name = _name(body.get("displayName", part_number), "displayName")
    plans: dict[str, ServicePlan] = {}
    # Required: left out by mistake, it would take the product's plans from every user.
    for i, item in enumerate(typed(list, body.get("servicePlans", ABSENT), "servicePlans")):
        plan = _service_plan(item, f"servicePlans[{i}]")
        if plan.id in plans:
            raise refusal(f"servicePlans[{i}].servicePlanId", plan.id, "given once in a product")
        plans[plan.id] = plan
    return ev.ProductDefined(event, sku, part_number, display_name, tuple(plans.values()))


def _service_plan(item: Any, name: str) -> ServicePlan:
    at = f"{name}."
    plan = typed(dict, item, name)
    plan_id = _shared_id(plan.get("servicePlanId", ABSENT), f"{at}servicePlanId")
    mail = typed(bool, plan.get("mailEnabled", False), f"{at}mailEnabled")
    sets = _each(_name, plan.get("exclusiveSets", []), f"{at}exclusiveSets")
    return ServicePlan(
        plan_id,
        _name(plan.get("servicePlanName", plan_id), f"{at}servicePlanName"),
        _one_of(plan, at, "appliesTo", ("User", "Company"), "User"),
        tuple(intern(exclusive_set) for exclusive_set in sets),
        _each(_any_of, plan.get("requires", []), f"{at}requires"),
        _each(_location, plan.get("prohibitedLocations", []), f"{at}prohibitedLocations"),
        mail,
    )


def _subscription_updated(body: _Body, event: str, key: bytes | None) -> InputEvent:
    tenant, sku = _subject(body, key, "skuId")
    units = typed(dict, body.get("prepaidUnits", ABSENT), "prepaidUnits")
    counts = []
    for member in ("enabled", "warning", "suspended", "lockedOut"):
        count = units.get(member, 0)
        if type(count) is not int or not 0 <= count <= MAX_UNITS:  # bool is a subclass of int
            raise refusal(f"prepaidUnits.{member}", count, f"a whole number from 0 to {MAX_UNITS}")
        counts.append(count)
    return ev.SubscriptionUpdated(event, tenant, sku, *counts)


def _tenant_updated(body: _Body, event: str, key: bytes | None) -> InputEvent:
    tenant = _shared_id(body.get("tenant", ABSENT), "tenant")
    _check_key(key, tenant, "tenant")
    _text(body.get("displayName"), "displayName")  # as in user.upserted
    policies = typed(dict, body.get("policies", {}), "policies")
    retry = _one_of(policies, "policies.", "seatRetry", ("automatic", "manual"), ABSENT)
    deletion = _one_of(policies, "policies.", "onGroupDeletion", ("convert", "error"), ABSENT)
    return ev.TenantUpdated(event, tenant, _usage_location(body), retry, deletion)


_BUILDERS: dict[str, dict[str, _Builder]] = {
    "user-changes": {
        "user.upserted": _user_upserted,
        "user.deleted": _bare(ev.UserDeleted, _user),
        "membership.added": _membership_added,
        "membership.removed": _membership_removed,
        "licenses.changed": _licenses(ev.UserLicensesChanged, _user),
        "user.reprocess": _bare(ev.UserReprocess, _user),
    },
    "group-changes": {
        "group.upserted": _group_upserted,
        "group.deleted": _bare(ev.GroupDeleted, _group),
        "licenses.changed": _licenses(ev.GroupLicensesChanged, _group),
        "group.reprocess": _bare(ev.GroupReprocess, _group),
    },
    "catalog": {"product.defined": _product_defined},
    "subscriptions": {"subscription.updated": _subscription_updated},
    "tenants": {"tenant.updated": _tenant_updated},
}


def _parse(value: bytes | None) -> _Body:
    if value is None:
        raise ReadError(NULL, "no_value")
    if len(value) > MAX_VALUE_BYTES:
        size = f"{len(value)} bytes; at most {MAX_VALUE_BYTES} are read"
        raise ReadError(f"the value has {size}", "too_large")
    if value and value[0] == 0:  # no JSON begins so: a schema registry's prefix, 0 and a schema id
        value = value[REGISTRY_PREFIX_BYTES:]
    try:
        body = loads(value)
        return body if type(body) is dict else typed(dict, body, "the value")
    except orjson.JSONDecodeError as error:
        what = f"{escaped(error.msg, 200)} at line {error.lineno} column {error.colno}"
        raise ReadError(f"the value is not JSON: {what}", "not_json") from None


def _unwrap(headers: Headers, body: _Body) -> tuple[_Body, _Body]:
    """The attributes and the data of a CloudEvent in either mode; of a plain event it is both."""
    attributes: _Body = {}
    for header, raw in headers:
        name = header.lower()
        if raw is not None and (name.startswith("ce_") or name == "content-type"):
            # What is not UTF-8 becomes lone surrogates, which the checks below refuse.
            attributes[name.removeprefix("ce_")] = raw.decode(errors="surrogateescape")
    media = attributes.pop("content-type", "").partition(";")[0].strip().lower()
    structured = media.startswith("application/cloudevents")
    if "type" in attributes and not structured:
        attributes["datacontenttype"] = media or "application/json"
        return attributes, body
    if not structured and not ("specversion" in body and ("data" in body or "data_base64" in body)):
        return body, body
    if structured and media != "application/cloudevents+json":
        raise refusal("content-type", media, "application/cloudevents+json, one event in a record")
    # In CloudEvents' JSON an attribute that is null is not set.
    attributes = {name: value for name, value in body.items() if value is not None}
    if "data_base64" in attributes:
        raise ReadError("data_base64 is not read here; the event must be an object in data")
    return attributes, typed(dict, attributes.get("data", ABSENT), "data")


def _check_attributes(given: _Body) -> tuple[str, str]:
    """The id and the source ("" if there is none) of a CloudEvent."""
    if (version := given.get("specversion", "1.0")) != "1.0":
        raise refusal("specversion", version, "1.0")
    content = given.get("datacontenttype", "application/json")
    if not str(content).partition(";")[0].strip().lower().endswith(("/json", "+json")):
        raise refusal("datacontenttype", content, "application/json")
    event, source = given.get("id", ABSENT), given.get("source", "")
    if type(event) is not str or not 0 < len(event) <= 256 or not event.isprintable():
        raise refusal("id", event, "1 to 256 printable characters")
    if type(source) is not str or len(source) > MAX_TEXT or not source.isprintable():
        raise refusal("source", source, f"at most {MAX_TEXT} printable characters")
    return event, intern(source)


def _refuse_type(topic: str, kind: object) -> NoReturn:
    homes = [home for home, types in _BUILDERS.items() if isinstance(kind, str) and kind in types]
    if homes:
        there = f"type {kind} belongs to the topic {' or '.join(homes)}, not to {topic}"
        raise ReadError(there, "unknown_type")
    raise refusal("type", kind, f"one of {', '.join(_BUILDERS[topic])}", "unknown_type")


class Decoder:
    """Of one input topic. It is called with the parts of a record, for a ``Decoded``.

    ``parsed``: what the value holds, from a caller who had to look into it.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.builders: dict[str, _Builder] = _BUILDERS[topic]
        self._scanner: Any = None  # reads the common form of users' events
        if topic == "user-changes" and _scanner is not None:
            self._scanner = _scanner.Scanner(ev, _known_ids, _shared_id, _locations)

    def __call__(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        parsed: _Body | None = None,
    ) -> Decoded:
        try:
            return self.read(key, _parse(value) if parsed is None else parsed, headers)
        except ReadError as malformed:
            return Rejected(*malformed.args)

    def read(
        self, key: bytes | None, body: _Body, headers: Headers | None
    ) -> tuple[InputEvent, str]:
        attributes = body
        if headers or "specversion" in body:
            attributes, body = _unwrap(headers or (), body)
        kind = attributes.get("type", ABSENT)
        build = self.builders.get(kind) if type(kind) is str else None
        if build is None:
            _refuse_type(self.topic, kind)
        if attributes is body:
            event, source = _id(body.get("id", ABSENT), "id"), ""
        else:
            event, source = _check_attributes(attributes)
        if type(attributes.get("time", "")) is not str:  # informational: any string will do
            raise refusal("time", attributes["time"], "a string, or absent")
        return build(body, event, key), source

    def decode_all(
        self, records: Sequence[Any]
    ) -> tuple[list[ev.Delivered], list[tuple[Any, Rejected]]]:
        """The events of a batch of records, and the records that are none. In one thread alone."""
        batch: list[ev.Delivered] = []
        rejected: list[tuple[Any, Rejected]] = []

        def read(record: Any) -> None:
            try:
                event, source = self.read(record.key, _parse(record.value), record.headers)
            except ReadError as malformed:
                rejected.append((record, Rejected(*malformed.args)))
            else:
                batch.append(_new(ev.Delivered, (event, record.timestamp, record.offset, source)))

        if self._scanner is not None:
            self._scanner.read_all(records, batch, read)
        else:
            for record in records:
                read(record)
        return batch, rejected


DECODERS: dict[str, Decoder] = {topic: Decoder(topic) for topic in _BUILDERS}
