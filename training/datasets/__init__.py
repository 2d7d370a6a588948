"""Sets of frames with known tiles: made, loaded, split."""
