"""Ways to search: each is a frozen dataclass with one coroutine, `search(task, state)`."""
