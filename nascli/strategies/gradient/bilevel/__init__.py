"""How architecture weights and network weights are trained against each other."""
