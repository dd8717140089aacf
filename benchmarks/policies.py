"""Mesh policies of any size that allow the benchmarks' request by one rule of many.

The same size gives the same text always: no chance in it.
"""

__all__ = ["at_once", "shop"]

_ORDERS = """\
g, shop.example/ns/prod/sa/frontend, role:shop
g, shop.example/ns/prod/sa/console, role:admin
g, shop.example/ns/batch/sa/*, role:jobs
g, shop.example/ns/audit/sa/*, role:audit
p, *, orders, GET|HEAD, /health, allow
p, role:shop, orders, POST, /orders, allow
p, role:jobs, orders, GET, /orders/*/total, allow
p, role:jobs, orders, GET, /reports/**, allow, request.headers['x-window'] == 'night'
p, shop.example/ns/prod/sa/*, orders, GET, /status, allow
p, role:admin, orders, *, /**, allow
p, *, orders, DELETE|PUT|PATCH, /orders/archive/**, deny
p, role:audit, orders, GET, /orders/archive/**, allow
p, role:shop, orders, GET|HEAD, /orders/{id}/items/*, allow
p, role:shop, orders, GET|HEAD, /orders/**, allow
"""
_ORDERS_RULES = 10

# What each further service of the mesh allows, in turn.
_SERVICE = (
    "p, shop.example/ns/team-{team}/sa/caller-{service}, {name}, GET, /v1/items/*, allow",
    "p, role:team-{team}, {name}, GET|POST, /v1/items/**, allow",
    "p, shop.example/ns/prod/sa/*, {name}, GET, /status, allow",
    "p, role:admin, {name}, *, /**, allow",
    "p, *, {name}, DELETE, /v1/items/archive/**, deny",
)
_SERVICES_A_TEAM = 20


def at_once() -> str:
    """One rule that allows everything to everybody."""
    return "p, *, *, *, /**, allow\n"


def shop(rules: int) -> str:
    """A shop whose orders service has ten rules, and whatever services make up the rest.

    Args:
        rules: How many `p` lines, at least 10. Roles come on top: one a team.
    """
    assert rules >= _ORDERS_RULES
    lines = []
    for index in range(rules - _ORDERS_RULES):
        service = index // len(_SERVICE)
        team = service // _SERVICES_A_TEAM
        if index % (len(_SERVICE) * _SERVICES_A_TEAM) == 0:
            lines.append(f"g, shop.example/ns/team-{team}/sa/lead, role:team-{team}")
        template = _SERVICE[index % len(_SERVICE)]
        lines.append(template.format(service=service, team=team, name=f"service-{service}"))
    # Last, so that a scan from the top would find it last.
    return "\n".join([*lines, _ORDERS])
