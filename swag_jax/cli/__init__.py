"""The command line: one file per command; bad input ends in one clear line and exit code 2."""

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from swag_jax import _signals, _versions, devices
from swag_jax._checks import UserError, one_line
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import Command, Group, Parser, add_group, build
from swag_jax.params import store

COMMANDS = Group(
    "Neural style transfer in JAX, with SWAG's activation smoothing.",
    {
        "demo": "swag_jax.cli.demo:Demo",
        "stylize": "swag_jax.cli.stylize:Stylize",
        "batch": "swag_jax.cli.batch:Batch",
        "train": "swag_jax.cli.train:TRAIN",
        "apply": "swag_jax.cli.apply:Apply",
        "stats": "swag_jax.cli.stats:Stats",
        "measure": "swag_jax.cli.measure:Measure",
        "weights": "swag_jax.cli.weights:WEIGHTS",
        "ui": "swag_jax.cli.ui:Ui",
    },
)

# Bytes of compiled programs that are kept on disk from run to run. Our choice: some hundreds of programs.
CACHE_BYTES = 2**30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its `ExitCode`."""
    try:
        with _signals.interruptible():
            code = _run(arguments)
    except _signals.Interrupted as ending:
        _signals.tell(ending.number)
        code = ending.code
    _signals.ended(code)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    command = parse(arguments)
    if not gc.isenabled():  # see `__main__`: what was imported stays, and is not looked through again
        gc.freeze()
        gc.enable()
    kept = _cache_compilations()
    if not getattr(command, "works_ahead", False):
        devices.run_inline()  # before JAX is first used
    try:
        code = command.run()
    except UserError as problem:
        print(f"swag-jax: {one_line(problem)}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    if kept is not None:  # this run may have added programs
        prune(kept, most=CACHE_BYTES)
    # A quiet command has said nothing yet of a stop that was asked for.
    if getattr(command, "quiet", False):
        for number, known in _signals.EXIT_CODES.items():
            if code == known:
                _signals.tell(number)
    return code


def parse(arguments: Sequence[str] | None = None) -> Command:
    """Return the command with its flags, which can be run."""
    parser = Parser(prog="swag-jax", description=COMMANDS.about)
    parser.add_argument("--version", action="version", version=f"swag-jax {_versions.installed()['swag-jax']}")
    words = sys.argv[1:] if arguments is None else list(arguments)
    # The others are imported only if their names are needed: for help, or to correct a name.
    add_group(parser, COMMANDS, only=words[0] if words and words[0] in COMMANDS.commands else None)
    namespace = parser.parse_args(words)
    return build(namespace.command, namespace)


def _cache_compilations() -> Path | None:
    """Keep compiled programs on disk, next to the weights, so that the second run starts at once; return where."""
    folder = store.home() / "compiled"
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    with contextlib.suppress(OSError):  # if nothing can be kept, everything still works
        folder.mkdir(parents=True, exist_ok=True)
        prune(folder, most=CACHE_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        return folder
    return None


# JAX does so by itself with `jax_compilation_cache_max_size`, but only if it did so from the first file on: among
# files without its records of their use (jax 0.10 to 0.12), it writes nothing any more.
def prune(folder: Path, *, most: int) -> None:
    """Remove the files of a folder that were not used longest, until those left take at most so many bytes."""
    found = []
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        with contextlib.suppress(OSError):  # another process prunes, too
            status = path.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    excess = sum(size for _, size, _ in found) - most
    for _, size, path in sorted(found):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            excess -= size
