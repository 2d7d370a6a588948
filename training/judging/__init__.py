"""How good a reconstruction is: by tile, by mosaic, by ring, beside iterative engines."""
