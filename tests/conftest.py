"""Asserts of the shared contract of stores are told in full, whichever test file imports it first."""

import pytest

pytest.register_assert_rewrite("store_contract")
