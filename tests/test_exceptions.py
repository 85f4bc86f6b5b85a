"""Errors are caught as ours or as the builtin a caller expects, and survive the way between processes."""

import pickle

import pytest

from airflow_provider_ophys import exceptions

LEAVES = [
    cls
    for cls in vars(exceptions).values()
    if isinstance(cls, type) and issubclass(cls, Exception) and cls is not exceptions.OphysError
]


@pytest.mark.parametrize("error_class", LEAVES, ids=lambda cls: cls.__name__)
def test_is_an_ophys_error_and_a_builtin(error_class):
    assert issubclass(error_class, exceptions.OphysError)
    builtins = [base for base in error_class.__mro__ if base.__module__ == "builtins"]
    assert builtins[0] is not Exception, "every leaf is also the builtin that a caller would catch"


@pytest.mark.parametrize("error_class", LEAVES, ids=lambda cls: cls.__name__)
def test_survives_pickling_with_its_message(error_class):
    error = pickle.loads(pickle.dumps(error_class("what is wrong, where, what to do")))  # noqa: S301
    assert type(error) is error_class
    assert str(error) == "what is wrong, where, what to do"


@pytest.mark.parametrize("error_class", LEAVES, ids=lambda cls: cls.__name__)
def test_stands_in_the_tree_of_the_module_docstring(error_class):
    assert error_class.__name__ in exceptions.__doc__
