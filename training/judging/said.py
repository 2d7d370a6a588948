"""What a network says of an object tile, with how far it believes itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class Said(NamedTuple):
    """Predictions for B frames, as arrays.

    Attributes:
        amplitude: (B, h, w), None from a network that predicts phase only.
        phase_rad: (B, h, w).
        spread_rad: (B, h, w) circular standard deviation of the phase; None: it does not say.
        residual: (B,) forward residual of each frame; None: it does not say.
        radius: (B, h, w) √(c² + s²) before the projection onto the circle; None: it is not to be seen.
    """

    amplitude: Float32 | None
    phase_rad: Float32
    spread_rad: Float32 | None = None
    residual: Float32 | None = None
    radius: Float32 | None = None
