"""The words of Microsoft Graph that appear in records: states, errors, unit kinds.

The enumerations are for code that lists or validates them. The engine itself uses the plain
strings below: they are what rows and records hold, whichever build wrote them, and JSON encoders
accept nothing else as a member's name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class LicenseState(StrEnum):
    """``licenseAssignmentStates.state`` (rules, section 7)."""

    ACTIVE = "Active"
    DISABLED = "Disabled"
    ACTIVE_WITH_ERROR = "ActiveWithError"
    ERROR = "Error"


class AssignmentError(StrEnum):
    """``licenseAssignmentStates.error`` (R7), in the order in which the checks are made."""

    NONE = "None"
    LOCATION = "ProhibitedInUsageLocationViolation"
    CONFLICT = "MutuallyExclusiveViolation"
    DEPENDENCY = "DependencyViolation"
    UNIQUENESS = "UniquenessViolation"
    COUNT = "CountViolation"
    OTHER = "Other"


class UnitKind(StrEnum):
    """``prepaidUnits`` of a subscription (R15)."""

    ENABLED = "enabled"
    WARNING = "warning"
    SUSPENDED = "suspended"
    LOCKED_OUT = "lockedOut"


class CapabilityStatus(StrEnum):
    """``capabilityStatus`` of a product's subscription (R15)."""

    ENABLED = "Enabled"
    WARNING = "Warning"
    SUSPENDED = "Suspended"
    LOCKED_OUT = "LockedOut"
    DELETED = "Deleted"


class GroupProcessingState(StrEnum):
    """``licenseProcessingState`` of a group."""

    QUEUED = "QueuedForProcessing"
    IN_PROGRESS = "ProcessingInProgress"
    COMPLETE = "ProcessingComplete"


class RuleProcessingState(StrEnum):
    """``membershipRuleProcessingState`` of a group with a membership rule (R27)."""

    ON = "On"
    PAUSED = "Paused"


class ResultStatus(StrEnum):
    """``status`` of a record of ``results`` (R16, R20, R21)."""

    APPLIED = "applied"
    REJECTED = "rejected"
    DEFERRED = "deferred"


ACTIVE: Final = LicenseState.ACTIVE.value
DISABLED: Final = LicenseState.DISABLED.value
ACTIVE_WITH_ERROR: Final = LicenseState.ACTIVE_WITH_ERROR.value
ERROR: Final = LicenseState.ERROR.value

NONE: Final = AssignmentError.NONE.value
LOCATION: Final = AssignmentError.LOCATION.value
CONFLICT: Final = AssignmentError.CONFLICT.value
DEPENDENCY: Final = AssignmentError.DEPENDENCY.value
UNIQUENESS: Final = AssignmentError.UNIQUENESS.value
COUNT: Final = AssignmentError.COUNT.value
OTHER: Final = AssignmentError.OTHER.value

UNIT_KINDS: Final = tuple([kind.value for kind in UnitKind])
ASSIGNMENT_ERRORS: Final = tuple([e.value for e in AssignmentError if e.value != NONE])
LICENSE_STATES: Final = tuple([state.value for state in LicenseState])
CAPABILITY_STATUSES: Final = tuple([status.value for status in CapabilityStatus])
GROUP_PROCESSING_STATES: Final = tuple([state.value for state in GroupProcessingState])
RULE_PROCESSING_STATES: Final = tuple([state.value for state in RuleProcessingState])
RESULT_STATUSES: Final = tuple([status.value for status in ResultStatus])


def processing_state(paused: bool) -> str:
    """Returns the ``membershipRuleProcessingState`` of a rule."""
    return RuleProcessingState.PAUSED.value if paused else RuleProcessingState.ON.value
