"""Differentiable search: a supernet whose choices are mixtures, and how each mixture comes to one option."""
