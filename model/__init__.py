"""What the network is, and the physics it obeys."""
