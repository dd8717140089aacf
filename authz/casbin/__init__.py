"""pycasbin's enforcers, by the names pycasbin has for them, deciding by our engine."""

from authz.casbin.enforcer import AsyncEnforcer, Enforcer, FastEnforcer
from authz.casbin.synced import DistributedEnforcer, SyncedEnforcer

__all__ = [
    "AsyncEnforcer",
    "DistributedEnforcer",
    "Enforcer",
    "FastEnforcer",
    "SyncedEnforcer",
]
