"""Asks a Workload API as another user; run as a program, by root.

    python -m tests.e2e.support.other_user SOCKET UID [AUDIENCE]

Everything is imported before it becomes that user, who may not be able to read any of it.
"""

import json
import os
import sys

import grpc

from tests.e2e.support.agent import served, served_token

__all__ = ["main"]


def main(socket: str, uid: int, audience: str = "") -> None:
    """Print what that user gets, as JSON: the code, the message, the SPIFFE IDs."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    try:
        reply = served_token(socket, audience) if audience else served(socket)
    except grpc.RpcError as error:
        told = {"code": error.code().name, "message": error.details(), "ids": []}
    else:
        told = {"code": "OK", "message": "", "ids": [each.spiffe_id for each in reply.svids]}
    print(json.dumps(told))  # noqa: T201 - what it is for


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
