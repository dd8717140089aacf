"""A policy's text as it crosses between commands and control."""

from authz.policy.rules import PolicyText, Row
from protos.meshwarden.v1 import policy_pb2

__all__ = ["row_from", "row_message", "text_from", "text_message"]


def text_message(text: PolicyText) -> policy_pb2.PolicyText:
    """Put a policy into the form that crosses."""
    return policy_pb2.PolicyText(
        model=text.model,
        model_file=text.model_file,
        rows=[row_message(row) for row in text.rows],
    )


def text_from(message: policy_pb2.PolicyText) -> PolicyText:
    """Take a policy out of the form that crosses."""
    return PolicyText(message.model, tuple(map(row_from, message.rows)), message.model_file)


def row_message(row: Row) -> policy_pb2.Row:
    """Put a row into the form that crosses."""
    return policy_pb2.Row(ptype=row.ptype, values=row.values, file=row.file, line=row.line)


def row_from(message: policy_pb2.Row) -> Row:
    """Take a row out of the form that crosses."""
    return Row(message.ptype, tuple(message.values), message.file, message.line)
