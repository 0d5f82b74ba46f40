"""Runs cohere_core on a pattern, in an interpreter that has it and perhaps nothing of ours: a script.

    python cohere_run.py AMPLITUDE.npy OBJECT.npy '{"algorithm_sequence": "20*ER"}'

AMPLITUDE is sqrt(I), centred, zero where masked (cohere knows no mask). OBJECT is written, normalised to its
maximum, with cohere's sign of the Fourier exponent. One line of JSON on stdout says what it took; what cohere
prints goes to stderr. Times are those of its iterations alone. It draws its start by the clock: no two runs are
the same.
"""

import contextlib
import importlib
import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np


def reconstruct(amplitude: str, parameters: dict[str, Any], result: str) -> dict[str, Any]:
    """Iterations, wall and CPU seconds, and the error that cohere itself reports, which is a chi."""
    phasing = importlib.import_module("cohere_core.controller.phasing")
    worker = phasing.create_rec(parameters, amplitude, "np", -1, debug=True)
    if worker is None:
        raise SystemExit("cohere refused the pattern or its parameters")
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    worker.iterate()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    np.save(result, worker.get_image())
    return {
        "version": version("cohere_core"),
        "iterations": len(worker.errs),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "chi_own": worker.errs[-1],
    }


def main() -> None:
    amplitude, result, parameters = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        told = reconstruct(amplitude, json.loads(parameters), result)
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
