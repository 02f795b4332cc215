r"""Products whose derivatives are written by hand, and through which every transformation of JAX passes.

A function B(a, b) that is linear in a and in b has two adjoints,

.. math:: \langle g, B(a, b) \rangle = \langle L(g, b), a \rangle = \langle R(a, g), b \rangle,

and each of the three is linear in both of its operands, with the other two as its adjoints. As primitives that know
this they are closed under differentiation, forward, reverse and mixed. `jax.custom_vjp` would stop forward mode, and
with it Hessians.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

Form: TypeAlias = Callable[..., Array]
"""Computes B, L or R from arrays and, by name, `shape`, that of the result, and the product's constants."""

_A, _B, _Y = 0, 1, 2  # places in the shapes of a, b and B(a, b)


class Bilinear:
    """A product B(a, b), to be called with its operands.

    What is prepared of b, ahead, once for many calls, and linear in b, is given to B and L after b.
    """

    def __init__(
        self, name: str, *, product: Form, left: Form, right: Form, prepare: Callable[[Array], tuple[Array, ...]]
    ):
        self._prepare = prepare
        self._product = _primitive(name, product, prepare, self._adjoints_of_product, makes=_Y)
        self._left = _primitive(f"{name}_left", left, prepare, self._adjoints_of_left, makes=_A)
        self._right = _primitive(f"{name}_right", right, lambda _: (), self._adjoints_of_right, makes=_B)

    def __call__(self, a: Array, b: Array, *prepared: Array, shape: Sequence[int], **constants: Any) -> Array:
        """Return B(a, b), of a `shape`; the forms are given the constants, which are hashable."""
        shapes = (a.shape, b.shape, tuple(shape))
        return self._product.bind(a, b, *prepared, shapes=shapes, constants=tuple(constants.items()))

    # What was prepared of an operand gets no adjoint: the operand itself is given the whole one.

    # <g, B(a, b)> = <L(g, b), a> = <R(a, g), b>

    def _adjoints_of_product(self, g, a, b, *prepared, **params):
        if ad.is_undefined_primal(a):
            return [self._left.bind(g, b, *prepared, **params), None, *[None] * len(prepared)]
        return [None, self._right.bind(a, g, **params), *map(_no_adjoint, prepared)]

    # <a, L(g, b)> = <B(a, b), g> = <R(a, g), b>

    def _adjoints_of_left(self, a, g, b, *prepared, **params):
        if ad.is_undefined_primal(g):
            return [self._product.bind(a, b, *prepared, **params), None, *[None] * len(prepared)]
        return [None, self._right.bind(a, g, **params), *map(_no_adjoint, prepared)]

    # <b, R(a, g)> = <L(g, b), a> = <B(a, b), g>

    def _adjoints_of_right(self, b, a, g, **params):
        if ad.is_undefined_primal(a):
            return [self._left.bind(g, b, *self._prepare(b), **params), None]
        return [None, self._product.bind(a, b, *self._prepare(b), **params)]


def _primitive(name: str, form: Form, prepare: Callable[..., Any], adjoints: Callable[..., Any], *, makes: int):
    """Return a primitive P(u, v) that is computed by a form and makes one of the three shapes, of u's type."""

    def compute(*operands, shapes, constants):
        return form(*operands, shape=shapes[makes], **dict(constants))

    def jvp(primals, tangents, **params):  # P' = P(u', v) + P(u, v')
        (u, v, *prepared), (of_u, of_v, *_) = primals, tangents
        terms = [primitive.bind(of_u, v, *prepared, **params)] if not _is_zero(of_u) else []
        terms += [primitive.bind(u, of_v, *prepare(of_v), **params)] if not _is_zero(of_v) else []
        y = primitive.bind(*primals, **params)
        return y, sum(terms[1:], start=terms[0]) if terms else ad.Zero(jax.typeof(y).to_tangent_aval())

    def transpose(cotangent, *operands, **params):
        return [None] * len(operands) if _is_zero(cotangent) else adjoints(cotangent, *operands, **params)

    def batched(operands, places, *, shapes, constants):
        first, *others = operands
        size = next(x.shape[place] for x, place in zip(operands, places, strict=True) if place is not None)
        if makes == _B or any(place is not None for place in places[1:]):
            one = lambda *arrays: compute(*arrays, shapes=shapes, constants=constants)  # noqa: E731
            return jax.vmap(one, places)(*operands), 0
        # A batch of u alone becomes one longer axis: the forms see, and choose by, the whole batch.
        first = jnp.moveaxis(first, places[0], 0)
        longer = tuple((size * s[0], *s[1:]) if place != _B else s for place, s in enumerate(shapes))
        y = primitive.bind(first.reshape(-1, *first.shape[2:]), *others, shapes=longer, constants=constants)
        return y.reshape(size, -1, *y.shape[1:]), 0

    # A primitive needs a rule for each of JAX's passes.
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(compute, static_argnames=("shapes", "constants")))
    primitive.def_abstract_eval(lambda first, *_, shapes, constants: ShapedArray(shapes[makes], first.dtype))
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batched
    return primitive


def _is_zero(tangent: Any) -> bool:
    return type(tangent) is ad.Zero


def _no_adjoint(prepared: Any) -> Any:
    return ad.Zero(prepared.aval) if ad.is_undefined_primal(prepared) else None
