"""GradSign of two examples through one linear layer, worked by hand (Zhang & Jia 2022, Algorithm 1)."""

import torch
from torch import nn

from predictors.gradsign import GradSign, GradSignExcess, GradSignMean
from predictors.probe import Probe
from search_spaces.space import Batch


def test_two_examples_and_six_weights() -> None:
    """Logits are 0, so softmax is (1/3, 1/3, 1/3) and the gradient of row c is (1/3 - [c = y]) x.

    Example 1: x = (1, 2), y = 0: signs of the rows - -, + +, + +.
    Example 2: x = (3, -1), y = 1: signs of the rows + -, - +, + -.
    Sums: 0 -2, 0 2, 2 0; their absolute values make 6.
    """
    net = nn.Linear(2, 3)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    probe = Probe(net, Batch((torch.tensor([[1.0, 2.0], [3.0, -1.0]]),), torch.tensor([0, 1])))
    assert GradSign()(probe) == 6.0
    assert GradSignMean()(probe) == 1.0
    # Two random signs add up to 1 on average, and so do these.
    assert GradSignExcess()(probe) == 0.0


def test_one_weight_that_no_gradient_reaches() -> None:
    """The second input is 0 in both examples: three weights have no gradient, and the others agree nowhere or fully.

    x = (1, 0) and (2, 0), y = 0 and 0: signs of the first column - + + twice: 2 each, 6 in all, of 3 weights.
    """
    net = nn.Linear(2, 3)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    probe = Probe(net, Batch((torch.tensor([[1.0, 0.0], [2.0, 0.0]]),), torch.tensor([0, 0])))
    assert GradSign()(probe) == 6.0
    assert GradSignMean()(probe) == 2.0
    assert GradSignExcess()(probe) == 3.0
