"""One table says which form a convolution takes; nothing outside of this folder knows of forms.

XLA's CPU backend has slow paths (`benchmarks/README.md`). There a convolution and its gradients take the first form of
`FORMS` and `KERNEL_GRADIENTS` that suits them. Other devices take XLA's own operation.
"""

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from swag_jax._checks import check_name
from swag_jax._modes import has_mesh_types
from swag_jax._types import Activations, Border, Kernel, Padding
from swag_jax.backbones.kernels import _forms, _winograd
from swag_jax.backbones.kernels._depthwise import depthwise
from swag_jax.backbones.kernels._forms import Window, flip
from swag_jax.backbones.kernels._multilinear import Bilinear

Kernels: TypeAlias = Literal["auto", "xla", "cpu"]

KERNELS: tuple[Kernels, ...] = ("auto", "xla", "cpu")

NO_PADDING: Padding = ((0, 0), (0, 0))

VARIABLE = "SWAG_JAX_KERNELS"
"""The environment variable that says what `auto` means: `xla` turns all forms off."""


class Prepared(NamedTuple):
    """A kernel that will not change, with what its gradient needs. Opaque outside of this folder."""

    kernel: Kernel
    flipped: Kernel


class Case(NamedTuple):
    """What a form is chosen by: the input's type, its positions over the whole batch, and the kernel's shape."""

    dtype: Any
    positions: int
    shape: tuple[int, ...]
    window: Window

    @property
    def is_1x1(self) -> bool:
        return self.shape[:2] == (1, 1)


class Form(NamedTuple):
    """A way to compute a convolution, or its gradient at the kernel, and when it is faster than those below it."""

    name: str
    suits: Callable[[Case], bool]
    compute: Callable[..., Array]


WINOGRAD_WORK = 2**27
"""Positions times channels in times channels out from which Winograd's form is taken. It is faster from a quarter of
this on, but compiles 0.4 s longer: from here on 100 calls repay that."""


def _suits_winograd(case: Case) -> bool:
    few, many = sorted(case.shape[2:])
    is_large = few >= 128 and many >= 256 and case.positions * few * many >= WINOGRAD_WORK
    is_dense = case.shape[:2] == (3, 3) and case.window.stride == case.window.dilation == 1
    return case.dtype == jnp.float32 and is_dense and is_large


# What each saves, measured with `python benchmarks/speed_kernels.py`, is in benchmarks/README.md.
FORMS = (
    Form("matrix", lambda c: c.is_1x1 and (c.window.stride == 1 or c.window.padding == NO_PADDING), _forms.matrix),
    Form("winograd", _suits_winograd, _winograd.correlate),
    Form("rows", lambda case: case.dtype == jnp.bfloat16 and case.shape[2] >= 128, _forms.rows),
    Form("xla", lambda case: True, _forms.xla_cpu),
)
KERNEL_GRADIENTS = (
    Form("matrix", lambda case: case.is_1x1 and case.window.padding == NO_PADDING, _forms.matrix_kernel_gradient),
    Form("winograd", _suits_winograd, _winograd.kernel_gradient),
    Form("rows", lambda case: case.dtype == jnp.bfloat16 and case.shape[2] >= 128, _forms.rows_kernel_gradient),
    Form("blocks", lambda c: c.dtype == jnp.float32 and c.window.stride == 1, _forms.blocks_kernel_gradient),
    Form("xla", lambda case: True, _forms.xla_kernel_gradient),
)


def uses_cpu_forms(kernels: Kernels, *arrays: Array) -> bool:
    """Tell whether the CPU's forms are taken, which arrays whose types speak of a mesh do not pass through."""
    if kernels == "auto":
        chosen: Any = check_name(os.environ.get(VARIABLE) or "auto", KERNELS, what=f"kernels in ${VARIABLE}")
        kernels = ("cpu" if jax.default_backend() == "cpu" else "xla") if chosen == "auto" else chosen
    return kernels == "cpu" and not has_mesh_types(*arrays)


def prepare(kernel: Kernel, kernels: Kernels) -> Kernel | Prepared:
    """Return a kernel that will not change, for `convolve`; pure."""
    is_needed = uses_cpu_forms(kernels) and kernel.shape[:2] != (1, 1) and kernel.shape[2] != 1
    return Prepared(kernel, flip(kernel)) if is_needed else kernel


def convolve(
    x: Activations,
    kernel: Kernel | Prepared,
    *,
    stride: int,
    padding: Padding,
    border: Border,
    precision: lax.Precision,
    kernels: Kernels,
) -> Activations:
    """Cross-correlate as PyTorch does: see `Compute.convolve`."""
    kernel, *flipped = (part.astype(x.dtype) for part in (kernel if isinstance(kernel, Prepared) else (kernel,)))
    is_fast = uses_cpu_forms(kernels, x, kernel)
    if border != "zeros" and padding != NO_PADDING:
        # Other borders are laid around the map first: forms know zeros only.
        x, padding = jnp.pad(x, ((0, 0), *padding, (0, 0)), mode=border), NO_PADDING
    window = Window(stride, padding, precision)
    if not is_fast:
        return _forms.xla(x, kernel, window)
    if kernel.shape[2] < x.shape[-1]:
        return depthwise(x, kernel, window)
    return _correlated(x, kernel, *(flipped or [flip(kernel)]), shape=window.output(x, kernel.shape), window=window)


def _input_gradient(gradient, kernel, flipped, *, shape, window) -> Activations:
    """dL/dx: correlate the gradient, dilated by the stride, with the flipped kernel."""
    edges = []
    for axis, (before, _) in enumerate(window.padding):
        covered = (gradient.shape[1 + axis] - 1) * window.stride + 1
        first = kernel.shape[axis] - 1 - before
        edges.append((first, shape[1 + axis] - covered - first + kernel.shape[axis] - 1))
    back = Window(1, (edges[0], edges[1]), window.precision, dilation=window.stride)
    return _chosen(FORMS, gradient, flipped.shape, back)(gradient, flipped, back)


def _chosen(forms, x, shape, window) -> Callable[..., Array]:
    case = Case(x.dtype, x.size // x.shape[-1], shape, window)
    return next(form.compute for form in forms if form.suits(case))


_correlated = Bilinear(
    "cpu_correlate",
    product=lambda x, kernel, _, *, shape, window: _chosen(FORMS, x, kernel.shape, window)(x, kernel, window),
    left=_input_gradient,
    right=lambda x, g, *, shape, window: _chosen(KERNEL_GRADIENTS, x, shape, window)(x, g, shape, window),
    prepare=lambda kernel: (flip(kernel),),
)
