"""Learning without labels: the measured counts teach the network."""
