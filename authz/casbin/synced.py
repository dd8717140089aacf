"""casbin.SyncedEnforcer and casbin.DistributedEnforcer, around our Enforcer."""

from typing import Any

import casbin
from casbin.synced_enforcer import AtomicBool
from casbin.util.rwlock import RWLockWrite

from authz.casbin.enforcer import Enforcer

__all__ = ["DistributedEnforcer", "SyncedEnforcer"]


class SyncedEnforcer(casbin.SyncedEnforcer):  # type: ignore[misc]  # casbin has no types
    """casbin.SyncedEnforcer, deciding by the engine."""

    def __init__(self, model: Any = None, adapter: Any = None) -> None:
        # pycasbin's own constructor would make, and load, one of its own enforcers.
        self._e = Enforcer(model, adapter)
        self._rwlock = RWLockWrite()
        self._rl = self._rwlock.gen_rlock()
        self._wl = self._rwlock.gen_wlock()
        self._auto_loading = AtomicBool(False)  # noqa: FBT003 - pycasbin's
        self._auto_loading_thread = None


class DistributedEnforcer(SyncedEnforcer, casbin.DistributedEnforcer):  # type: ignore[misc]
    """casbin.DistributedEnforcer, deciding by the engine."""

    def __init__(self, model: Any = None, adapter: Any = None) -> None:
        SyncedEnforcer.__init__(self, model, adapter)
