"""What a step moves through an accelerator's memory, read from the program that XLA compiles for it. NOTHING RUNS.

XLA compiles for GPUs and TPUs that are not there. The batched step is compiled for an H200 (jax 0.12, `jax[cuda13]`) or
a TPU (`jax[tpu]`), and its program is read: the bytes that every instruction of the loop reads and writes in the
device's memory, temporary memory, and what moves data without computing (copies, conversions, transposes). Bytes over
bandwidth and operations over peak are lower bounds of the time; the larger one says what share of the peak is still
possible. They are no measurements.

Run: `python benchmarks/accelerator_programs.py h200`, `v5e` or `v6e`; `--show 20` lists the largest instructions.
"""

import argparse
import collections
import functools
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported: nothing may run on a device that is there
os.environ["TPU_SKIP_MDS_QUERY"] = "1"

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.extend.core import jaxprs_in_params
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import swag_jax as swag
from swag_jax import backbones
from swag_jax._tiles import grid
from swag_jax.backbones import Precision
from swag_jax.features import extract
from swag_jax.losses.parts import ContentPart, PartTargets
from swag_jax.optimize.engine import take_steps
from swag_jax.optimize.tiles import gradient_of_part, reach, sums_of_part

RESULTS = Path(__file__).parent / "results" / "accelerator_programs.json"

H200 = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
 shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 4800000000000
 l2_cache_size: 62914560 clock_rate_ghz: 1.98 device_memory_size: 150000000000 shared_memory_per_block_optin: 232448
 cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
 platform_name: "CUDA" dnn_version_info { major: 9 minor: 14 } runtime_version { major: 13 minor: 0 patch: 0 }
 device_description_str: "NVIDIA H200" """


@dataclass(frozen=True)
class Device:
    """An accelerator: how JAX calls it, and its published peaks."""

    platform: str
    topology: str
    bandwidth: float  # bytes per second
    peak: float  # operations per second in bfloat16


DEVICES = {
    "h200": Device("cuda", "1x1x1", 4.8e12, 989e12),
    "v5e": Device("tpu", "v5e:2x2", 819e9, 197e12),
    "v6e": Device("tpu", "v6e:2x2", 1640e9, 918e12),
}
"""NVIDIA's data sheet of the H200 SXM, dense; Google Cloud's pages on the TPU v5e and v6e."""


@dataclass(frozen=True)
class Case:
    """A program: what is optimized, and with how many pairs on each device."""

    backbone: str
    pooling: str = ""
    solver: str = "adam"
    precision: Precision = "bfloat16"
    size: int = 512
    pairs: int = 8

    def __str__(self) -> str:
        parts = (self.backbone, self.pooling, self.solver, self.precision, f"{self.size} px", f"{self.pairs} pairs")
        return ", ".join(filter(None, parts))


CASES = (
    Case("vgg19", "average"),
    Case("vgg19", "max"),
    Case("resnet50"),
    Case("efficientnet-lite0"),
    Case("vgg19", "average", "lbfgs"),
    Case("resnet50", solver="lbfgs"),
    Case("vgg19", "average", precision="float32"),
)

WIDTHS = {"f32": 4, "bf16": 2, "f16": 2, "pred": 1, "s8": 1, "u8": 1, "s32": 4, "u32": 4, "f64": 8, "s64": 8}
"""Bytes of an element."""

FREE = ("get-tuple-element", "bitcast", "parameter", "tuple", "constant", "while")
"""Instructions that move nothing."""

MOVERS = ("copy", "convert", "transpose", "select-and-scatter")
"""What moves data without computing, and the gradient of a maximum, by parts of the names of instructions."""

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


@dataclass(frozen=True)
class Instruction:
    """One of the loop's instructions."""

    moved: int  # bytes that it reads and writes
    kind: str
    shape: str
    origin: str


def shape_bytes(shapes: str) -> int:
    """Return the bytes of all arrays in a piece of a program's text.

    Example:
        >>> shape_bytes("(f32[2,3]{1,0}, bf16[4])")
        32
    """
    found = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    return sum(
        WIDTHS.get(kind, 0) * int(np.prod([int(n) for n in dims.split(",") if n] or [1])) for kind, dims in found
    )


