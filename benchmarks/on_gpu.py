"""All that a GPU can tell, in one run of a few minutes: what programs promised, what PyTorch does, images of any size.

Stages run one after the other, each in a process of its own with a limit of time; one that fails or runs out of time
says so in the summary and disturbs no other. Results, logs and images go into one folder.

    python benchmarks/on_gpu.py -o results_h200                             # under 8 minutes
    python benchmarks/on_gpu.py -o results_h200 --contents photos --styles paintings   # and AdaIN, until they are over
    python benchmarks/on_gpu.py -o tried --tiny --device cpu                # tries every stage, in small
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax  # before `accelerator_programs`, which keeps JAX off the device
import jax.numpy as jnp
import numpy as np

HERE = Path(__file__).parent

STEPS = 10
"""Of one timed call."""


def traffic(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the batched step, and compare the bytes that its own program moves with what the time allows."""
    from accelerator_programs import CASES, DEVICES, loop_instructions, moved

    import swag_jax as swag
    from swag_jax import backbones, devices
    from swag_jax.optimize.engine import take_steps

    size, pairs, rows = (64, 2, []) if options.tiny else (512, 8, [])
    for case in (replace(case, size=size, pairs=pairs) for case in CASES[: 2 if options.tiny else None]):
        preset = next(p for p in swag.presets.PRESETS.values() if p.backbone == case.backbone)
        objective = preset.objective.for_backbone(case.backbone)
        solver = swag.Adam() if case.solver == "adam" else swag.LBFGS(memory=20)
        own: dict[str, Any] = {"pooling": case.pooling} if case.pooling else {}
        network, _ = backbones.load(
            case.backbone, layers=objective.layers, precision=case.precision, frozen=True, weights="random", **own
        )
        images = jnp.asarray(np.random.default_rng(0).random((2, size, size, 3), np.float32))
        targets = jax.jit(lambda n, c, s, o=objective: swag.make_targets(n, c, [s], objective=o))(network, *images)
        state = jax.device_get(solver.init(images[0], objective.terms))
        whole = devices.count() * pairs
        batch = devices.split(jax.tree.map(lambda x, n=whole: np.stack([x] * n), (jax.device_get(targets), state)))

        def chunk(network: Any, targets: Any, state: Any, objective: Any = objective, solver: Any = solver) -> Any:
            return take_steps(network, targets, state, objective=objective, solver=solver, steps=STEPS)

        def one(network, targets, state, chunk=chunk):
            return chunk(network, targets, state)

        program = devices.map_batch(_positional(one), shared=["network"], donated=["state"])
        compiled = program.lower(devices.replicate(network), *batch).compile()
        gigabytes = moved(loop_instructions(compiled.as_text())) / 1e9
        state, seconds = batch[1], []
        for _ in range(4):
            began = time.perf_counter()
            state, _ = jax.block_until_ready(compiled(devices.replicate(network), batch[0], state))
            seconds.append((time.perf_counter() - began) / STEPS)
        least = 1e9 * gigabytes / DEVICES["h200"].bandwidth
        rows.append({
            "case": str(case),
            "milliseconds": round(1e3 * min(seconds), 3),
            "gigabytes": round(gigabytes, 2),
            "least_milliseconds_by_bytes": round(1e3 * least, 3),
            "share_of_bandwidth": round(least / min(seconds), 3),
            "pairs_steps_per_second": round(whole / min(seconds), 1),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def _positional(function: Callable[..., Any]) -> Callable[..., Any]:
    # `devices.map_batch` takes every argument for one of the problem's.
    return lambda network, targets, state: function(network, targets, state)


def large(options: argparse.Namespace) -> dict[str, Any]:
    """Stylize an image of 256 megapixels in tiles; write the whole reduced, and a crop."""
    import swag_jax as swag
    from swag_jax.images import resize

    size, tile = (256, 128) if options.tiny else (2**14, 2048)
    content, style = swag.sample("coffee", size=size), swag.sample("mosaic", size=min(size, 1024))
    content = resize(content, size * 3 // 4, size)
    settings = swag.presets.PRESETS["gatys-vgg19"].replace(
        size=size, steps=7, solver="adam", style_scale=style.shape[1] / size, precision="bfloat16"
    )
    rates, began = list[float](), time.perf_counter()
    result = swag.stylize(content, style, settings=settings, tile=tile, callback=lambda p: rates.append(p.rate))
    height, width = result.image.shape[:2]
    side = min(1024, height)
    swag.write_image(options.output / "large_whole.png", resize(result.image, height * side // width, side))
    swag.write_image(options.output / "large_crop.png", result.image[height // 2 :, width // 2 :][:side, :side])
    found = {"height": height, "width": width, "tile": result.tile, "seconds": time.perf_counter() - began}
    return {**found, "steps_per_second": rates[-1], "losses": [float(x) for x in result.history["total"]]}


STAGES: dict[str, Callable[[argparse.Namespace], Any]] = {"traffic": traffic, "large": large}


def commands(options: argparse.Namespace) -> dict[str, tuple[float, list[str]]]:
    """Return what runs: by stage, its share of the time and its command."""
    script, tiny, out = [sys.executable, str(HERE / "on_gpu.py")], options.tiny, options.output
    own = ["-o", str(out), "--device", options.device, *(["--tiny"] if tiny else [])]
    sides = ["--device", options.device, "--iterations", "1" if tiny else "20", "--rounds", "1" if tiny else "3"]
    precision = "float32" if tiny else "bfloat16"
    found = {
        "traffic": (0.25, [*script, *own, "--stage", "traffic"]),
        "torch": (0.25, [
            *(sys.executable, str(HERE / "speed_stylize.py"), *sides, "--output", str(out / "speed_stylize.json")),
            *("--sizes", "64" if tiny else "512", "--precisions", precision),
            *(["--backbones", "vgg19", "--no-torch"] if tiny else []),
        ]),
        "generators": (0.15, [
            *(sys.executable, str(HERE / "speed_generators.py"), *sides),
            *("--output", str(out / "speed_generators.json")),
            *("--generators", "adain" if tiny else "adaattn", "--precisions", precision, "--sizes"),
            *(["64", "--no-torch"] if tiny else ["512", "2048"]),
        ]),
        "large": (0.2, [*script, *own, "--stage", "large"]),
    }  # fmt: skip
    if options.contents and options.styles:
        found["train"] = (0.15, [
            *(sys.executable, "-m", "swag_jax", "train", "adain", "--contents", options.contents),
            *("--styles", options.styles, "-o", str(out / "adain"), "--precision", "bfloat16", "--save", "500"),
        ])  # fmt: skip
    return found


def ended(command: list[str], log: Path, *, limit: float) -> int | str:
    """Run a command, with all processes that it starts, for so many seconds at most; say how it ended."""
    with log.open("w") as file:
        running = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return running.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGTERM)
            running.wait()
            return "out of time"


def main() -> None:
    """Run every stage, or one."""
    parser = argparse.ArgumentParser(description="All that a GPU can tell, in one run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--seconds", type=float, default=460, help="for all stages together")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small enough for a CPU: only to try the stages")
    parser.add_argument("--contents", help="folder of photographs; with --styles, AdaIN is trained at the end")
    parser.add_argument("--styles", help="folder of paintings")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.stage:
        # Tiles keep their state on the CPU.
        jax.config.update("jax_platforms", "cuda,cpu" if options.device == "cuda" else "cpu")
        found = STAGES[options.stage](options)
        (options.output / f"{options.stage}.json").write_text(json.dumps(found, indent=1) + "\n")
        return
    began, summary = time.monotonic(), {}
    for name, (share, command) in commands(options).items():
        left = options.seconds - (time.monotonic() - began)
        limit = left if name == "train" else min(share * options.seconds * 1.3, left)
        code = ended(command, options.output / f"{name}.log", limit=max(limit, 1))
        summary[name] = {"ended": code, "limit": round(limit), "seconds": round(time.monotonic() - began)}
        print(name, summary[name], flush=True)
    (options.output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
