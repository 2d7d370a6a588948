"""How the network learned, and how it is judged."""