def loop_instructions(text: str) -> list[Instruction]:
    """Return the instructions of the loop that moves most, largest first."""
    bodies, name = dict[str, list[str]](), ""
    for line in text.splitlines():
        if match := re.match(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{", line):
            name = match.group(1)
            bodies[name] = []
        elif name and line.strip().startswith(("%", "ROOT")):
            bodies[name].append(line.strip())
    loops = [_instructions(bodies.get(body, [])) for body in set(re.findall(r"while\(.*?body=%?([\w.\-]+)", text))]
    largest = max(loops, key=moved, default=[])
    return sorted(largest, key=lambda each: each.moved, reverse=True)


def entry_instructions(text: str) -> list[Instruction]:
    """Return the instructions of a program without a loop, largest first."""
    lines = [line.strip() for line in text[text.index("\nENTRY ") :].splitlines()[2:]]
    found = _instructions([line for line in lines if line.startswith(("%", "ROOT"))], inputs=True)
    return sorted(found, key=lambda each: each.moved, reverse=True)


def moved(instructions: list[Instruction]) -> int:
    """Return the bytes that all of them read and write."""
    return sum(each.moved for each in instructions)


def _instructions(lines: list[str], *, inputs: bool = False) -> list[Instruction]:
    # In a loop, what is read of its parameter comes through `get-tuple-element`, which is counted.
    made = dict[str, tuple[str, str, str]]()
    for line in lines:
        if match := re.match(r"(?:ROOT )?%?([\w.\-]+) = (\([^=]*?\)|\S+) ([\w\-]+)\(", line):
            made[match.group(1)] = (match.group(2), match.group(3), line)
    found = []
    for name, (shape, operation, line) in made.items():
        if operation in FREE:
            continue
        operands = re.findall(r"%([\w.\-]+)", line.split(f"{operation}(", 1)[1].split("), ")[0])
        read = sum(
            shape_bytes(made[each][0]) for each in operands if each in made and (inputs or made[each][1] != "parameter")
        )
        target = re.search(r'custom_call_target="([^"]*)"', line)
        fused = f"fusion:{re.sub(r'[.0-9]+$', '', name)}" if operation == "fusion" else operation
        origin = re.search(r'op_name="([^"]*)"', line)
        kind = target.group(1) if target else fused
        found.append(Instruction(shape_bytes(shape) + read, kind, shape[:60], origin.group(1)[-70:] if origin else ""))
    return found


def bound_bytes(convolved: list[int], read: list[int], *, width: int) -> int:
    r"""Return a lower bound of the bytes that one image's step moves, if every value goes to memory once each time.

    .. math:: b \, (5 \sum_l n_l + 2 \sum_{l \in \text{style}} n_l)

    with n_l values of b bytes from convolution l: written once, with its ReLU, and read by the next one; in the
    backward pass its gradient is written and read, and the values are read again for the ReLU's mask. A style layer is
    read once more for its Gram matrix and once for that one's gradient. Weights, pooling, and what a kernel could keep
    on the chip are left out.

    Args:
        convolved: Values of the output of every convolution.
        read: Values of every style layer.
    """
    return width * (5 * sum(convolved) + 2 * sum(read))


def convolution_sizes(jaxpr: Any) -> list[int]:
    """Return how many values each convolution of a traced function has as its output, also of the functions in it."""
    sizes = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            sizes.append(equation.outvars[0].aval.size)
        for inner in jaxprs_in_params(equation.params):
            sizes += convolution_sizes(inner)
    return sizes


def program(case: Case, device: Device) -> tuple[Any, dict[str, float]]:
    """Compile a case for a device; return the program, and the bound and the operations of a step on one device."""
    preset = next(p for p in swag.presets.PRESETS.values() if p.backbone == case.backbone)
    objective = preset.objective.for_backbone(case.backbone)
    options: dict[str, Any] = {"pooling": case.pooling} if case.pooling else {}
    compute = backbones.Compute(precision=case.precision, kernels="xla")
    network = backbones.create(case.backbone, until=objective.layers[-1], compute=compute, **options).frozen()
    solver = swag.Adam() if case.solver == "adam" else swag.LBFGS(memory=20)
    mesh = Mesh(np.array(_devices(device)).reshape(-1), ("devices",))
    image = jax.ShapeDtypeStruct((case.size, case.size, 3), jnp.float32)
    make = functools.partial(swag.make_targets, objective=objective)
    targets = jax.eval_shape(lambda network, image: make(network, image, [image]), network, image)
    state = jax.eval_shape(functools.partial(solver.init, terms=objective.terms), image)
    steps = functools.partial(take_steps, objective=objective, solver=solver, steps=4)
    shared, own = PartitionSpec(), PartitionSpec("devices")
    mapped = jax.shard_map(
        jax.vmap(steps, in_axes=(None, 0, 0)), mesh=mesh, in_specs=(shared, own, own), out_specs=own, check_vma=False
    )

    def abstract(tree: Any, spec: PartitionSpec, lead: tuple[int, ...] = ()) -> Any:
        place = NamedSharding(mesh, spec)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype, sharding=place), tree)

    lead = (case.pairs * mesh.size,)
    arguments = abstract(network, shared), abstract(targets, own, lead), abstract(state, own, lead)
    compiled = jax.jit(mapped, donate_argnums=2).lower(*arguments).compile()
    read = functools.partial(extract, layers=objective.layers)
    convolved = convolution_sizes(jax.make_jaxpr(read)(network, image).jaxpr)
    styled = [
        shape.size for layer, shape in jax.eval_shape(read, network, image).items() if layer in objective.style_layers
    ]
    width = 2 if case.precision == "bfloat16" else 4
    one = jax.jit(jax.value_and_grad(lambda x, n, t: swag.evaluate(n, x, t, objective=objective)[0]))
    cost: Mapping[str, float] = one.lower(image, network, targets).cost_analysis() or {}
    bound = case.pairs * bound_bytes(convolved, styled, width=width)
    return compiled, {"bound": bound, "operations": case.pairs * cost.get("flops", float("nan"))}


