"""The language of membership rules (R27): tables of what rules match and of what is no rule."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.membership_rules import syntax
from engine.membership_rules.compiler import Value, compile_rule, properties_of
from engine.membership_rules.errors import MembershipRuleError
from engine.membership_rules.parser import MAX_RULE_CHARACTERS, parse_rule
from engine.membership_rules.properties import PROPERTIES
from engine.membership_rules.syntax import print_rule
from tests.support.timing import limit_seconds

ANN: dict[str, Value] = {
    "department": "Sales",
    "city": "São Paulo",
    "jobtitle": 'Head of "Things"',
    "accountenabled": "true",
    "employeeid": "0042",
    "extensionattribute1": "7",
    "extension_1f_level": "12",
    "employeehiredate": "2026-03-01T00:00:00Z",
    "proxyaddresses": ("SMTP:ann@contoso.example", "smtp:a@contoso.example"),
    "objectid": "u1",
    "userprincipalname": "ann@contoso.example",
}


def matches(rule: str, user: dict[str, Value] | None = None) -> bool:
    tree = parse_rule(rule)
    keys = sorted(properties_of(tree))
    values = ANN if user is None else user
    return compile_rule(tree, keys)([values.get(key) for key in keys])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('user.department -eq "Sales"', True),
        ('user.department -eq "SALES"', True),
        ('USER.Department -EQ "sales"', True),
        ('user.department eq "Sales"', True),
        ('user.department –eq “Sales”', True),
        ("user.department -eq 'Sales'", True),
        ('user.department -ne "Sales"', False),
        ('user.department -ne "HR"', True),
        ('user.country -eq "NO"', False),
        ('user.country -ne "NO"', True),
        ("user.country -eq null", True),
        ("user.country -eq $null", True),
        ("user.country -ne null", False),
        ("user.department -ne null", True),
        ('user.department -eq "null"', False),
        ('user.department -startsWith "sa"', True),
        ('user.department -notStartsWith "sa"', False),
        ('user.department -endsWith "ES"', True),
        ('user.department -notEndsWith "x"', True),
        ('user.department -contains "ale"', True),
        ('user.department -notContains "ale"', False),
        ('user.country -notContains "ale"', True),
        ('user.country -contains ""', False),
        ('user.department -match "^s.l"', True),
        ('user.department -match "al"', True),
        ('user.department -match "^al"', False),
        ('user.department -notMatch "^S"', False),
        ('user.country -notMatch "^S"', True),
        ('user.city -match "são"', True),
        ('user.department -in ["HR", "sales"]', True),
        ('user.department -in ["HR"]', False),
        ('user.department -notIn ["HR"]', True),
        ('user.country -notIn ["NO"]', True),
        ('user.country -in ["NO"]', False),
        ("user.accountEnabled -eq true", True),
        ("user.accountEnabled -eq false", False),
        ('user.accountEnabled -eq "True"', True),
        ("user.accountEnabled -ne false", True),
        ("user.dirSyncEnabled -eq true", False),
        ("user.dirSyncEnabled -ne true", True),
        ('user.jobTitle -eq "head of `"things`""', True),
        ("user.jobTitle -eq 'Head of \"Things\"'", True),
        ('user.employeeId -eq "0042"', True),
        ("user.employeeId -eq 42", False),
        ("user.extensionAttribute1 -eq 7", True),
        ("user.extensionAttribute1 -ge 6.5", True),
        ('user.extensionAttribute1 -le "10"', True),
        ("user.extension_1F_level -le 9", False),
        ('user.department -ge "Sa"', True),
        ('user.country -ge "A"', False),
        ("user.employeeHireDate -ge 2026-01-01T00:00:00Z", True),
        ("user.employeeHireDate -le 2026-01-01", False),
        ('user.employeeHireDate -eq "2026-03-01T01:00:00+01:00"', True),
        ('user.proxyAddresses -any (_ -contains "@contoso")', True),
        ('user.proxyAddresses -any (_ -startsWith "smtp:a@")', True),
        ('user.proxyAddresses -all (_ -startsWith "smtp:a@")', False),
        ('user.proxyAddresses -all (_ -endsWith ".example" -and -not _ -contains "x:")', True),
        ('user.proxyAddresses -contains "smtp:ann@"', True),
        ('user.proxyAddresses -notEndsWith "@outlook.com"', True),
        ('user.otherMails -any (_ -ne null)', False),
        ('user.otherMails -all (_ -eq "x")', True),
        ("user.otherMails -eq null", True),
        ('user.extensionAttribute1 -any (_ -eq "7")', True),
        ("user.objectId -ne null", True),
        # -not binds closer than -and, which binds closer than -or.
        ('user.city -eq "x" -and user.city -eq "y" -or user.department -eq "Sales"', True),
        ('user.department -eq "Sales" -or user.city -eq "x" -and user.city -eq "y"', True),
        ('(user.department -eq "Sales" -or user.city -eq "x") -and user.city -eq "y"', False),
        ('-not user.department -eq "Sales" -or user.city -ne null', True),
        ('-not (user.department -eq "Sales" -or user.city -ne null)', False),
        ('-not -not user.department -eq "Sales"', True),
        ('not(user.department eq "HR") and user.city ne null', True),
    ],
)  # fmt: skip
def test_what_a_rule_matches(rule: str, expected: bool) -> None:
    assert matches(rule) is expected


@pytest.mark.parametrize(
    ("rule", "position", "expected"),
    [
        ("", 1, "a property like user.department"),
        ("user.department -eq", 20, "a value"),
        ('user.department -eq "A" -xor user.city -eq "B"', 25, "-and, -or or the end"),
        ('user.department -eq "A', 23, '" at the end of the text that begins at character 21'),
        ('user.dept -eq "A"', 1, "a property of Entra's rules"),
        ('department -eq "A"', 1, "a property like user.department"),
        ('device.displayName -eq "A"', 1, "a property like user.department"),
        ("user.department", 16, "an operator"),
        ('user.department -like "A"', 17, "an operator"),
        ('(user.department -eq "A"', 25, ")"),
        ('user.department -eq "A")', 24, "-and, -or or the end"),
        ("user.department -eq Sales", 21, "a value"),
        ("user.department -eq true", 21, "text in quotation marks"),
        ('user.accountEnabled -startsWith "t"', 21, "-eq or -ne"),
        ('user.accountEnabled -eq "yes"', 25, "true, false or null"),
        ('user.employeeHireDate -eq "soon"', 27, "a time"),
        ("user.employeeHireDate -ge system.now -plus p1d", 27, "a fixed time"),
        ("user.department -contains null", 27, "null is compared by -eq and -ne alone"),
        ("user.department -in []", 22, "a value"),
        ('user.department -in "A"', 21, "["),
        ('user.department -in ["A" "B"]', 26, ", or ]"),
        ('user.department -any (_ -eq "A")', 17, "an operator for one value"),
        ('user.otherMails -any _ -eq "A"', 22, "( and a condition on _"),
        ('user.otherMails -any (user.city -eq "A")', 23, "_, which stands for an item"),
        ('user.assignedPlans -any (assignedPlan.service -eq "x")', 1, "no rule may depend on"),
        ('user.memberOf -any (group.objectId -in ["x"])', 1, "no rule may depend on"),
        ('Direct Reports for "x"', 1, "a property like user.department"),
        ('user.mail -match "("', 18, "a regular expression in the syntax of RE2 (missing )"),
        ('user.mail -match "(?=a)b"', 18, "invalid perl operator"),
        ('user.mail -match "(a{1000}){1000}"', 18, "regular expression"),
        ('user.mail -match "' + "a" * 600 + '"', 18, "it has 600 characters"),
        ('user.mail -eq "a" # x', 19, "a property, an operator, a value"),
        ("(" * 60, 51, "at most 50 levels"),
        ("-not " * 60, 251, "at most 50 levels"),
        ("x" * 4000, MAX_RULE_CHARACTERS + 1, "which may have 3072 characters"),
        ('user.mail -eq "\ud800"', 16, "a character"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(rule: str, position: int, expected: str) -> None:
    with pytest.raises(MembershipRuleError) as caught:
        parse_rule(rule)
    assert caught.value.position == position
    assert expected in caught.value.expected
    assert str(caught.value).startswith(f"At character {position}: expected ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_what_is_no_rule_is_in_the_message() -> None:
    with pytest.raises(MembershipRuleError, match=r"character 20: .*, found the end of the rule\."):
        parse_rule("user.department -eq")


# -- properties
def literals(*texts: str) -> st.SearchStrategy[syntax.Literal]:
    unquoted = st.sampled_from([syntax.Literal(text, quoted=False) for text in texts])
    quoted = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(syntax.Literal)
    return unquoted | quoted if texts else quoted


def comparisons(property: str, anything: bool) -> st.SearchStrategy[syntax.Node]:
    value = literals("7", "-1.5", "2026-01-01T00:00:00Z") if anything else literals()
    single = sorted(syntax.SPELLING.keys() - syntax.LIST_OPERATORS - {"match", "notmatch"})
    return st.one_of(
        st.builds(syntax.Comparison, st.just(property), st.sampled_from(single), st.tuples(value)),
        st.builds(
            syntax.Comparison,
            st.just(property),
            st.sampled_from(sorted(syntax.LIST_OPERATORS)),
            st.lists(value, min_size=1, max_size=3).map(tuple),
        ),
        st.builds(syntax.Comparison, st.just(property), st.sampled_from(["eq", "ne"]), st.just(())),
    )


def combined(leaves: st.SearchStrategy[syntax.Node]) -> st.SearchStrategy[syntax.Node]:
    def more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        def flat(kind: Any) -> st.SearchStrategy[Any]:
            operands = st.lists(
                inner.filter(lambda node: not isinstance(node, kind)), min_size=2, max_size=3
            )
            return operands.map(lambda some: kind(tuple(some)))

        return (
            st.builds(syntax.Negation, inner) | flat(syntax.Conjunction) | flat(syntax.Disjunction)
        )

    return st.recursive(leaves, more, max_leaves=6)


QUANTIFIED = st.builds(
    syntax.Quantified,
    st.just("proxyaddresses"),
    st.sampled_from(["any", "all"]),
    combined(comparisons(syntax.ITEM, anything=True)),
)
TREES = combined(
    comparisons("department", anything=False)
    | comparisons("extensionattribute3", anything=True)
    | QUANTIFIED
)
TEXTS = st.text(max_size=6) | st.sampled_from(["Sales", "7", "2026-01-01", "true"])
VALUES = st.none() | TEXTS | st.lists(TEXTS, min_size=1, max_size=3).map(tuple)


@given(TREES)
@settings(max_examples=300, deadline=None)
def test_a_printed_rule_reads_as_the_same_tree(tree: syntax.Node) -> None:
    assert parse_rule(print_rule(tree)) == tree


@given(TREES, st.dictionaries(st.sampled_from(["department", "proxyaddresses"]), VALUES))
@settings(max_examples=300, deadline=None)
def test_a_rule_and_its_negation_disagree_on_every_user(
    tree: syntax.Node, user: dict[str, Value]
) -> None:
    keys = sorted(properties_of(tree))
    values = [user.get(key) for key in keys]
    negation = compile_rule(syntax.Negation(tree), keys)
    assert compile_rule(tree, keys)(values) is not negation(values)


PIECES = st.sampled_from(
    [
        *(
            "user.department",
            "user.otherMails",
            "user.",
            "_",
            "-eq",
            "-any",
            "-match",
            "-in",
            "-not",
        ),
        *(
            "-and",
            "-or",
            "(",
            ")",
            "[",
            "]",
            ",",
            '"',
            "'",
            "`",
            '"a"',
            "null",
            "true",
            "7",
            "\\",
            "–",
        ),
    ]
)


@given(st.lists(PIECES, max_size=40).map(" ".join) | st.text(max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_rule_or_a_mistake_with_its_place(text: str) -> None:
    tree, position = None, 1
    try:
        tree = parse_rule(text)
    except MembershipRuleError as error:
        position = error.position
    assert 1 <= position <= len(text) + 1
    assert tree is None or parse_rule(print_rule(tree)) == tree


def test_an_expression_that_takes_exponential_time_elsewhere_takes_none_here() -> None:
    rule = compile_rule(parse_rule('user.mail -match "^(a+)+$"'), ["mail"])
    began = time.perf_counter()
    assert not rule(["a" * 1023 + "!"])
    assert time.perf_counter() - began < limit_seconds(0.1)


def test_the_longest_expression_takes_time_in_proportion_to_the_text() -> None:
    pattern = "(a?){12}" * 60 + "b"
    rule = compile_rule(parse_rule(f'user.mail -match "{pattern[:255]}"'), ["mail"])
    began = time.perf_counter()
    for _ in range(10):
        rule(["a" * 1024])
    assert time.perf_counter() - began < limit_seconds(2)


def test_properties_are_named_without_regard_to_case() -> None:
    assert all(key == key.lower() for key in PROPERTIES)
    assert parse_rule('user.JOBTITLE -eq "x"') == parse_rule('user.jobTitle -eq "x"')
