import pytest
import torch
from torch import Tensor

from nascli.strategies.gradient.bilevel.derivatives import Curvature, detached, gradients, partial
from nascli.strategies.gradient.bilevel.problem import Tensors
from tests.toy_bilevel import random_like

ALPHA = [random_like(1, 3), random_like(2, 2, 2)]
WEIGHTS = [random_like(3, 2, 3), random_like(4, 4)]
V = [random_like(5, 2, 3), random_like(6, 4)]


def leaves(tensors: Tensors) -> list[Tensor]:
    return [t.clone().requires_grad_() for t in tensors]


def bent(alpha: Tensors, weights: Tensors) -> Tensor:
    mixed = (weights[0] @ alpha[0].exp()).tanh().sum() * weights[1].square().sum()
    return mixed + (alpha[1].flatten().cos() * weights[1] ** 3).sum()


def joined(vector: Tensor) -> Tensor:
    """The same loss of one vector [3 + 4 + 6 + 4]."""
    parts = vector.split([3, 4, 6, 4])
    return bent([parts[0], parts[1].reshape(2, 2)], [parts[2].reshape(2, 3), parts[3]])


def flat(tensors: Tensors) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


POINT = flat([*ALPHA, *WEIGHTS])
HESSIAN = torch.autograd.functional.hessian(joined, POINT)
"""[17, 17]: architecture weights first."""


def test_both_products_are_those_with_the_whole_matrix() -> None:
    curvature = Curvature(bent, leaves(ALPHA), leaves(WEIGHTS))
    torch.testing.assert_close(flat(curvature.along(V)), HESSIAN[7:, 7:] @ flat(V))
    torch.testing.assert_close(flat(curvature.along(WEIGHTS)), HESSIAN[7:, 7:] @ flat(WEIGHTS))
    torch.testing.assert_close(flat(curvature.across(V)), HESSIAN[:7, 7:] @ flat(V))
    assert curvature.value == joined(POINT) and not curvature.value.requires_grad


def test_products_keep_the_shapes() -> None:
    curvature = Curvature(bent, leaves(ALPHA), leaves(WEIGHTS))
    assert [t.shape for t in curvature.along(V)] == [w.shape for w in WEIGHTS]
    assert [t.shape for t in curvature.across(V)] == [a.shape for a in ALPHA]


def test_a_loss_that_is_linear_in_the_weights_has_no_curvature() -> None:
    curvature = Curvature(lambda a, w: w[0].sum() + 0 * a[0].sum(), leaves(ALPHA), leaves(WEIGHTS))
    assert not any(t.any() for t in [*curvature.along(V), *curvature.across(V)])


def test_weights_that_only_some_terms_know() -> None:
    curvature = Curvature(lambda a, w: (w[0] ** 2).sum() * a[0][0] + w[1].sum(), leaves(ALPHA), leaves(WEIGHTS))
    along = curvature.along(V)
    torch.testing.assert_close(along[0], 2 * ALPHA[0][0] * V[0])
    assert not along[1].any()
    across = curvature.across(V)
    torch.testing.assert_close(across[0][0], (2 * WEIGHTS[0] * V[0]).sum())
    assert not across[0][1:].any() and not across[1].any()


def test_gradients_leave_nothing_on_the_leaves() -> None:
    alpha, weights = leaves(ALPHA), leaves(WEIGHTS)
    value, above, below = partial(bent, alpha, weights)
    slope = torch.autograd.functional.jacobian(joined, POINT)
    torch.testing.assert_close(flat([*above, *below]), slope)
    assert value == joined(POINT) and not value.requires_grad
    assert all(t.grad is None for t in (*alpha, *weights))


def test_what_a_loss_does_not_depend_on_has_gradient_zero() -> None:
    alpha = leaves(ALPHA)
    found = gradients(alpha[0].square().sum(), alpha)
    assert torch.equal(found[0], 2 * ALPHA[0]) and not found[1].any() and found[1].shape == (2, 2)
    assert not any(t.any() or t.requires_grad for t in gradients(torch.tensor(1.0), alpha))


def test_detached_values_are_the_same_memory() -> None:
    alpha = leaves(ALPHA)
    constants = detached(alpha)
    assert not any(t.requires_grad for t in constants)
    assert [t.data_ptr() for t in constants] == [t.data_ptr() for t in alpha]


def test_the_graph_is_gone_after_the_last_product() -> None:
    curvature = Curvature(bent, leaves(ALPHA), leaves(WEIGHTS))
    curvature.across(V)
    with pytest.raises(RuntimeError, match="second time"):
        curvature.along(V)
