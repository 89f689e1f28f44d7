"""Ways to make a given network smaller: each is a frozen dataclass with one coroutine, `compress(...)`."""
