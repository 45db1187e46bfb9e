"""Which processes a run consists of, as TF_CONFIG says.

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                "task": {"type": "worker", "index": 0}}'

Every worker is started with the same command and the same "cluster"; "task" says which one it is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from electra_tf2.errors import UserError

VARIABLE = "TF_CONFIG"
_ADDRESS = re.compile(r"(\[[^\]]+\]|[^:\s]+):(\d{1,5})")
_TYPES = ("chief", "worker")
_EXAMPLE = (
    """'{"cluster": {"worker": ["host1:2222", "host2:2222"]}, """
    """"task": {"type": "worker", "index": 0}}'"""
)


class Cluster(NamedTuple):
    """The workers of a run.

    Attributes:
        addresses: "host:port" of each, the chief first.
        index: which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.index == 0


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Reads TF_CONFIG.

    Args:
        environment: environment variables by name.

    Returns:
        The cluster.

    Raises:
        UserError: the variable is missing or malformed; says where.
    """
    text = environment.get(VARIABLE)
    if not text:
        raise _malformed("no such environment variable")
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _malformed(f"{text!r}: no JSON, {error.msg} at character {error.pos + 1}") from error
    cluster, task = (_object(config, key) for key in ("cluster", "task"))
    others = sorted(set(cluster) - set(_TYPES))
    if others:
        raise _malformed(f'"cluster" has {", ".join(others)}', 'Only "worker" and "chief" are used')
    addresses = [_addresses(cluster, kind) for kind in _TYPES]
    if len(addresses[0]) > 1:
        raise _malformed(f'{len(addresses[0])} addresses in "chief"', "There is one chief at most")
    both = [*addresses[0], *addresses[1]]
    if not both:
        raise _malformed('"cluster" without a "worker"')
    double = sorted({address for address in both if both.count(address) > 1})
    if double:
        raise _malformed(f"{', '.join(double)} twice", "Each worker needs a port of its own")
    return Cluster(tuple(both), _index(task, [len(a) for a in addresses]))


def _object(config: Any, key: str) -> dict[str, Any]:
    value = config.get(key) if isinstance(config, dict) else None
    if not isinstance(value, dict):
        raise _malformed(f'no object "{key}"')
    return value


def _addresses(cluster: dict[str, Any], kind: str) -> list[str]:
    addresses = cluster.get(kind, [])
    if not isinstance(addresses, list):
        raise _malformed(f'"{kind}" is {addresses!r}', "Give a list of addresses")
    for address in addresses:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if match is None or not 0 < int(match[2]) < 1 << 16:
            raise _malformed(f'{address!r} in "{kind}"', "An address is host:port")
    return addresses


def _index(task: dict[str, Any], counts: list[int]) -> int:
    kind, index = task.get("type"), task.get("index")
    if kind not in _TYPES:
        raise _malformed(f'"task" has type {kind!r}', 'Give "worker", or "chief" if there is one')
    count = counts[_TYPES.index(kind)]
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise _malformed(
            f'"task" has index {index!r}; "cluster" has {count} of type {kind}',
            "Count from 0",
        )
    return index + (counts[0] if kind == "worker" else 0)


def _malformed(received: str, hint: str = "") -> UserError:
    return UserError(
        "The workers of the run are not known.",
        where=f"environment variable {VARIABLE}",
        received=received,
        remedy=f"{hint}{': ' if hint else 'Set it on every host: '}{VARIABLE}={_EXAMPLE}.",
    )
