"""Results that leave the beamline: a report that opens anywhere, and a Tiled server."""
