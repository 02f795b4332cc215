"""What commands write: never over what they read, never two things into one file."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from swag_jax._files import check_apart, real
from swag_jax.params.store import stored


def check_outputs(
    outputs: Iterable[tuple[str, Path | None]],
    inputs: Iterable[tuple[str, Path | None]],
    *,
    weights: Iterable[str] = (),
) -> None:
    """Check, before long work starts, that nothing which is written is also read, nor written twice.

    Args:
        outputs: What each file that will be written is called, and the file; none where it is not asked for.
        inputs: What each file that is read is called, and the file.
        weights: What `--weights` and the like were given: words, names and paths.

    Raises:
        UserError: If two of them are one file.
    """
    asked = [(what, path) for what, path in outputs if path is not None]
    check_apart(asked, [*inputs, *_weights_files(weights)])


def _weights_files(given: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files that weights may come from: those that were named, and all that are kept on this machine."""
    for words in dict.fromkeys(given):
        yield "--weights", Path(words)
    for name, path in stored().items():
        yield f"the stored weights {name}", path


def same_folder(one: Path, other: Path) -> bool:
    """Tell whether two paths mean one folder.

    Args:
        one: A folder, which need not exist.
        other: Another.
    """
    return real(one) == real(other)
