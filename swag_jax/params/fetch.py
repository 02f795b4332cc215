"""Fetching checkpoints: the only part of the package that uses the network.

A download resumes at its last byte, is checked against its hash, converted and put into the local store.
"""

import contextlib
import http
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
from huggingface_hub import utils as hub_utils
from rich.console import Console
from rich.progress import Progress

from swag_jax._checks import UserError, error
from swag_jax.params._files import file_sha256
from swag_jax.params.convert import convert
from swag_jax.params.manifest import Checkpoint, Hub
from swag_jax.params.store import home, install
from swag_jax.params.tree import Shapes

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30.0
_SHA256_DIGITS = 64


def fetch(
    checkpoint: Checkpoint,
    *,
    expected: Shapes,
    progress: bool = True,
    endpoint: str | None = None,
    cache: Path | None = None,
) -> Path:
    """Download a checkpoint, check its hash, convert it and put it into the local store.

    Args:
        expected: The shape of every parameter of its whole network.
        progress: Whether to show a progress bar on standard error.
        endpoint: Another address for the hub; default: `$HF_ENDPOINT`, else huggingface.co.
        cache: Where the hub's files are kept; default: the hub's own cache, shared with other programs.

    Returns:
        The path in the store.
    """
    path = _download(checkpoint, progress=progress, endpoint=endpoint, cache=cache)
    # The two addresses of a checkpoint may lay it out differently, so its keys tell.
    stored = install(checkpoint.name, convert(path, checkpoint.backbone, expected))
    if path.parent == _downloads():
        path.unlink()
    return stored


def _download(checkpoint: Checkpoint, *, progress: bool, endpoint: str | None, cache: Path | None) -> Path:
    problems = []
    if checkpoint.hub is not None:
        try:
            with _hub_progress(progress):
                return _from_hub(checkpoint.hub, checkpoint.sha256, endpoint, cache)
        except UserError:
            raise
        # The hub client's exceptions for a broken network differ from version to version.
        except Exception as problem:
            problems.append(f"{checkpoint.hub.repository} on the Hugging Face hub ({_first_line(problem)})")
    if checkpoint.url is not None:
        try:
            return _from_url(checkpoint.url, checkpoint.url_sha256_prefix or "", progress=progress)
        except (OSError, http.client.HTTPException) as problem:
            problems.append(f"{checkpoint.url} ({_first_line(problem)})")
    raise error(
        f"cannot fetch {checkpoint.name} from " + " nor from ".join(problems or [checkpoint.source]),
        cure=f"fetch it on a machine with a network, then "
        f"`swag-jax weights convert FILE --backbone {checkpoint.backbone}`",
    )


def _from_hub(hub: Hub, sha256: str | None, endpoint: str | None, cache: Path | None) -> Path:
    url = huggingface_hub.hf_hub_url(hub.repository, hub.file, revision=hub.revision, endpoint=endpoint)
    cached = huggingface_hub.try_to_load_from_cache(hub.repository, hub.file, cache, hub.revision)
    published = sha256 or ""
    if not (sha256 and isinstance(cached, str)):
        # Asked first: without a network this fails at once, but a download retries for half a minute.
        etag = huggingface_hub.get_hf_file_metadata(url).etag
        # Without a hash in the manifest the hub's of that commit must do: a large file's etag is its SHA-256.
        published = sha256 or etag or ""
    if len(published) != _SHA256_DIGITS:
        raise error(f"{url} must have a sha256 published by the hub", got=published or "none")
    download = huggingface_hub.hf_hub_download
    path = Path(download(hub.repository, hub.file, revision=hub.revision, endpoint=endpoint, cache_dir=cache))
    # The hub's cache holds a link to the file itself: a damaged one must go with what it points to.
    _check_prefix(path, published, remove=(path.resolve(), path))
    return path


@contextlib.contextmanager
def _hub_progress(shown: bool) -> Iterator[None]:
    # The hub's progress bars have no switch but this one.
    if shown or hub_utils.are_progress_bars_disabled():
        yield
        return
    hub_utils.disable_progress_bars()
    try:
        yield
    finally:
        hub_utils.enable_progress_bars()


def _downloads() -> Path:
    return home() / "downloads"


def _from_url(url: str, sha256_prefix: str, *, progress: bool) -> Path:
    path = _downloads() / url.rsplit("/", 1)[-1]
    partial = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _append(url, partial, progress=progress)
    except urllib.error.HTTPError as problem:
        # Nothing lies beyond what is here: the last run ended between the download and its check.
        if problem.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
    _check_prefix(partial, sha256_prefix, remove=(partial,))
    return partial.replace(path)


def _append(url: str, partial: Path, *, progress: bool) -> None:
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        # 206 is a part as asked for; 200 means a server that only sends the whole.
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        start = start if resumed else 0
        total = start + int(response.headers["Content-Length"])
        bar = Progress(console=Console(stderr=True), disable=not progress)
        with partial.open("ab" if resumed else "wb") as file, bar:
            task = bar.add_task(partial.stem, completed=start, total=total)
            while chunk := response.read(_CHUNK):
                bar.advance(task, file.write(chunk))
    if partial.stat().st_size != total:
        raise OSError(f"the connection closed after {partial.stat().st_size} of {total} bytes; run again to resume")


def _check_prefix(path: Path, published: str, *, remove: tuple[Path, ...]) -> None:
    found = file_sha256(path)
    if not found.startswith(published):
        for damaged in remove:
            damaged.unlink(missing_ok=True)
        raise error(
            f"the download {path.name} must have sha256 {published}",
            got=found,
            cure="it was removed: fetch it again, and do not use it if this repeats",
        )


def _first_line(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}".splitlines()[0].strip().rstrip(".")
