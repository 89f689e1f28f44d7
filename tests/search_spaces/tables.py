"""Random choice tables with conditions, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from search_spaces.choices import Choice, ChoiceTable


@st.composite
def tables(draw: st.DrawFn, *, most: int = 6) -> ChoiceTable:
    """A table of 1 to `most` choices in up to three groups; each may depend on up to two earlier ones."""
    choices: list[Choice] = []
    for i in range(draw(st.integers(1, most))):
        group = draw(st.sampled_from(["", "a.", "b.c."]))
        options = tuple(str(v) for v in range(draw(st.integers(1, 3))))
        parents = draw(st.lists(st.sampled_from(choices), unique=True, max_size=2)) if choices else []
        when = tuple((p.name, frozenset(draw(st.sets(st.sampled_from(p.options), min_size=1)))) for p in parents)
        choices.append(Choice(f"{group}x{i}", options, when))
    return ChoiceTable("random", tuple(choices))
