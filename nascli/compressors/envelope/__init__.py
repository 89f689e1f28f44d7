"""The group sparse envelope: its mathematics on norms alone, and the step that applies it to a network."""
