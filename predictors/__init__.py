"""What can be said of a network without training it."""


class ScoreError(ValueError):
    """A network that cannot be scored or counted; the message says what it lacks."""


class DeadNetworkError(ScoreError):
    """A network through which nothing flows, forwards or backwards: a score of it would be a made-up number."""


__all__ = ["DeadNetworkError", "ScoreError"]
