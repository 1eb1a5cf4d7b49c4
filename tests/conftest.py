"""What all tests share."""

import os

import pytest

import autograd_core as ag


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    ag.manual_seed(0)


def pytest_collection_modifyitems(items):
    if os.environ.get("AG_TEST_NETWORK"):
        return
    skip = pytest.mark.skip(reason="needs the internet; set AG_TEST_NETWORK=1 to run it")
    for item in items:
        if "network" in item.keywords:
            item.add_marker(skip)
