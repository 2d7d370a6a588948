"""Idle time improves the mosaic: its object starts an iterative engine over the frames of the scan."""
