"""Is every node of a cluster fit for a sweep: the same code, the same versions, one storage."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from farm.base.errors import UserError
from farm.store import Store

# What numbers depend on. Ray compares its own version when a node joins.
_PACKAGES = ("numpy", "scipy", "pandas", "scikit-learn", "statsmodels", "arch", "torch", "pydantic")
_CODE = Path(__file__).parents[1]  # not farm.__file__: beside a folder named farm there is none
BOOTSTRAP = "~/ray_bootstrap_config.yaml"  # where `ray up` leaves the cluster file on the head
_PATIENCE = 120.0  # seconds that all nodes together may take to answer: each starts a process


@cache
def fingerprint() -> dict[str, str]:
    """Give the versions here of what a result depends on, the farm's own code as a digest.

    The version of torch is compared without what it was built for, such as ``+cpu``.
    """
    root, digest = _CODE, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    versions = {name: metadata.version(name).partition("+")[0] for name in _PACKAGES}
    return {"farm": digest.hexdigest()[:12], "python": platform.python_version(), **versions}


def launchable() -> list[dict[str, float]]:
    """Give the resources of each type of node that the autoscaler of this cluster may launch.

    Autoscaled clusters begin with a head alone, so what is up says little of what a trial may ask for.
    Ray's own record of these types is filled by few clusters; the launcher leaves its file on the head,
    where the driver runs.

    Returns
    -------
    list of dict
        By Ray's names, such as ``{"CPU": 8, "GPU": 1}``; empty where nothing is launched.
    """
    import yaml  # slow to import, and a sweep on one machine needs none of it
    from ray._private.state import state

    record = state.get_cluster_config()
    if record is not None and record.node_group_configs:
        return [dict(group.resources) for group in record.node_group_configs if group.max_count]
    try:
        config = yaml.safe_load(Path(BOOTSTRAP).expanduser().read_text()) or {}
    except FileNotFoundError:
        return []
    types = config.get("available_node_types", {}).values()
    return [dict(kind.get("resources", {})) for kind in types if kind.get("max_workers", 0)]


def objection(
    node: str, here: Mapping[str, str], there: Mapping[str, str], root: str, *, shared: bool
) -> str:
    """Say in one line what speaks against a node.

    Parameters
    ----------
    node
        Its address.
    here, there
        The `fingerprint` of the driver and of the node.
    root
        Where the store is.
    shared
        Whether the node sees in the store what the driver has put there.

    Returns
    -------
    str
        ``""`` if nothing does.
    """
    other = [
        f"{name} {there.get(name, 'missing')} instead of {version}"
        for name, version in here.items()
        if there.get(name) != version
    ]
    if other:
        return (
            f"node {node} differs from the driver ({', '.join(other)}):"
            " run `ray up` again, so that every node has this checkout and its lock file"
        )
    if not shared:
        return (
            f"storage {root!r} is not shared: node {node} does not see what the driver writes there:"
            " give --storage an s3:// or gs:// URI, or a folder that every node has from NFS"
        )
    return ""


def check_nodes(store: Store) -> None:
    """See that every node of the cluster that was joined has this code and reaches this store.

    One task a node, which takes no core. A cluster of one node has nothing to compare.

    Raises
    ------
    UserError
        If a node does not, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) < 2:
        return
    mark = store.leave_mark()
    try:
        task = ray.remote(_look)
        looks = [
            task.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(store.root, mark)
            for node in nodes
        ]
        for look, node in zip(looks, nodes.values(), strict=True):
            try:
                there, shared = ray.get(look, timeout=_PATIENCE)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1][:200]
                raise UserError(
                    f"node {node} cannot run this farm ({reason}): run `ray up` again, so that every node"
                    " has this checkout and its lock file"
                ) from error
            if found := objection(node, fingerprint(), there, store.root, shared=shared):
                raise UserError(found)
    finally:
        store.remove_mark(mark)


def _look(root: str, mark: str) -> tuple[dict[str, str], bool]:
    return fingerprint(), Store(root).sees_mark(mark)
