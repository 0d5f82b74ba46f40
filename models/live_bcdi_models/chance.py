"""Random numbers of one seeded stream, on the device where they are needed."""

import torch
from torch import Tensor


class Chance:
    """Draws from a seeded `torch.Generator`: the same seed gives the same numbers on the same kind of device."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """`shape` numbers between `low` and `high`."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """`shape` numbers of the standard normal distribution."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def directions(self, *shape: int) -> Tensor:
        """Unit vectors, (*shape, 3), every direction as likely."""
        return torch.nn.functional.normalize(self.normal(*shape, 3), dim=-1)

    def rotations(self, count: int) -> Tensor:
        """Proper rotations, (count, 3, 3), every one as likely."""
        frame, upper = torch.linalg.qr(self.normal(count, 3, 3))
        frame = frame * upper.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)
        return frame * torch.linalg.det(frame).sign().view(-1, 1, 1)

    def integers(self, below: int, *shape: int) -> Tensor:
        """`shape` whole numbers from 0 to `below` - 1."""
        return torch.randint(below, shape, generator=self.generator, device=self.device)

    def choice(self, weights: list[float], count: int) -> Tensor:
        """`count` indices into `weights`, each as likely as its weight."""
        chances = torch.tensor(weights, device=self.device)
        return torch.multinomial(chances, count, replacement=True, generator=self.generator)

    def poisson(self, mean: Tensor) -> Tensor:
        """Poisson counts of `mean`."""
        return torch.poisson(mean, generator=self.generator)

    def on(self, values: Tensor) -> Tensor:
        """`values` on the device of the stream."""
        return values.to(self.device)
