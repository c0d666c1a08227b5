"""Records of a user, against a golden file: the plain writers, and the compiled ones if built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.documents import user_documents
from engine.documents.user_documents import (
    ChangeAuditFields,
    StateTemplate,
    UserLicensesFields,
    write_change_audit,
    write_user_licenses,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "documents" / "user_documents.jsonl"
NOW, BEFORE = "2026-11-24T08:00:00.000Z", "2026-11-23T09:30:00.250Z"
ASSIGNED = '[{"skuId":"E3","disabledPlans":["Yammer ü"]}]'
ACTIVE = ',"disabledPlans":[],"state":"Active","error":"None","since":"'
REFUSED = (
    ',"disabledPlans":["p1"],"state":"Error","error":"CountViolation",'
    '"message":"No seat of \\"E5\\" is free.","since":"'
)


def state(sku: str, path_index: int, rest: str = ACTIVE) -> StateTemplate:
    return StateTemplate(path_index, f'{{"skuId":"{sku}","assignedByGroup":', rest)


DOCUMENTS: dict[str, UserLicensesFields] = {
    "nothing": UserLicensesFields(
        "t", "u", None, "US", None, None, (), "[]", [], (), None, 1, NOW, "e-1", True
    ),
    "direct and inherited": UserLicensesFields(
        "contoso", "u1", "DE", "DE", "ann@contoso.com", "ann",
        ("SMTP:ann@contoso.com", "smtp:a@contoso.com"), ASSIGNED,
        [state("E3", 0), state("E3", 1), state("E5", 2, REFUSED)], ("g1", "g2"), None,
        12, NOW, "e-2", True,
    ),
    "states of different ages": UserLicensesFields(
        "contoso", "u1", "DE", "DE", None, "u1", (), ASSIGNED,
        [state("E3", 0), state("E5", 1, REFUSED)],
        ("g1",), [BEFORE, NOW], 13, NOW, "e-3", True,
    ),
    "one product by two groups, in the order of their ids": UserLicensesFields(
        "contoso", "u1", "DE", "DE", None, None, (), ASSIGNED,
        [state("E3", 0), state("E3", 1), state("E3", 2), state("E5", 1)], ("z", "a"),
        [NOW, BEFORE, NOW, NOW], 14, NOW, "e-4", False,
    ),
    "text that must be escaped": UserLicensesFields(
        "t", "u", "DE", "DE", 'q"uote\\@x', 'q"uote\\', ("smtp:tab\t\u0001é€😀",), "[]", [], (),
        None, 1 << 40, NOW, "line\nfeed", True,
    ),
}  # fmt: skip
AUDITS: dict[str, ChangeAuditFields] = {
    "changed": ChangeAuditFields("t", "u", "[]", ASSIGNED, "", False, NOW, "e-5"),
    "failed, nothing changed": ChangeAuditFields(
        "t", "u", "[]", "[]", 'CountViolation: No seat of "E5" is free.', True, NOW, "e-6"
    ),
}


def golden() -> dict[str, bytes]:
    lines = GOLDEN.read_bytes().splitlines()
    return {
        orjson.loads(name): record for name, record in zip(lines[::2], lines[1::2], strict=True)
    }


def test_the_golden_file_is_complete_and_json() -> None:
    assert golden().keys() == DOCUMENTS.keys() | AUDITS.keys()
    for record in golden().values():
        assert isinstance(orjson.loads(record), dict)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_user_licenses_as_before(name: str) -> None:
    assert write_user_licenses(DOCUMENTS[name]) == golden()[name]


@pytest.mark.parametrize("name", AUDITS)
def test_change_audit_as_before(name: str) -> None:
    assert write_change_audit(AUDITS[name]) == golden()[name]


@pytest.mark.skipif(user_documents._native is None, reason="compiled only: make compile")
def test_the_compiled_writers_as_before() -> None:
    native: Any = user_documents._native
    written = {name: native.user_licenses(fields) for name, fields in DOCUMENTS.items()}
    written |= {name: native.change_audit(fields) for name, fields in AUDITS.items()}
    assert written == golden()
