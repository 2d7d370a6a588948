"""How it runs at the beamline: from the detector's socket to the mosaic that people watch."""
