"""Tiles turned to fit the mosaic under them, one after the other, before they are added."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.gauge import fitting_turn
from service.messages import Tiles
from service.mosaic import Mosaic, Stitched
from service.spread import spread_phasor


def add_aligned(mosaic: Mosaic, tiles: Tiles) -> tuple[Tiles, Stitched]:
    """Add tiles as `Mosaic.add` does, each turned by the one angle that fits it best to those before it.

    The absolute phase of a tile is in no diffraction pattern. A tile on empty ground is not turned. What
    comes first decides: errors add up along the scan, and the mosaic depends on the order of its tiles.

    Args:
        mosaic: that grows.
        tiles: (n, h, w), in the order in which they are added.

    Returns:
        The tiles as they were turned, and where they went.

    Raises:
        ValueError: the tiles are not of the shape of the weight.
    """
    corners, fractions, _ = mosaic.place(tiles.positions_m)
    cos, sin = tiles.cos.copy(), tiles.sin.copy()
    turned = replace(tiles, cos=cos, sin=sin)
    went = []
    for n, (y, x) in enumerate(corners.tolist()):
        weighted = spread_phasor(cos[n], sin[n], mosaic.weight, fractions[n])
        under = mosaic.phasors((y, x, y + weighted.shape[0], x + weighted.shape[1]))
        turn = fitting_turn(weighted, under)
        phasor = np.complex64(turn) * (cos[n] + np.complex64(1j) * sin[n])
        cos[n], sin[n] = phasor.real, phasor.imag
        went.append(mosaic.add(turned.only(slice(n, n + 1))))
    stitched, outside, not_finite = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(one, which) for one in went)])
        for which in ("stitched", "outside", "not_finite")
    )
    return turned, Stitched(stitched, outside, not_finite)
