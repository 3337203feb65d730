"""The table of resources (peerd/kubeapi/resources.py), against what a real API server serves."""

import pytest

from peerd.kubeapi import resources
from peerd.kubeapi.objects import Resource
from tests.support.apiserver import ApiServer

TABLE = {name: found for name, found in vars(resources).items() if isinstance(found, Resource)}


@pytest.mark.parametrize("name", TABLE)
def test_a_resource_is_served_as_the_table_has_it(api_server: ApiServer, name: str) -> None:
    """Group, version, plural, kind, and whether it lies in namespaces."""
    found = TABLE[name]
    root = found.path().rpartition("/")[0]
    served = {each["name"]: each for each in api_server.admin.request("GET", root)["resources"]}
    assert (served[found.plural]["kind"], served[found.plural]["namespaced"]) == (
        found.kind,
        found.namespaced,
    )


def test_no_two_rows_are_one_resource() -> None:
    """Or a change of one would leave the other behind."""
    assert len({(found.group, found.plural) for found in TABLE.values()}) == len(TABLE)
