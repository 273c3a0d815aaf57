"""Every cookbook program runs in both namespaces, under the settings its figures come from."""

from __future__ import annotations

import pytest

from tests.cookbook.data import NAMESPACES, cookbook_settings, parameters, regression


@pytest.fixture(autouse=True)
def _settings():
    with cookbook_settings():
        yield


@pytest.fixture(params=NAMESPACES)
def xp(request):
    """The array namespace a program is written with."""
    return NAMESPACES[request.param]


@pytest.fixture
def drawn():
    """The parameters drawn from key 0: `key`, `W`, `b`."""
    return parameters()


@pytest.fixture
def model(xp):
    """The logistic regression written with the namespace: `predict`, `loss`."""
    return regression(xp)
