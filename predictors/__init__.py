"""What can be said of a network without training it."""


class ScoreError(ValueError):
    """A network that cannot be scored or counted; the message says what it lacks."""


__all__ = ["ScoreError"]
