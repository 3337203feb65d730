"""Every operator (chaos.py) with its weight: what users do, and what goes wrong."""

from random import Random

from tests.simulation.chaos import Operator
from tests.simulation.deceit_faults import impostor, liar, stranger
from tests.simulation.disk_faults import failing_disk, full_disk, slow_disk
from tests.simulation.network_faults import drop, half_open, one_way, partition, throttle, ztunnel_drop
from tests.simulation.process_faults import (
    crash,
    downgrade,
    gateway_restart,
    lose_disk,
    new_issuer,
    pause,
    power_loss,
    recreate,
    restart,
    skew,
    upgrade,
    ztunnel_restart,
    ztunnel_stall,
)
from tests.simulation.user_operators import (
    addresses,
    delete,
    edit,
    inherit,
    label,
    mirror,
    move,
    policy,
    relabel,
    relink,
    scale,
    segment,
)

USERS: dict[str, tuple[int, Operator]] = {
    "scale": (6, scale),
    "label": (3, label),
    "edit": (2, edit),
    "delete": (1, delete),
    "policy": (2, policy),
    "relink": (1, relink),
    "move": (1, move),
    "relabel": (1, relabel),
    "segment": (1, segment),
    "mirror": (1, mirror),
    "inherit": (1, inherit),
    "addresses": (1, addresses),
}
FAULTS: dict[str, tuple[int, Operator]] = {
    "partition": (3, partition),
    "one way": (3, one_way),
    "drop": (3, drop),
    "half-open": (3, half_open),
    "throttle": (2, throttle),
    "ztunnel drop": (2, ztunnel_drop),
    "ztunnel restart": (1, ztunnel_restart),
    "ztunnel stall": (1, ztunnel_stall),
    "gateway restart": (1, gateway_restart),
    "pause": (3, pause),
    "restart": (2, restart),
    "upgrade": (1, upgrade),
    "downgrade": (1, downgrade),
    "crash": (2, crash),
    "power loss": (1, power_loss),
    "disk loss": (1, lose_disk),
    "full disk": (1, full_disk),
    "failing disk": (1, failing_disk),
    "slow disk": (1, slow_disk),
    "recreate": (1, recreate),
    "skew": (1, skew),
    "new issuer": (1, new_issuer),
    "impostor": (1, impostor),
    "stranger": (2, stranger),
    "liar": (2, liar),
}


def draw(random: Random, operators: dict[str, tuple[int, Operator]]) -> str:
    """The name of one of them, by weight."""
    names = list(operators)
    return random.choices(names, [operators[each][0] for each in names])[0]
