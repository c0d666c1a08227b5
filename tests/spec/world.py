"""A whole system as a sequential oracle: one event at a time, everything settled in between.

`World.apply(topic, event, at)` takes events that `contract.read` accepts. `at` is when the event
was recorded: (timestamp in milliseconds, offset). `World.log` holds what was published,
`World.latest` the latest of each key, `World.state(tenant)` a short form to compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.spec import audit, documents, mail
from tests.spec.adoption import adopt
from tests.spec.changes import (
    GROUP_DELETED,
    USER_NOT_FOUND,
    Rejection,
    change_direct,
    change_group,
    undefined_products,
)
from tests.spec.evaluations import Evaluations
from tests.spec.events import (
    adopted_licenses,
    change_of_licenses,
    milliseconds,
    named_products,
    read_product,
)
from tests.spec.facts import COUNT, Group, held
from tests.spec.licensing import evaluate
from tests.spec.limits import exceeded, too_many_direct, too_many_of_a_group, too_much_in_snapshot
from tests.spec.tenants import INVALID_RULE, NO_UNITS, RULE_MEMBERS, At, Json, Tenant, User, patched


class World(Evaluations):
    def apply(self, topic: str, event: Mapping[str, Any], at: At) -> None:
        """Applies an event; a repeated one changes nothing (R24)."""
        identity = (topic, event.get("tenant"), event["type"], event["id"])
        if identity in self.seen:
            return
        self.seen.add(identity)
        handler = getattr(self, f"_{topic}_{event['type']}".replace("-", "_").replace(".", "_"))
        self.cause = dict(event)
        handler(self.cause, at)
        for change in self.unfinished:
            self._finish(change)
        self.unfinished = []
        documents.publish_rest(self, at)

    def state(self, tenant: str) -> Json:
        return documents.short_form(self.log, tenant)

    # ---- catalogue, subscriptions, tenants

    def _catalog_product_defined(self, event: Json, at: At) -> None:
        sku = event["skuId"]
        self.products[sku] = read_product(event)
        self.part_numbers[sku] = event.get("skuPartNumber")
        for tenant in self.tenants.values():
            self._evaluate_all(tenant, tenant.users, at, retry=False)
        waiting, self.deferred = self.deferred, []
        for topic, change in waiting:
            if undefined_products(self.products, named_products(change)):
                self.deferred.append((topic, change))
            elif topic == "user-changes":
                self._change_user_licenses(change, at)
            else:
                self._change_group_licenses(change, at)

    def _subscriptions_subscription_updated(self, event: Json, at: At) -> None:
        tenant = self.tenant(event)
        tenant.cancelled.discard(event["skuId"])
        self._change_units(tenant, event["skuId"], event["prepaidUnits"], at)

    def _subscriptions_subscription_deleted(self, event: Json, at: At) -> None:
        tenant = self.tenant(event)
        tenant.cancelled.add(event["skuId"])
        self._change_units(tenant, event["skuId"], {}, at)

    def _change_units(self, tenant: Tenant, sku: str, units: Json, at: At) -> None:
        """R15: holders are published as disabled, or active again."""
        tenant.units[sku] = NO_UNITS | units
        self._serve_waiting(tenant, at)
        self._evaluate_all(tenant, tenant.holders(sku), at, retry=False)

    def _tenants_tenant_updated(self, event: Json, at: At) -> None:
        tenant = self.tenant(event)
        policies = event.get("policies", {})
        tenant.location = event.get("usageLocation")
        tenant.domain = event.get("initialDomain", tenant.domain)
        tenant.seat_retry = policies.get("seatRetry", "automatic")
        tenant.on_group_deletion = policies.get("onGroupDeletion", "convert")
        self._evaluate_all(tenant, tenant.users, at, retry=False)

    # ---- groups

    def _group_changes_group_upserted(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["group"]
        group = tenant.groups.setdefault(name, Group({}))
        touched = set(tenant.touched_by_group(name))
        if RULE_MEMBERS & event.keys():
            if not tenant.change_rule(event, at):
                self._answer("group", event, "rejected", Rejection(INVALID_RULE))
                return
            self._answer("group", event, "applied")
            touched.update(tenant.touched_by_group(name))
        tenant.groups[name] = Group(group.licenses)
        tenant.group_names[name] = event.get("displayName", tenant.group_names.get(name))
        self._evaluate_all(tenant, sorted(touched), at)

    def _group_changes_group_deleted(self, event: Json, at: At) -> None:
        """R13: the licences go, the memberships stay as facts."""
        tenant, name = self.tenant(event), event["group"]
        tenant.groups[name] = Group({}, deleted=True)
        tenant.licensed.add(name)
        self._audit_group(audit.DELETE_GROUP, event)
        self._reject_deferred("group", event, Rejection(GROUP_DELETED))
        self._evaluate_all(tenant, tenant.touched_by_group(name), at)

    def _group_changes_group_reprocess(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["group"]
        tenant.groups.setdefault(name, Group({}))
        tenant.licensed.add(name)
        self._evaluate_all(tenant, tenant.touched_by_group(name), at)
        self._audit_group(audit.RECALCULATION, event)
        self._answer("group", event, "applied")

    def _group_changes_licenses_changed(self, event: Json, at: At) -> None:
        self.tenant(event).groups.setdefault(event["group"], Group({}))
        if undefined_products(self.products, named_products(event)):
            self._defer("group", event)
        else:
            self._change_group_licenses(event, at)

    _group_changes_licenses_set = _group_changes_licenses_changed  # R28

    def _change_group_licenses(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["group"]
        group = tenant.groups[name]
        added, removed = change_of_licenses(event, group.licenses)
        result = too_many_of_a_group(self.limits, group.licenses, added, removed) or change_group(
            self.products, group.licenses, added, removed
        )
        if isinstance(result, Rejection):
            self._answer("group", event, "rejected", result)
            return
        tenant.groups[name] = Group(result, deleted=group.deleted and not result)
        tenant.licensed.add(name)
        self._answer("group", event, "applied")
        old, new = map(audit.assigned_licenses, (group.licenses, result))
        self._audit_group(audit.SET_GROUP, event, changed=(old, new))
        self._audit_group(audit.START, event)
        self._evaluate_all(tenant, tenant.touched_by_group(name), at)
        self.unfinished.append(event)

    def _finish(self, event: Json) -> None:
        status = documents.group_document(self, self.tenant(event), event["group"])
        numbers = audit.counts(status["membersLicensed"], status["membersWithErrors"])
        self._audit_group(audit.FINISH, event, reason=numbers)

    def _audit_group(
        self,
        activity: str,
        event: Json,
        changed: tuple[object, object] | None = None,
        reason: str = "",
    ) -> None:
        key = f"{event['tenant']}/{event['group']}"
        new = audit.record(activity, key, event["id"], changed=changed, reason=reason)
        self.emit("audit", key, new)

    # ---- users

    def _user_changes_user_upserted(self, event: Json, at: At) -> None:
        """Applies a patch: an absent member stays, null clears it."""
        tenant, name = self.tenant(event), event["user"]
        user = tenant.users.setdefault(name, User())
        user.known = True
        user.principal_name = event.get("userPrincipalName", user.principal_name)
        user.location = event.get("usageLocation", user.location)
        user.mail = event.get("mail", user.mail)
        user.nickname = event.get("mailNickname", user.nickname)
        user.addresses = event.get("proxyAddresses", user.addresses) or []
        user.attributes = patched(user.attributes, event.get("attributes", {}))
        tenant.follow_rules(name, at)
        restored, user.bin = user.bin, None
        if restored:
            self._restore(tenant, name, restored)
        self._evaluate_all(tenant, [name], at)

    def _restore(self, tenant: Tenant, name: str, direct: dict[str, frozenset[str]]) -> None:
        """R22: the memberships as they stand, then each direct licence by R16."""
        user = tenant.users[name]
        refused: list[Json] = []
        self._claim(tenant, name, mail.brings_mail(self.products, direct))
        user.entries = evaluate(self._facts(tenant, name)).entries
        for sku in sorted(direct):
            added = {sku: direct[sku]}
            facts = self._facts(tenant, name)
            result = change_direct(facts, added, frozenset(), needs_own_location=False)
            if isinstance(result, Rejection):
                refused.append({"skuId": sku, "error": result.error})
                continue
            before, user.entries = held(user.entries), result
            user.entries = evaluate(self._facts(tenant, name, seats_before=before)).entries
        answer: Json = {"causedBy": self.cause["id"], "tenant": tenant.name, "user": name}
        answer["status"] = "applied"
        if refused:
            answer["details"] = {"notRestored": refused}
        self.emit("results", f"{tenant.name}/{name}", answer)

    def _user_changes_user_snapshot(self, event: Json, at: At) -> None:
        """R25: all facts of the user are replaced, and what it holds is adopted."""
        tenant, name = self.tenant(event), event["user"]
        user = tenant.users.setdefault(name, User())
        if rejected := too_much_in_snapshot(self.limits, event):
            self._answer("user", event, "rejected", rejected)
            self._evaluate_all(tenant, [name], at)
            return
        user.known, user.bin = True, None
        user.principal_name, user.mail = event.get("userPrincipalName"), event.get("mail")
        user.location = event.get("usageLocation")
        user.nickname, user.addresses = event.get("mailNickname"), event.get("proxyAddresses") or []
        memberships: dict[str, At] = {}
        for membership in event.get("memberships", ()):
            group, since = membership["group"], milliseconds(membership.get("since"))
            tenant.groups.setdefault(group, Group({}))
            begun = user.listed.get(group, at) if since is None else (min(since, at[0]), 0)
            memberships[group] = begun
        for group in user.memberships:
            tenant.groups.setdefault(group, Group({}))
        user.listed = memberships
        user.attributes = patched({}, event.get("attributes", {}))
        tenant.follow_rules(name, at)
        before = held(user.entries)
        licenses = [
            replace(one, since=None if one.since is None else min(one.since, at[0]))
            for one in adopted_licenses(event).values()
        ]
        defined = [one for one in licenses if one.sku in self.products]
        user.entries = adopt((), defined, self.products)
        self._evaluate(tenant, name, at, seats_before=before | held(user.entries))
        has = {(e.sku, e.path) for e in user.entries}
        user.to_adopt = [
            one
            for one in licenses
            if (one.path is None or one.path in user.memberships)
            and (
                one.sku not in self.products
                or (one.path not in tenant.licensed and (one.sku, one.path) not in has)
            )
        ]
        self._serve_waiting(tenant, at)
        self._tell_affected(tenant, at)

    def _user_changes_user_deleted(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["user"]
        if name not in tenant.users:
            return
        user = tenant.users[name]
        restorable = event.get("restorable", False)
        self._reject_deferred("user", event, Rejection(USER_NOT_FOUND))
        if restorable and not user.known:
            return
        tenant.affected |= tenant.book.hold(name, set())
        if restorable:
            user.bin = {e.sku: e.disabled_plans for e in user.entries if e.path is None}
            user.known, user.routing, user.published_nickname = False, None, None
            user.entries, user.states, user.since = (), (), {}
            user.to_adopt = []
            tenant.follow_rules(name, at)
        else:
            del tenant.users[name]
        documents.publish_user(self, tenant, name, at)
        for line in tenant.waiting.values():
            line.pop(name, None)
        self._serve_waiting(tenant, at)
        self._tell_affected(tenant, at)

    def _user_changes_membership_added(self, event: Json, at: At) -> None:
        if event.get("memberType", "user") != "user":
            return
        tenant, name, group = self.tenant(event), event["user"], event["group"]
        user = tenant.users.setdefault(name, User())
        number = len(user.listed.keys() | {group})
        full = exceeded(self.limits.memberships, number)
        if full and group not in user.listed:
            self._answer("user", event, "rejected", full)
        else:
            tenant.groups.setdefault(group, Group({}))
            user.listed.setdefault(group, at)
            tenant.count_memberships(user)
        self._evaluate_all(tenant, [name], at)

    def _user_changes_membership_removed(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["user"]
        tenant.groups.setdefault(event["group"], Group({}))
        user = tenant.users.setdefault(name, User())
        user.listed.pop(event["group"], None)
        tenant.count_memberships(user)
        self._evaluate_all(tenant, [name], at)

    def _user_changes_user_reprocess(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["user"]
        if not tenant.users.get(name, User()).known:
            self._answer("user", event, "rejected", Rejection(USER_NOT_FOUND))
            return
        self._evaluate_all(tenant, [name], at)
        self._answer("user", event, "applied")

    def _user_changes_licenses_changed(self, event: Json, at: At) -> None:
        user = self.tenant(event).users.get(event["user"], User())
        if user.known and undefined_products(self.products, named_products(event)):
            self._defer("user", event)
        else:
            self._change_user_licenses(event, at)

    _user_changes_licenses_set = _user_changes_licenses_changed  # R28

    def _change_user_licenses(self, event: Json, at: At) -> None:
        """R16, then the re-evaluation of R9."""
        tenant, name = self.tenant(event), event["user"]
        user = tenant.users.get(name, User())
        if not user.known:
            self._answer("user", event, "rejected", Rejection(USER_NOT_FOUND))
            return
        present = {e.sku: e.disabled_plans for e in user.entries if e.path is None}
        added, removed = change_of_licenses(event, present)
        if full := too_many_direct(self.limits, present, added, removed):
            self._answer("user", event, "rejected", full)
            self._evaluate_all(tenant, [name], at)
            return
        self._claim(tenant, name, mail.brings_mail(self.products, added))
        result = change_direct(self._facts(tenant, name), added, removed)
        if isinstance(result, Rejection):
            self._claim(tenant, name)
            self._tell_affected(tenant, at)
            self._answer("user", event, "rejected", self._with_numbers(tenant, result))
            return
        before, user.entries = held(user.entries), result
        self._answer("user", event, "applied")
        self._evaluate(tenant, name, at, seats_before=before)
        self._serve_waiting(tenant, at)
        self._tell_affected(tenant, at)

    def _with_numbers(self, tenant: Tenant, rejected: Rejection) -> Rejection:
        sku = rejected.sku
        if rejected.error != COUNT or sku is None:
            return rejected
        numbers = {"purchased": tenant.purchased(sku), "consumed": len(tenant.holders(sku))}
        return Rejection(COUNT, sku, numbers)

    def _defer(self, kind: str, event: Json) -> None:
        """R21: keeps a change that names an undefined product, unless too many wait already."""
        place = (event["tenant"], event[kind])
        waiting = [c for _, c in self.deferred if (c["tenant"], c.get(kind)) == place]
        if full := exceeded(self.limits.deferred_changes, len(waiting) + 1):
            self._answer(kind, event, "rejected", full)
        else:
            self.deferred.append((f"{kind}-changes", event))
            self._answer(kind, event, "deferred")

    def _reject_deferred(self, kind: str, event: Json, rejected: Rejection) -> None:
        """R21: what waited of a user or group that is deleted is not carried out."""
        waiting, self.deferred = self.deferred, []
        for topic, change in waiting:
            if (change["tenant"], change.get(kind)) == (event["tenant"], event[kind]):
                self._answer(kind, change, "rejected", rejected)
            else:
                self.deferred.append((topic, change))

    def _answer(
        self, kind: str, event: Json, status: str, rejected: Rejection | None = None
    ) -> None:
        result = {"causedBy": event["id"], "tenant": event["tenant"], kind: event[kind]}
        result["status"] = status
        if rejected is not None:
            result |= {"error": rejected.error, "skuId": rejected.sku}
            result |= {"message": f"The change was rejected: {rejected.error}."}
            result |= {"details": dict(rejected.details)}
        key = f"{event['tenant']}/{event[kind]}"
        self.emit("results", key, result)
        if rejected is not None and event["type"].startswith("licenses."):
            activity = audit.SET_GROUP if kind == "group" else audit.CHANGE_USER
            reason = audit.rejection(result["error"], result["message"])
            new = audit.record(activity, key, event["id"], reason=reason, failed=True)
            self.emit("audit", key, new)