SIDE, GIGAPIXEL = 2048, 2**15
"""Side of a tile and of an image of 2^30 pixels."""


def tiled_reading(backbone: str, device: Device) -> dict[str, Any]:
    """Compile both passes over the tiles of a gigapixel, and return what a step costs one device at least.

    Gradients and the solver's state are in host memory; the device holds weights, one window, and what its passes take.
    """
    objective = next(p for p in swag.presets.PRESETS.values() if p.backbone == backbone).objective.for_backbone(
        backbone
    )
    options: dict[str, Any] = {"pooling": "average"} if backbone.startswith("vgg") else {}
    compute = backbones.Compute(precision="bfloat16", kernels="xla")
    network = backbones.create(backbone, until=objective.layers[-1], compute=compute, **options).frozen()
    cuts = grid(GIGAPIXEL, GIGAPIXEL, side=SIDE, halo=reach(network, objective.layers), stride=max(network.strides))
    window, inner = jax.ShapeDtypeStruct((*cuts.window, 3), jnp.float32), jax.ShapeDtypeStruct((2, 2), jnp.int32)
    targets = jax.eval_shape(functools.partial(_part_targets, objective=objective), network, window)
    sums = jax.eval_shape(functools.partial(sums_of_part, objective=objective), network, targets, (window,), inner, {})
    peaks = {name: found.peak for name, found in sums.items() if name != "variation"}
    place = NamedSharding(Mesh(np.array(_devices(device)).reshape(-1)[:1], ("devices",)), PartitionSpec())
    found: dict[str, Any] = {"backbone": backbone, "tiles": len(cuts.tiles), "window": cuts.window}
    passes = {
        "sums": (sums_of_part, (network, targets, (window,), inner, {})),
        "gradient": (gradient_of_part, (network, (targets, peaks, sums), (window, window), inner, {})),
    }
    for name, (function, arguments) in passes.items():
        program = jax.jit(functools.partial(function, objective=objective))
        there = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), arguments)
        compiled: Any = program.lower(*there).compile()
        memory, size = compiled.memory_analysis(), moved(entry_instructions(compiled.as_text()))
        cost: Mapping[str, float] = program.lower(*arguments).cost_analysis() or {}
        seconds = len(cuts.tiles) * max(size / device.bandwidth, cost.get("flops", float("nan")) / device.peak)
        held = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
        found[name] = {"least_seconds": round(seconds, 1), "gigabytes": round(held / 1e9, 1)}
    return found


