"""Compares the fused kernels with the plain computation; prints how many forms agree. Run by test_fused.py.

Usage: python fused_against_plain.py DEVICE. With TRITON_INTERPRET=1 and cpu the kernels run in Triton's interpreter.
"""

import itertools
import sys

import torch
from torch import Tensor

from tailmatch.losses.decoupled_rows import DecoupledForm, plain_rows
from tailmatch.losses.fused import fused_rows


def run(rows, student: Tensor, teacher: Tensor, weights: Tensor | None, form: DecoupledForm) -> list[Tensor]:
    """Value and gradients of a random combination of the rows' terms."""
    inputs = [student.clone().requires_grad_(), teacher.clone().requires_grad_()]
    soft, spread, mass = rows(*inputs, weights, form)
    generator = torch.Generator().manual_seed(3)
    up = torch.rand(2, len(soft), generator=generator).to(soft.device)
    (soft @ up[0] + spread @ up[1]).backward()
    grads = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in inputs]
    return [soft.detach(), spread.detach(), mass.detach(), *grads]


def main() -> None:
    device = sys.argv[1]
    generator = torch.Generator().manual_seed(0)
    forms = itertools.product((2, 100, 5000), (0.0, 0.3, 1.0), (True, False), ((1, 1), (1, 0), (0, 1)), (True, False))
    # The interpreter is slow: every fifth form there, which still meets every value of every setting.
    chosen = list(forms)[:: 5 if device == "cpu" else 1]
    count = 0
    for classes, gamma, given, (soft, spread), symmetric in chosen:
        form = DecoupledForm(bool(soft), bool(spread), gamma, 2.0, 0.5, 3.0, symmetric)
        for dtype in (torch.float32, torch.bfloat16) if classes == 100 else (torch.float32,):
            logits = 3 * torch.randn(2, 3, classes, generator=generator) + 100
            student, teacher = logits.to(device, dtype)
            weights = torch.softmax(torch.randn(3, classes, generator=generator), -1).to(device) if given else None
            if weights is not None:
                weights[0, 0] = 0
            if fused_rows(student, teacher, weights, form) is None:
                raise SystemExit("the fused kernels did not run")
            ours, plain = (run(rows, student, teacher, weights, form) for rows in (fused_rows, plain_rows))
            for got, expected in zip(ours, plain, strict=True):
                rtol = 1.6e-2 if got.dtype == torch.bfloat16 else 2e-5
                torch.testing.assert_close(got, expected, rtol=rtol, atol=1e-5 * max(1, float(expected.abs().max())))
            count += 1
    print(count)


if __name__ == "__main__":
    main()
