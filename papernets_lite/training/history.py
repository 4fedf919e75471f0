"""What a run recorded."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from papernets_lite.ops.checks import expect


@dataclass
class History:
    """One number per step and key, and the seconds a run took."""

    columns: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """How many steps were recorded."""
        return max((len(column) for column in self.columns.values()), default=0)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.columns:
            raise KeyError(f"no column {key!r}; recorded: {sorted(self.columns)}")
        return torch.tensor(self.columns[key])

    def last(self, key: str, n: int = 20) -> float:
        """The mean of the last steps.

        Args:
            key: The column.
            n: How many steps, at least 1; of a shorter run all count.

        Returns:
            Their mean.

        Raises:
            ValueError: For fewer than one step.
            KeyError: When there is no such column.
        """
        expect(n >= 1, "at least one last step, n >= 1", n)
        return self[key][-n:].mean().item()
