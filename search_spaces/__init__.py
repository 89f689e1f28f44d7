"""What networks there are: architectures as values, and the spaces that build them."""

from search_spaces.choices import Architecture, ArchitectureError, Choice, ChoiceTable

__all__ = ["Architecture", "ArchitectureError", "Choice", "ChoiceTable"]
