"""Values with their unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from numpy.typing import NDArray

from edgewright.errors import DataError


@final
@dataclass(frozen=True, eq=False)
class Quantity:
    """The values of one sample.

    Attributes:
        values: As the model returned them, without the batch dimension.
        unit: Such as "years"; empty if they have none.
    """

    values: NDArray[Any]
    unit: str = ""

    def __float__(self) -> float:
        """The value, if there is one.

        Raises:
            DataError: There are several.

        Example:
            >>> import numpy as np
            >>> float(Quantity(np.array([34.5]), "years"))
            34.5
        """
        if self.values.size != 1:
            raise DataError(f"there are {self.values.size} values, of shape {self.values.shape}; "
                            "read .values")
        return float(self.values.reshape(()))


def decode_numbers(values: NDArray[Any], unit: str = "") -> list[Quantity]:
    """The values of each sample.

    Args:
        values: (N, ...).
        unit: Their unit.

    Example:
        >>> import numpy as np
        >>> float(decode_numbers(np.array([[34.5]]), "years")[0])
        34.5
    """
    return [Quantity(values[index], unit) for index in range(len(values))]
