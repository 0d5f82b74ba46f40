"""What the surface of a crystal costs, made and sent, by its radius and the array's edge.

python benchmarks/surface.py
"""

import time

import numpy as np

from live_bcdi.estimate import TRIANGLES
from live_bcdi.isosurface import MOST_TRIANGLES, Isosurface, isosurface

CASES = ((64, 16, TRIANGLES), (64, 28, TRIANGLES), (128, 40, MOST_TRIANGLES), (256, 100, MOST_TRIANGLES))


def size_bytes(surface: Isosurface) -> int:
    arrays = (surface.vertices, surface.faces, *surface.values.values())
    return sum(array.nbytes for array in arrays)


def main() -> None:
    print("| edge | radius (voxels) | at most | triangles | voxels a cell | MB | ms |")
    print("|---|---|---|---|---|---|---|")
    for edge, radius, most in CASES:
        place = np.indices((edge,) * 3, np.float32) - edge // 2
        amplitude = np.clip(radius - np.sqrt((place**2).sum(axis=0)) + 0.5, 0, 1).astype(np.float32)
        values = {"displacement": amplitude, "strain": amplitude} if most == MOST_TRIANGLES else {}
        density, support = amplitude.astype(np.complex64), amplitude > 0.2
        took_s = []
        for _ in range(3):
            began_s = time.perf_counter()
            surface = isosurface(density, support, 5 * np.eye(3), triangles=most, values=values)
            took_s.append(time.perf_counter() - began_s)
        assert surface is not None
        cells = f"{len(surface.faces)} | {surface.step:.2f} | {size_bytes(surface) / 1e6:.2f}"
        print(f"| {edge} | {radius} | {most} | {cells} | {1000 * min(took_s):.0f} |")


if __name__ == "__main__":
    main()
