"""The dynamical forward model as a function that torch differentiates.

The gradient is `live_bcdi.dynamical`'s reversed march: torch records no slices. Tensors live on the CPU.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from live_bcdi.dynamical import Transport


class _March(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, transport: Transport, *volumes: Tensor) -> tuple[Tensor, Tensor]:
        plain = [np.asarray(each.detach().resolve_conj().resolve_neg()) for each in volumes]
        ctx.passage = transport.march(*plain)
        ctx.kinds = [each.dtype for each in volumes]
        return torch.from_numpy(ctx.passage.e0.copy()), torch.from_numpy(ctx.passage.eh.copy())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_e0, by_eh = (np.asarray(grad.resolve_conj().resolve_neg()) for grad in grads)
        found = ctx.passage.pull_back(by_e0, by_eh)
        arrays = (found.density, found.s0, found.delta_q)
        each = [torch.from_numpy(np.ascontiguousarray(array)).to(kind) for array, kind in zip(arrays, ctx.kinds)]
        return None, *each


def exit_waves(transport: Transport, density: Tensor, s0: Tensor, delta_q: Tensor) -> tuple[Tensor, Tensor]:
    """E0 and Eh, (n, nx, ny), of S = `density` (nx, ny, nz), s0 like it and departures `delta_q` (n, 3) in 1/m,
    with gradients by all three; `transport` is `live_bcdi.dynamical.transport_of`. Raises ScanError as it does."""
    waves: tuple[Tensor, Tensor] = _March.apply(transport, density, s0, delta_q)  # type: ignore[no-untyped-call]
    return waves
