"""What a space refuses."""


class ArchitectureError(ValueError):
    """An architecture string that does not name a member of the space."""


class SpaceError(ValueError):
    """A space that cannot do what was asked, or settings that describe no network; the message says what can."""
