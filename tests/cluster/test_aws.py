"""cluster.yaml launched on AWS as moto plays it, up to where SSH would begin."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from tests.cluster.test_files import prepared, read

pytest.importorskip("moto")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An empty account, a home of one's own for the key that Ray makes, and no waits."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-west-2")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        home = tmp_path_factory.mktemp("home")
        (home / ".ssh").mkdir()
        patch.setenv("HOME", str(home))
        patch.setattr("time.sleep", lambda seconds: None)
        from moto import mock_aws

        with mock_aws():
            import boto3

            iam = boto3.client("iam")
            for name in ("farm-head", "farm-worker"):  # as docs/cluster.md makes them
                iam.create_instance_profile(InstanceProfileName=name)
            yield boto3.client("ec2", region_name="us-west-2")


@pytest.fixture(scope="module")
def launched(cloud: Any) -> dict[str, Any]:
    """One node of each type, as the launcher asks for it; by type."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    image = cloud.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    config = read("cluster.yaml")
    for node_type in config["available_node_types"].values():
        node_type["node_config"]["ImageId"] = image
    ready = AWSNodeProvider.fillout_available_node_types_resources(prepared(config))
    ready = bootstrap_aws(ready)
    provider = AWSNodeProvider(ready["provider"], ready["cluster_name"])
    kinds = {"head": "head", "gpu_spot": "worker", "gpu_on_demand": "worker"}
    for name, kind in kinds.items():
        node = ready["available_node_types"][name]["node_config"]
        if kind == "head":
            node = {**node, **ready["head_node"]}
        tags = {"ray-node-type": kind, "ray-user-node-type": name, "ray-node-name": f"ray-farm-{kind}"}
        provider.create_node(deepcopy(node), tags, 1)
    found = {}
    for reservation in cloud.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            found[tags["ray-user-node-type"]] = instance | {"tags": tags}
    return {"nodes": found, "config": ready, "image": image}


def test_machines_are_of_the_right_kind(launched: dict[str, Any]) -> None:
    nodes = launched["nodes"]
    assert {name: node["InstanceType"] for name, node in nodes.items()} == {
        "head": "m7i.xlarge",
        "gpu_spot": "g6.2xlarge",
        "gpu_on_demand": "g6.2xlarge",
    }
    assert {node["ImageId"] for node in nodes.values()} == {launched["image"]}
    assert {name for name, node in nodes.items() if node.get("InstanceLifecycle") == "spot"} == {"gpu_spot"}
    for node in nodes.values():
        assert node["tags"]["ray-cluster-name"] == "farm"
        assert node["tags"]["project"] == "farm"
    resources = {name: t["resources"] for name, t in launched["config"]["available_node_types"].items()}
    assert resources["head"]["CPU"] == 0
    assert resources["gpu_spot"]["GPU"] == resources["gpu_on_demand"]["GPU"] == 1


def test_ports_are_open_inside_the_group_only(cloud: Any, launched: dict[str, Any]) -> None:
    groups = {group["GroupId"] for node in launched["nodes"].values() for group in node["SecurityGroups"]}
    assert len(groups) == 1
    [group] = cloud.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    assert group["GroupName"] == "farm"
    for rule in group["IpPermissions"]:
        if rule["IpRanges"]:  # from outside
            assert (rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) == (22, 22, "tcp")
        else:
            assert {pair["GroupId"] for pair in rule["UserIdGroupPairs"]} == groups


def test_head_and_workers_have_their_own_rights(launched: dict[str, Any]) -> None:
    profiles = {
        name: node["IamInstanceProfile"]["Arn"].rpartition("/")[2] for name, node in launched["nodes"].items()
    }
    assert profiles == {"head": "farm-head", "gpu_spot": "farm-worker", "gpu_on_demand": "farm-worker"}


@pytest.mark.parametrize("name", ["cluster.yaml", "clusters/gcp.yaml"])
def test_spot_is_preferred_to_on_demand(name: str) -> None:
    types = read(name)["available_node_types"]
    assert types["gpu_spot"]["priority"] > types["gpu_on_demand"]["priority"]
