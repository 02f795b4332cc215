"""The command line: one file per command; bad input ends in one clear line and exit code 2."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

import jax

from swag_jax import _versions, devices, params
from swag_jax._checks import UserError, one_line
from swag_jax.cli import apply, batch, demo, measure, stats, stylize, train, weights
from swag_jax.cli._flags import Parser

BAD_INPUT = 2
"""Exit code for bad usage and bad input, the one argparse uses."""

INTERRUPTED = 130
"""Exit code after a second Ctrl-C: 128 plus SIGINT, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 bad usage or input, 3 some of many failed."""
    parsed = _parser().parse_args(arguments)
    _cache_compilations()
    devices.run_inline()
    try:
        return parsed.run(parsed)
    except UserError as problem:
        print(f"swag-jax: {one_line(problem)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("swag-jax: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="swag-jax", description="Neural style transfer in JAX, with SWAG's activation smoothing.")
    parser.add_argument("--version", action="version", version=f"swag-jax {_versions.installed()['swag-jax']}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (demo, stylize, batch, train, apply, stats, measure, weights):
        command.add_parser(commands)
    return parser


def _cache_compilations() -> None:
    """Keep compiled programs on disk, beside the weights, so that the second run starts at once."""
    folder = params.home() / "compiled"
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    with contextlib.suppress(OSError):  # where nothing can be kept, everything still works
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
