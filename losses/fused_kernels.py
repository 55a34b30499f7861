"""The Triton kernels of `fused.py`. Imported only where Triton is.

One program works on one row (forward) or on one block of a row's columns (backward), in float32. Notation as in
`decoupled.py`; a softmax's normaliser is kept as its two parts, the largest logit and the logarithm of the sum, since
their sum would lose the digits of a row with a large offset.
"""

# Kernels are not annotated: Triton reads an annotation as a type of its own.
# mypy: ignore-errors

import triton
import triton.language as tl

STATISTICS = 8
"""Numbers kept for each row: top and log-sum of student, teacher and weights; the weights' sum S; the mean mu."""


@triton.jit
def _scaled(logits, inside, columns, scale):
    """Logits times 1 / T; far below any logit outside the row, yet finite, so that differences stay numbers."""
    values = tl.load(logits + columns, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, values * scale, -1e30)


@triton.jit
def _normaliser(logits, scale, CLASSES: tl.constexpr, BLOCK: tl.constexpr):
    """The largest scaled logit of a row, and log sum_j exp(x_j - largest), in one pass."""
    lane = tl.arange(0, BLOCK)
    top = tl.full([BLOCK], -1e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, CLASSES, BLOCK):
        columns = first + lane
        x = _scaled(logits, columns < CLASSES, columns, scale)
        higher = tl.maximum(top, x)
        total = total * tl.exp(top - higher) + tl.exp(x - higher)
        top = higher
    largest = tl.max(top, 0)
    return largest, tl.log(tl.sum(total * tl.exp(top - largest), 0))


@triton.jit
def _weights(teacher, weights, inside, columns, scale, gamma, top, log, GIVEN: tl.constexpr, POWER: tl.constexpr):
    """The row's weights p ** gamma, zero outside the row; POWER is 0, 1, or 2 for any other gamma."""
    if POWER == 0:
        p = tl.where(inside, 1.0, 0.0)
    else:
        if GIVEN:
            p = tl.load(weights + columns, mask=inside, other=0.0).to(tl.float32)
            if POWER == 2:
                p = tl.where(p > 0, tl.exp(gamma * tl.log(tl.where(p > 0, p, 1.0))), 0.0)
        else:
            x = _scaled(teacher, inside, columns, scale) - top - log
            if POWER == 2:
                x = x * gamma
            p = tl.where(inside, tl.exp(x), 0.0)
    return p