def _part_targets(network: Any, image: Any, *, objective: Any) -> PartTargets:
    none = jnp.zeros(())
    content = {layer: ContentPart(none, none, none, none, none, none) for layer in objective.content_layers}
    style = swag.make_targets(network, image, [image], objective=objective).style
    return PartTargets(content, style)


def _devices(device: Device) -> Any:
    if device.platform == "cuda":
        found = topologies.get_topology_desc(platform="cuda", target_config=H200, topology=device.topology)
    else:
        found = topologies.get_topology_desc(device.topology, platform="tpu")
    return found.devices


def reading(case: Case, device: Device) -> tuple[dict[str, Any], list[Instruction]]:
    """Compile a case, and return what its program says."""
    began = time.perf_counter()
    compiled, known = program(case, device)
    text, memory = compiled.as_text(), compiled.memory_analysis()
    instructions = loop_instructions(text)
    kinds = collections.Counter[str]()
    for each in instructions:
        kinds[each.kind] += each.moved
    total = moved(instructions)
    by_bytes, by_operations = total / device.bandwidth, known["operations"] / device.peak
    return {
        **asdict(case),
        "gigabytes_per_step": round(total / 1e9, 2),
        "gigabytes_bound": round(known["bound"] / 1e9, 2),
        "teraflops_per_step": round(known["operations"] / 1e12, 2),
        "least_milliseconds": {"bytes": round(1e3 * by_bytes, 2), "operations": round(1e3 * by_operations, 2)},
        "possible_share_of_peak": round(by_operations / max(by_bytes, by_operations), 2),
        "temporary_mib_per_pair": round(memory.temp_size_in_bytes / case.pairs / 2**20),
        "movers": {name: sum(name in each.kind for each in instructions) for name in MOVERS},
        "collectives": sum(len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES),
        "kinds": {kind: round(size / 1e9, 3) for kind, size in kinds.most_common(12)},
        "compile_seconds": round(time.perf_counter() - began),
    }, instructions


def table(readings: list[dict[str, Any]]) -> str:
    """Format what was read."""
    head = ["program", "GB a step", "bound", "least ms, bytes", "operations", "MiB a pair", *MOVERS, "collectives"]
    lines = [head, ["---"] * len(head)]
    for each in readings:
        case = Case(*(each[field.name] for field in fields(Case)))
        least = each["least_milliseconds"]
        numbers = [each["gigabytes_per_step"], each["gigabytes_bound"], least["bytes"], least["operations"]]
        numbers += [each["temporary_mib_per_pair"], *each["movers"].values(), each["collectives"]]
        lines.append([str(case), *map(str, numbers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Compile all cases for one device, or those of one network; keep what was read of other devices."""
    parser = argparse.ArgumentParser(description="Programs compiled for accelerators that are not there; nothing runs")
    parser.add_argument("device", choices=DEVICES)
    parser.add_argument("--backbone", help="only the cases of this network; nothing is written")
    parser.add_argument("--show", type=int, default=0, help="list this many of the largest instructions")
    parser.add_argument("--pairs", type=int, help="pairs on each device (default: 8; TPU: 4)")
    arguments = parser.parse_args()
    device = DEVICES[arguments.device]
    pairs = arguments.pairs or (8 if device.platform == "cuda" else 4)
    chosen = [replace(case, pairs=pairs) for case in CASES]
    chosen = [case for case in chosen if arguments.backbone in (None, case.backbone)]
    found = []
    for case in chosen:
        numbers, instructions = reading(case, device)
        found.append(numbers)
        print(f"{case}: {numbers['gigabytes_per_step']} GB a step, bound {numbers['gigabytes_bound']}", flush=True)
        for each in instructions[: arguments.show]:
            print(f"  {each.moved / 1e6:7.0f} MB  {each.kind:38s} {each.shape:60s} {each.origin}")
    print(table(found))
    tiled = [tiled_reading(name, device) for name in dict.fromkeys(case.backbone for case in chosen)]
    print(f"a step of {GIGAPIXEL} x {GIGAPIXEL} pixels, in tiles: {json.dumps(tiled, indent=1)}")
    if arguments.backbone is None:
        known: dict[str, Any] = {"note": "compiled only; nothing ran"}
        known |= json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known[arguments.device] = {
            "jax": jax.__version__,
            "date": time.strftime("%Y-%m-%d"),
            "programs": found,
            "gigapixel": tiled,
        }
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
