"""The main comparisons on pairs of your own, such as photographs and paintings: trained networks only, numbers only.

Run: `python benchmarks/paper/paintings.py --pair photo.jpg painting.jpg [--pair ...]`.
"""

from experiment import Experiment, chosen_pairs, parse, run
from methods import method
from reweighting import COMPARED, compared, reweighted


def main() -> None:
    """Stylize, measure, and write no sheet."""
    title = "SWAG and plain losses on photographs and paintings"
    arguments = parse(title, rows=0)
    pairs = chosen_pairs(arguments)
    found = {
        f"{network}, {units}: {kind}": flags
        for network, units in COMPARED[:3]
        for kind, flags in {
            "raw": method(network, units),
            "SWAG": method(network, units, "SWAG"),
            "re-weighted": reweighted(network, units, pairs, arguments.size),
        }.items()
        if flags
    }
    found["p-ResNet50, released: factor"] = method("p-ResNet50", smoothing="factor")
    run(Experiment("paintings", title, found, references=compared(found)), arguments)


if __name__ == "__main__":
    main()