@triton.jit
def _difference(student, teacher, inside, columns):
    """d = t - s, zero outside the row."""
    t = tl.load(teacher + columns, mask=inside, other=0.0).to(tl.float32)
    return t - tl.load(student + columns, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def forward_kernel(
    student,
    teacher,
    weights,
    student_stride,
    teacher_stride,
    weights_stride,
    student_scale,
    teacher_scale,
    weight_scale,
    gamma,
    rows,
    statistics,
    batch,
    CLASSES: tl.constexpr,
    SOFT: tl.constexpr,
    SPREAD: tl.constexpr,
    GIVEN: tl.constexpr,
    POWER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write each row's soft cross-entropy, wMSE and S to `rows` [3, B], and what the backward needs."""
    row = tl.program_id(0).to(tl.int64)
    student += row * student_stride
    teacher += row * teacher_stride
    weights += row * weights_stride
    statistics += row * 8
    lane = tl.arange(0, BLOCK)

    if SOFT:
        s_top, s_log = _normaliser(student, student_scale, CLASSES, BLOCK)
        t_top, t_log = _normaliser(teacher, teacher_scale, CLASSES, BLOCK)
        soft = tl.zeros([BLOCK], tl.float32)
        for first in range(0, CLASSES, BLOCK):
            columns = first + lane
            inside = columns < CLASSES
            log_q = _scaled(teacher, inside, columns, teacher_scale) - t_top - t_log
            log_r = _scaled(student, inside, columns, student_scale) - s_top - s_log
            soft += tl.where(inside, tl.exp(log_q) * log_r, 0.0)
        tl.store(rows + row, -tl.sum(soft, 0))
        tl.store(statistics, s_top)
        tl.store(statistics + 1, s_log)
        tl.store(statistics + 2, t_top)
        tl.store(statistics + 3, t_log)

    if SPREAD:
        w_top = 0.0
        w_log = 0.0
        if not GIVEN:
            w_top, w_log = _normaliser(teacher, weight_scale, CLASSES, BLOCK)
        sums = tl.zeros([BLOCK], tl.float32)
        products = tl.zeros([BLOCK], tl.float32)
        for first in range(0, CLASSES, BLOCK):
            columns = first + lane
            inside = columns < CLASSES
            p = _weights(teacher, weights, inside, columns, weight_scale, gamma, w_top, w_log, GIVEN, POWER)
            sums += p
            products += p * _difference(student, teacher, inside, columns)
        mass = tl.sum(sums, 0)
        mean = tl.sum(products, 0) / tl.maximum(mass, 1e-30)
        squares = tl.zeros([BLOCK], tl.float32)
        for first in range(0, CLASSES, BLOCK):
            columns = first + lane
            inside = columns < CLASSES
            p = _weights(teacher, weights, inside, columns, weight_scale, gamma, w_top, w_log, GIVEN, POWER)
            centred = _difference(student, teacher, inside, columns) - mean
            squares += p * centred * centred
        tl.store(rows + batch + row, 0.5 * mass * tl.sum(squares, 0))
        tl.store(rows + 2 * batch + row, mass)
        tl.store(statistics + 4, w_top)
        tl.store(statistics + 5, w_log)
        tl.store(statistics + 6, mass)
        tl.store(statistics + 7, mean)


@triton.jit
def backward_kernel(
    student,
    teacher,
    weights,
    student_stride,
    teacher_stride,
    weights_stride,
    student_scale,
    teacher_scale,
    weight_scale,
    gamma,
    statistics,
    soft_grads,
    spread_grads,
    student_grad,
    teacher_grad,
    SYMMETRIC: tl.constexpr,
    STUDENT: tl.constexpr,
    TEACHER: tl.constexpr,
    CLASSES: tl.constexpr,
    SOFT: tl.constexpr,
    SPREAD: tl.constexpr,
    GIVEN: tl.constexpr,
    POWER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write (r - q) / T and S p (d - mu), times the rows' incoming gradients, for one block of one row's columns."""
    row = tl.program_id(0).to(tl.int64)
    student += row * student_stride
    teacher += row * teacher_stride
    weights += row * weights_stride
    statistics += row * 8
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < CLASSES
    slope = tl.zeros([BLOCK], tl.float32)

    if SOFT:
        x = _scaled(student, inside, columns, student_scale) - tl.load(statistics) - tl.load(statistics + 1)
        y = _scaled(teacher, inside, columns, teacher_scale) - tl.load(statistics + 2) - tl.load(statistics + 3)
        slope += (tl.exp(x) - tl.exp(y)) * student_scale * tl.load(soft_grads + row)
    if SPREAD:
        w_top = tl.load(statistics + 4)
        w_log = tl.load(statistics + 5)
        p = _weights(teacher, weights, inside, columns, weight_scale, gamma, w_top, w_log, GIVEN, POWER)
        centred = _difference(student, teacher, inside, columns) - tl.load(statistics + 7)
        pull = p * centred * tl.load(statistics + 6) * tl.load(spread_grads + row)
        if SYMMETRIC:
            slope -= pull
        if TEACHER:
            values = pull.to(teacher_grad.dtype.element_ty)
            tl.store(teacher_grad + row * CLASSES + columns, values, mask=inside)
    if STUDENT:
        tl.store(student_grad + row * CLASSES + columns, slope.to(student_grad.dtype.element_ty), mask=inside)
