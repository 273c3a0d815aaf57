"""Run the demonstration: figures, graphs, a training on real data, a picture. Under a minute."""

from __future__ import annotations

import argparse
import sys
import time
import timeit
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import autodiff as ad
import autodiff.numpy as anp
from autodiff.demo import digits, picture
from autodiff.demo.figures import figures, loss

EXTRAS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}
GOAL = 0.96


def show_figures() -> bool:
    """Print the known figures beside the computed ones; return whether all agree."""
    print("1. Known figures, computed and expected\n")
    good = True
    with np.printoptions(precision=8, suppress=True, linewidth=100):
        for figure in figures():
            computed = str(np.asarray(figure.computed)).replace("\n", "")
            expected = str(np.asarray(figure.expected)).replace("\n", "")
            mark = "ok" if figure.agrees else "DIFFERS"
            print(f"  {figure.program:<30} {computed}\n  {'expected':<30} {expected}  {mark}")
            good = good and figure.agrees
    return good


def show_graphs() -> None:
    """Print a loss's graph, its gradient's graph, the kernel that computes it, and its time."""
    weights, bias = np.full(3, 0.5, np.float32), np.float32(0.1)
    gradient = ad.jit(ad.grad(loss, (0, 1)))
    print("\n2. The loss above as a graph\n")
    ad.show(loss, weights, bias)
    print("\n   its gradient\n")
    ad.show(ad.grad(loss, (0, 1)), weights, bias)
    print("\n   and the kernels that jit makes of the gradient (stage='source' shows their code)\n")
    ad.show(gradient, weights, bias, stage="kernels")
    times = timeit.repeat(lambda: gradient(weights, bias), number=200, repeat=5)
    print(f"\n   which takes {min(times) / 200 * 1e6:.0f} µs a call here")


def train_digits(path: Path) -> bool:
    """Train the classifier twice, save the picture, return whether the goals were reached."""
    from rich.progress import track

    data = digits.load()
    total = digits.EPOCHS * (len(data.labels) // digits.BATCH)
    print(f"\n3. A classifier of {len(data.labels)} handwritten digits, {total} steps of Adam\n")
    curves = []
    parameters = digits.initial_parameters()
    for title, xp in (("autodiff.numpy", anp), ("plain numpy", np)):
        started = time.perf_counter()
        losses = []
        steps = digits.train(xp, data)
        for value, current in track(steps, description=f"  {title:<15}", total=total):
            losses.append(value)
            parameters = current
        took = time.perf_counter() - started
        print(f"  {title:<15} loss {losses[0]:.4f} -> {losses[-1]:.4f} in {took:.1f} s")
        curves.append(losses)
    same = curves[0] == curves[1]
    print(f"  the two loss curves are {'the same, bit for bit' if same else 'DIFFERENT'}")
    read = digits.predictions(parameters, data.held_out_images)
    right = float(np.mean(read == data.held_out_labels))
    print(f"  {right:.1%} of the {len(read)} held-out digits are read correctly (goal {GOAL:.0%})")
    picture.save(path, curves[0], data.held_out_images[:12], read[:12], data.held_out_labels[:12])
    print(f"  picture: {path}")
    return same and right >= GOAL


def main() -> int:
    """Run everything; the exit status is 0 if every figure and goal was met."""
    parser = argparse.ArgumentParser(prog="python -m autodiff.demo", description=__doc__)
    parser.add_argument("--picture", type=Path, default=Path("autodiff-demo.png"))
    options = parser.parse_args()
    missing = [package for module, package in EXTRAS.items() if find_spec(module) is None]
    if missing:
        print(
            f"The demonstration needs {', '.join(missing)}. To fix: run it with `make demo`, or "
            "install the extra: python -m pip install '.[demo]'",
            file=sys.stderr,
        )
        return 1
    started = time.perf_counter()
    good = show_figures()
    show_graphs()
    good = train_digits(options.picture) and good
    print(
        f"\n{'Everything agrees' if good else 'SOMETHING DIFFERS'}; "
        f"{time.perf_counter() - started:.0f} s."
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
