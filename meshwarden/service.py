"""From the config file's words to the edge's: one CheckService, built the same everywhere."""

from collections.abc import Callable

import uuid_utils

from authz.check import CheckService
from authz.decision import CheckSettings
from meshwarden.settings import Settings
from telemetry.record import DecisionRecord

__all__ = ["check_service", "check_settings", "new_id"]


def new_id() -> str:
    """Make a decision's id: a UUIDv7, so that ids sort by time."""
    return str(uuid_utils.uuid7())


def check_settings(settings: Settings) -> CheckSettings:
    """Translate [check] and [decisions] for the edge."""
    check = settings.check
    return CheckSettings(
        denied_body=check.denied.body,
        reveal_rule_to_client=check.denied.reveal_rule,
        request_headers=check.allowed.request_headers,
        remove_request_headers=check.allowed.remove_request_headers,
        allowed_response_headers=check.allowed.response_headers,
        denied_response_headers=check.denied.response_headers,
        challenge=check.denied.challenge,
        ambiguous_paths=check.ambiguous_paths,
        max_request_bytes=check.max_request_bytes,
        trusted_hops=check.trusted_hops,
        sample_allows=settings.decisions.sample_allows,
        record_headers=settings.decisions.headers,
        record_claims=settings.decisions.claims,
        error_response=check.error_response,
    )


def check_service(
    settings: Settings, offer: Callable[[DecisionRecord], None] | None = None
) -> CheckService[DecisionRecord]:
    """Build what answers Check; it has no policy yet."""
    return CheckService(check_settings(settings), new_id, offer, DecisionRecord)
