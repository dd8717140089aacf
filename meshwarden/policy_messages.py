"""A policy's text as it crosses between commands and control."""

from authz.policy.rules import PolicyText, Row
from protos.meshwarden.v1 import policy_pb2

__all__ = ["text_from", "text_message"]


def text_message(text: PolicyText) -> policy_pb2.PolicyText:
    """Put a policy into the form that crosses."""
    return policy_pb2.PolicyText(
        model=text.model,
        model_file=text.model_file,
        rows=[
            policy_pb2.Row(ptype=row.ptype, values=row.values, file=row.file, line=row.line)
            for row in text.rows
        ],
    )


def text_from(message: policy_pb2.PolicyText) -> PolicyText:
    """Take a policy out of the form that crosses."""
    rows = tuple(Row(row.ptype, tuple(row.values), row.file, row.line) for row in message.rows)
    return PolicyText(message.model, rows, message.model_file)
