"""Work on every device: the one place where device mapping is spelled.

Data-parallel programs are written for one device and mapped over all of them by `jax.pmap`: state is replicated,
a batch is split along its first axis, and `mean` averages over the devices inside the program (`parallel`).

Independent problems are written for one of them; `map_batch` makes the batch on each device and maps it over the
devices of this process, without communication. Their arrays have two leading axes, `devices size ...`: `split` and
`replicate` put them on the devices once, `gather` brings them back.
"""

import contextlib
import ctypes
import functools
import inspect
import os
import platform
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, cast

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from swag_jax._checks import check_name, error
from swag_jax._modes import is_jit_off

__all__ = [
    "gather",
    "initialize",
    "keep_memory",
    "map_batch",
    "replicate",
    "run_inline",
    "split",
]

Tree = TypeVar("Tree")
Item = TypeVar("Item")
Found = TypeVar("Found")
Parameters = ParamSpec("Parameters")

Mapping: TypeAlias = Literal["pmap", "shard_map"]

MAPPINGS: tuple[Mapping, ...] = ("pmap", "shard_map")
"""How `map_batch` maps over devices; both give the same results."""

AXIS = "devices"  # the mapped axis

# Parameters of mallopt(3): how many blocks are mapped one by one; free bytes kept at the heap's end (-1: all).
_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1


def run_inline() -> None:
    """Run CPU programs in the calling thread; call this before JAX is first used.

    Calls then return when their results are there. `keep_memory` needs it: glibc can do the same for the main
    thread only. Other devices still work asynchronously.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def keep_memory() -> None:
    """Keep the memory that this process frees, on the CPU with glibc; elsewhere, do nothing.

    What was freed earlier, such as the compiler's memory if called after the first call, is not kept.
    """
    # XLA asks for a program's temporary memory at every call; glibc would take large blocks from the system and return
    # them each time, page by page (measured in benchmarks/README.md).
    if jax.default_backend() == "cpu" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)  # all blocks come from the heap
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def count() -> int:
    """Return the number of devices of this process."""
    return jax.local_device_count()


def moves_arrays(function: Callable[Parameters, Found]) -> Callable[Parameters, Found]:
    """Return a function that may move arrays to the device and back under any `jax.transfer_guard`.

    If it returns an iterator, its steps may do so too, but not the code between them.
    """
    return _within(lambda: jax.transfer_guard("allow"), function)


def drives_devices(function: Callable[Parameters, Found]) -> Callable[Parameters, Found]:
    """Return a function that maps work over the devices: as `moves_arrays`, and outside the caller's mesh."""
    return _within(_on_no_mesh, function)


@contextlib.contextmanager
def _on_no_mesh() -> Iterator[None]:
    # An empty mesh hides the caller's.
    given = not jax.sharding.get_abstract_mesh().empty
    none = jax.set_mesh(Mesh(np.empty((), object), ())) if given else contextlib.nullcontext()
    with jax.transfer_guard("allow"), none:
        yield


def _within(
    context: Callable[[], contextlib.AbstractContextManager[Any]], function: Callable[Parameters, Found]
) -> Callable[Parameters, Found]:
    @functools.wraps(function)
    def inside(*arguments: Parameters.args, **options: Parameters.kwargs) -> Found:
        with context():
            found = function(*arguments, **options)
        return cast(Found, _steps_within(context, found)) if isinstance(found, Iterator) else found

    return inside


def _steps_within(context: Callable[[], contextlib.AbstractContextManager[Any]], steps: Iterator[Any]) -> Iterator[Any]:
    # The context does not last until the next step.
    try:
        while True:
            with context():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step
    finally:
        if isinstance(steps, Generator):  # its own `finally` runs now, not when it is collected
            steps.close()


