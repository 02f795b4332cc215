"""The versions that a result depends on, for reports."""

import platform
from importlib import metadata

__version__ = metadata.version("swag-jax")

_PACKAGES = ("swag-jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow")


def installed() -> dict[str, str]:
    """Return the version of Python, of this package and of the packages that compute its results."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}
