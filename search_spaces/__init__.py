"""What networks there are: architectures as values, and the spaces that build them."""

from search_spaces.choices import Architecture, Choice, ChoiceTable, describe
from search_spaces.errors import ArchitectureError, SpaceError

__all__ = ["Architecture", "ArchitectureError", "Choice", "ChoiceTable", "SpaceError", "describe"]