def parallel(
    step: Callable[..., Any], *, split: tuple[int, ...], arguments: int, donated: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """Return a program mapped over the devices, whose results are those of the first.

    What `step`, pure, returns must therefore be equal on all devices, as it is after `mean`. Arguments at the places in
    `split` have a leading axis over devices (see `shares`), others are replicated; results may take the memory of those
    `donated`.
    """
    places = tuple(0 if place in split else None for place in range(arguments))
    if is_jit_off():
        mapped = jax.vmap(step, in_axes=places, axis_name=AXIS)
        return lambda *given: _first(mapped(*given))
    # `out_axes=None` returns the results of the first device.
    return jax.pmap(step, axis_name=AXIS, in_axes=places, out_axes=None, donate_argnums=donated)


def shares(batch: np.ndarray) -> np.ndarray:
    """Return a batch with its first axis split into one share for each device: `devices share ...`."""
    if len(batch) % count():
        got = f"a batch of {len(batch)} on {count()} devices"
        raise error("a batch must be a multiple of the number of devices", got=got)
    return batch.reshape(count(), -1, *batch.shape[1:])


def mean(tree: Tree) -> Tree:
    """Return the average over the devices, inside a program mapped by `parallel`."""
    return lax.pmean(tree, AXIS)


def index() -> jax.Array:
    """Return the number of this device, inside a program mapped by `parallel`."""
    return lax.axis_index(AXIS)


def map_batch(
    function: Callable[..., Any], *, shared: Sequence[str] = (), donated: Sequence[str] = (), mapping: Mapping = "pmap"
) -> Any:
    """Return a program that solves a batch of independent problems on every device of this process.

    The batch on each device is `jax.vmap` of the function; devices do not communicate. The program, from and to arrays
    `devices size ...`, may be called, or lowered and compiled ahead of time. It copies nothing if its arguments come
    from `split`, `replicate` or such a program.

    Args:
        function: A pure function of one problem; its arguments are positional.
        shared: Names of the arguments that are the same for every problem, such as the network.
        donated: Names of the arguments whose memory the results may take.
        mapping: `pmap`, or `shard_map`, its successor.

    Example:
        >>> scaled = map_batch(lambda factor, x: factor * x, shared=["factor"])
        >>> found = gather(scaled(replicate(np.float32(2)), split(np.ones((2 * count(), 3), np.float32))))
        >>> found.shape == (2 * count(), 3), float(found[0, 0])
        (True, 2.0)
    """
    parameters = inspect.signature(function).parameters.values()
    names = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    for name in (*shared, *donated):
        check_name(name, names, what="argument")
    axes = tuple(None if name in shared else 0 for name in names)
    given = tuple(place for place, name in enumerate(names) if name in donated)
    batched = _batched(function, axes)
    if is_jit_off():
        return _one_by_one(batched, axes)
    if check_name(mapping, MAPPINGS, what="mapping") == "pmap":
        # By default pmap takes the devices of all processes, which would then have to work in step.
        return jax.pmap(batched, axis_name=AXIS, in_axes=axes, donate_argnums=given, devices=jax.local_devices())

    # Inside `shard_map` the axis over devices stays, with length one; inside `pmap` it is gone.
    on_one_device = _of_first(batched, axes)
    places = tuple(PartitionSpec() if axis is None else PartitionSpec(AXIS) for axis in axes)
    mapped = jax.shard_map(on_one_device, mesh=_mesh(), in_specs=places, out_specs=PartitionSpec(AXIS), check_vma=False)
    return jax.jit(mapped, donate_argnums=given)


def _batched(function: Callable[..., Any], axes: Sequence[int | None]) -> Callable[..., Any]:
    # A batch of one has no batch axis inside, which is faster on a CPU.
    one, many = _of_first(function, axes), jax.vmap(function, in_axes=axes)

    def batched(*arguments: Any) -> Any:
        leaves = jax.tree.leaves([x for x, axis in zip(arguments, axes, strict=True) if axis is not None])
        return one(*arguments) if leaves and len(leaves[0]) == 1 else many(*arguments)

    return batched


def _of_first(function: Callable[..., Any], axes: Sequence[int | None]) -> Callable[..., Any]:
    """Apply a function to the first, and only, entries along the axes."""

    def of_first(*arguments: Any) -> Any:
        own = [x if axis is None else _first(x) for x, axis in zip(arguments, axes, strict=True)]
        return jax.tree.map(lambda x: x[None], function(*own))

    return of_first


def _one_by_one(batched: Callable[..., Any], axes: Sequence[int | None]) -> Callable[..., Any]:
    # Under `jax.disable_jit` nothing is mapped: the devices' shares in turn.
    def over_all(*arguments: Any) -> Any:
        def share(device: int) -> list[Any]:
            pairs = zip(arguments, axes, strict=True)
            return [x if axis is None else jax.tree.map(lambda leaf: leaf[device], x) for x, axis in pairs]

        found = [batched(*share(device)) for device in range(count())]
        return jax.tree.map(lambda *parts: jax.numpy.stack(parts), *found)

    return over_all


def _first(tree: Tree) -> Tree:
    return jax.tree.map(lambda x: x[0], tree)


def _mesh() -> Mesh:
    # The mesh of `jax.pmap`, so that arrays fit both mappings.
    return Mesh(np.array(jax.local_devices()), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(tree: Tree) -> Tree:
    """Return arrays, such as a network, whole on every device of this process, so that no call copies them again."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def replicate_global(tree: Tree) -> Tree:
    """Return arrays, equal in every process, whole on every device of all, as the results of `parallel` are.

    Programs are compiled again for arrays that lie elsewhere.
    """
    mesh = Mesh(np.array(jax.devices()), (AXIS,), axis_types=(AxisType.Auto,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def split(tree: Tree) -> Tree:
    """Return host arrays `batch ...` as `devices size ...`, each device's share on it.

    The batch is a multiple of the number of devices; see `pad`.
    """
    return jax.device_put(jax.tree.map(shares, tree), NamedSharding(_mesh(), PartitionSpec(AXIS)))


def gather(tree: Tree, *, length: int | None = None) -> Tree:
    """Return arrays `devices size ...` as host arrays `batch ...`.

    Of a batch filled by `pad`, the first `length` entries are kept.
    """
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:length], jax.device_get(tree))


def pad(items: Sequence[Item], *, size: int) -> list[Item]:
    """Return the items with the last one repeated, until there are `size` for every device."""
    room = size * count()
    if not 0 < len(items) <= room:
        raise error(f"a batch of {size} on each of {count()} devices holds 1 to {room} items", got=len(items))
    return [*items, *[items[-1]] * (room - len(items))]


def abstract_batch(tree: Any, *, size: int) -> Any:
    """Return arguments for lowering a program of `map_batch`, `devices size ...`, from the shapes of one problem's."""
    many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count(), size, *x.shape), x.dtype), tree)
    if process_count() == 1:
        return many
    # Of several processes, `jax.pmap` cannot be lowered for shapes (jax 0.10 to 0.12), but for arrays.
    return split(jax.tree.map(lambda x: np.zeros((count() * size, *x.shape[2:]), x.dtype), many))


