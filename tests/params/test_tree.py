import jax
import numpy as np
import pytest
from flax import nnx

from swag_jax._checks import UserError
from swag_jax.params.tree import flat_parameters, shapes_of, with_parameters


class Inner(nnx.Module):
    def __init__(self, width):
        self.kernel = nnx.Param(jax.numpy.zeros((2, width)))
        self.bias = nnx.Param(jax.numpy.zeros(width))


class Outer(nnx.Module):
    def __init__(self, width=3):
        self.conv2 = Inner(width)
        self.conv1 = Inner(1)


SHAPES = {"conv1.bias": (1,), "conv1.kernel": (2, 1), "conv2.bias": (3,), "conv2.kernel": (2, 3)}


@pytest.mark.parametrize("module", [Outer(), nnx.eval_shape(Outer)], ids=["made", "abstract"])
def test_arrays_are_replaced_by_name(module):
    assert list(shapes_of(module).items()) == list(SHAPES.items())
    arrays = {name: np.arange(np.prod(shape), dtype=np.float64).reshape(shape) for name, shape in SHAPES.items()}
    replaced = flat_parameters(with_parameters(module, arrays))
    assert replaced.keys() == arrays.keys()
    for name, array in replaced.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays[name])


def test_every_misfit_is_in_one_report():
    arrays = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    del arrays["conv1.kernel"], arrays["conv1.bias"]
    with pytest.raises(UserError) as caught:
        with_parameters(Outer(), arrays | {"conv2.bias": np.zeros(1), "extra": np.zeros(1)})
    assert str(caught.value).splitlines() == [
        "arrays must fit Outer; misfits: 4",
        "  conv2.bias has shape (1,), expected (3,)",
        "  unexpected extra",
        "  missing conv1.bias",
        "  missing conv1.kernel.",
    ]
