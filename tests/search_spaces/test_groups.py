from __future__ import annotations

import torch

from search_spaces.groups import NOBODY, Border, Branch, Cut, Groups, Heads, Part, joined


def small() -> Groups:
    """Rows of `w` are groups 0 and 1, its second column is group 2, which has the first of `b` as well."""
    return Groups(
        torch.tensor([0, 0, 1]),
        ("rows", "column"),
        (
            Part("w", torch.tensor([[0], [1], [NOBODY]])),
            Part("w", torch.tensor([[NOBODY, 2]])),
            Part("b", torch.tensor([2, NOBODY])),
        ),
        (Cut("w", 0, torch.tensor([0, 1, NOBODY])), Cut("w", 1, torch.tensor([NOBODY, 2]))),
        (Border("pad", torch.tensor([2]), torch.tensor([NOBODY, 2])),),
        (Heads("attention", torch.tensor([0, NOBODY])),),
        (Branch(("x", "y"), 1),),
        {"other": "for a reason"},
    )


def tensors() -> dict[str, torch.Tensor]:
    return {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "b": torch.tensor([7.0, 8.0])}


def test_sums_by_hand() -> None:
    groups = small()
    assert groups.sums(tensors()).tolist() == [3.0, 7.0, 2 + 4 + 6 + 7]
    assert groups.squares(tensors()).tolist() == [5.0, 25.0, 4 + 16 + 36 + 49]
    assert groups.counts(tensors()).tolist() == [2, 2, 4]
    assert groups.sizes().tolist() == [2, 1] and len(groups) == 3 and groups.removable


def test_small_terms_are_not_lost_in_large_ones() -> None:
    part = Part("w", torch.tensor([[0], [NOBODY]]))
    groups = Groups(torch.tensor([0]), ("a",), (part,))
    values = {"w": torch.cat([torch.full((1, 1), 1e8), torch.full((1, 1), 1.0)])}
    assert groups.sums(values).dtype == torch.float64 and not groups.removable
    assert groups.squares(values).item() == torch.tensor(1e8).square().item()


def test_scaling_in_place() -> None:
    values = tensors()
    small().scale_(values, torch.tensor([0.0, 1.0, 2.0]))
    assert values["w"].tolist() == [[0, 0], [3, 8], [5, 12]] and values["b"].tolist() == [14, 8]


def test_scaling_works_on_parameters() -> None:
    values = {k: torch.nn.Parameter(v) for k, v in tensors().items()}
    small().scale_(values, torch.zeros(3))
    assert values["w"].tolist() == [[0, 0], [0, 0], [5, 0]] and values["w"].requires_grad


def test_only_some_axes() -> None:
    groups = small().only([1], {"rows": "for another"})
    assert groups.names == ("column",) and groups.axis.tolist() == [0]
    assert [(p.tensor, p.owners.tolist()) for p in groups.parts] == [("w", [[-1, 0]]), ("b", [0, -1])]
    assert [(c.tensor, c.dim, c.owners.tolist()) for c in groups.cuts] == [("w", 1, [-1, 0])]
    assert [(b.inputs.tolist(), b.outputs.tolist()) for b in groups.borders] == [([0], [-1, 0])]
    assert groups.heads == () and groups.branches == ()
    assert groups.left_out == {"other": "for a reason", "rows": "for another"}
    rows = small().only([0], {})
    assert [b.owner for b in rows.branches] == [1] and rows.heads[0].owners.tolist() == [0, -1] and not rows.borders


def test_axes_in_another_order() -> None:
    groups = small().only([1, 0], {})
    assert groups.names == ("column", "rows")
    assert [groups.names[a] for a in groups.axis] == ["rows", "rows", "column"]
    assert len(small().only([], {})) == 0


def test_joining() -> None:
    both = joined([small(), small()])
    assert len(both) == 6 and both.axis.tolist() == [0, 0, 1, 2, 2, 3]
    assert both.names == ("rows", "column", "rows", "column")
    assert [c.owners.tolist() for c in both.cuts[2:]] == [[3, 4, -1], [-1, 5]]
    assert both.branches[1].owner == 4 and both.heads[1].owners.tolist() == [3, -1]
    assert both.borders[1].outputs.tolist() == [-1, 5]
    values = tensors()
    assert both.sums(values).tolist() == small().sums(values).tolist() * 2
    back = both.only([2, 3], {})
    assert back.sums(values).tolist() == small().sums(values).tolist()
    assert len(joined([])) == 0


def test_no_groups() -> None:
    nothing = Groups(torch.zeros(0, dtype=torch.int64), (), ())
    assert nothing.sums({}).tolist() == [] and nothing.sizes().tolist() == []