def initialize(*, coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> bool:
    """Join the processes of a run, on one machine or several; call this before anything else uses JAX.

    Without arguments, a run under SLURM or Open MPI is found in the environment. Otherwise, and if the processes are
    joined already, nothing is done.

    Args:
        coordinator: Address of process 0, `HOST:PORT`.
        processes: How many processes there are.
        process: The number of this one, from 0.

    Returns:
        Whether there are several processes.
    """
    given = (coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise error("coordinator, processes and process belong together", got=f"{coordinator}, {processes}, {process}")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise error("process must be at least 0 and less than processes", got=f"{process} of {processes}")
    if not jax.distributed.is_initialized():
        if coordinator is not None:
            jax.distributed.initialize(coordinator, num_processes=processes, process_id=process)
        elif _in_cluster():
            jax.distributed.initialize()
    return process_count() > 1


def _in_cluster() -> bool:
    """Tell whether a launcher that `jax.distributed` knows has started several processes."""
    slurm = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= os.environ.keys()
    sizes = [os.environ.get("SLURM_NTASKS", "1") if slurm else "1"]
    if "OMPI_MCA_orte_hnp_uri" in os.environ:
        sizes.append(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
    return any(int(size) > 1 for size in sizes)


def process_index() -> int:
    """Return the number of this process, from 0."""
    return jax.process_index()


def process_count() -> int:
    """Return the number of processes joined; 1 without `initialize`."""
    return jax.process_count()


def wait_for_all(*, name: str) -> None:
    """Return when every process has reached the point with this name."""
    if process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """Return in every process whether the flag is set in any; all must call this."""
    return flag if process_count() == 1 else bool(multihost_utils.process_allgather(np.asarray(flag)).any())
