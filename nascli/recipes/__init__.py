"""Training recipes: what trains supernets and single networks, and the loop that they and other methods share."""
