"""Every method that compares features beside a plain computation of what its paper says, on small tensors."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.declare import build
from tailmatch.distill import FEATURE_METHODS, Activations, FeatureMethod, FeatureShapes
from tailmatch.distill.features.at import attention
from tailmatch.distill.features.catalog import WEIGHTS
from tailmatch.distill.features.ofd import negative_mean
from tailmatch.errors import UserError

BATCH, CLASSES, TRAINING_IMAGES = 5, 3, 20
SIZES = {"student": [(3, 8, 8), (4, 4, 4)], "teacher": [(5, 8, 8), (6, 2, 2)]}
POOLED = {"student": 4, "teacher": 6}
LABELS, INDEX = torch.tensor([0, 2, 1, 1, 0]), torch.tensor([7, 3, 19, 0, 11])
TRAIN_LABELS = torch.arange(TRAINING_IMAGES) % CLASSES


def activations(side: str, seed: int) -> Activations:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=draw, dtype=torch.float64).requires_grad_()

    before = tuple(normal(*size) for size in SIZES[side])
    return Activations(tuple(normal(*size) for size in SIZES[side]), before, normal(POOLED[side]), normal(CLASSES))


def shapes(side: str) -> FeatureShapes:
    draw = torch.Generator().manual_seed(9)
    spread = tuple(  # with negative responses everywhere
        (torch.rand(size[0], generator=draw) - 0.5, 0.5 + torch.rand(size[0], generator=draw)) for size in SIZES[side]
    )
    return FeatureShapes(tuple(SIZES[side]), POOLED[side], spread)


def made(name: str, **options: float | bool) -> FeatureMethod:
    torch.manual_seed(3)
    if name == "crd":
        options = {"embedding": 4, "negatives": 6, **options}
    facts = {"student": shapes("student"), "teacher": shapes("teacher"), "train_labels": TRAIN_LABELS}
    method: FeatureMethod = build("feature method", name, FEATURE_METHODS, facts, options)
    return method.double().train()


# -- what each says, image by image and pair by pair -------------------------------------------------------------------


def pooled_to(features: Tensor, size: int) -> Tensor:
    """Square means of non-overlapping squares."""
    step = features.shape[-1] // size
    return features.unflatten(-1, (size, step)).unflatten(-3, (size, step)).mean((-1, -3))


def of_one_size(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    size = min(s.shape[-1], t.shape[-1])
    return pooled_to(s, size), pooled_to(t, size)


def at(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for pair in zip(s.stages, t.stages, strict=True):
        for one, other in zip(*of_one_size(*pair), strict=True):
            maps = [(features**2).sum(0) for features in (one, other)]
            apart = maps[0] / maps[0].norm() - maps[1] / maps[1].norm()
            total = total + (apart**2).mean() / BATCH
    return total


def fitnet(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    convolution, norm, _ = method.regressor
    made = F.conv2d(s.stages[1], convolution.weight, convolution.bias, stride=2, padding=1)
    flat = made.transpose(0, 1).flatten(1)
    centred = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    wanted = t.stages[1].transpose(0, 1).flatten(1)
    return ((norm.weight[:, None] * centred + norm.bias[:, None]).clamp_min(0) - wanted).square().mean()


def sp(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    grams = []
    for features in (s.stages[-1], t.stages[-1]):
        rows = []
        for one in features:
            row = torch.stack([(one * other).sum() for other in features])
            rows.append(row / row.norm())
        grams.append(torch.stack(rows))
    return (grams[0] - grams[1]).square().sum() / BATCH**2


def huber(apart: Tensor) -> Tensor:
    return torch.where(apart.abs() < 1, apart**2 / 2, apart.abs() - 0.5)


def rkd(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    far, bent = [], []
    for x in (s.pooled, t.pooled):
        pairs = [(x[i] - x[j]).norm() if i != j else x[0, 0] * 0 for i in range(BATCH) for j in range(BATCH)]
        mean = torch.stack(pairs).sum() / (BATCH * (BATCH - 1))
        far.append(torch.stack(pairs) / mean)
        angles = []
        for i in range(BATCH):
            for j in range(BATCH):
                for k in range(BATCH):
                    if i in (j, k):
                        angles.append(x[0, 0] * 0)
                    else:
                        angles.append(F.cosine_similarity(x[j] - x[i], x[k] - x[i], dim=0))
        bent.append(torch.stack(angles))
    return 25 * huber(far[0] - far[1]).mean() + 50 * huber(bent[0] - bent[1]).mean()


def pkt(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    shares = []
    for x in (s.pooled, t.pooled):
        near = torch.stack([torch.stack([(F.cosine_similarity(a, b, dim=0) + 1) / 2 for b in x]) for a in x])
        shares.append(near / near.sum(1, keepdim=True))
    return (shares[1] * (shares[1] / shares[0]).log()).sum() / BATCH**2


def vid(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for stage, pair in enumerate(zip(s.stages, t.stages, strict=True)):
        x, wanted = of_one_size(*pair)
        for layer in method.regressors[stage]:
            x = (
                x.clamp_min(0)
                if isinstance(layer, nn.ReLU)
                else torch.einsum("oi,bihw->bohw", layer.weight[..., 0, 0], x)
            )
        variance = (1 + method.rho[stage].exp()).log() + 1e-5
        gauss = torch.distributions.Normal(x, variance.sqrt().view(1, -1, 1, 1))
        total = total - gauss.log_prob(wanted).mean() - math.log(2 * math.pi) / 2
    return total


def nst(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for pair in zip(s.stages, t.stages, strict=True):
        for one, other in zip(*of_one_size(*pair), strict=True):
            a, b = ([channel.flatten() / channel.norm() for channel in features] for features in (one, other))

            def kernel(left: list[Tensor], right: list[Tensor]) -> Tensor:
                return torch.stack([(x @ y) ** 2 for x in left for y in right]).mean()

            total = total + (kernel(b, b) + kernel(a, a) - 2 * kernel(a, b)) / BATCH
    return total


def ofd(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for stage, (x, wanted) in enumerate(zip(s.preactivations, t.preactivations, strict=True)):
        made = method.connectors[stage](x)
        size = made.shape[-1]
        wanted = (
            pooled_to(wanted, size)
            if wanted.shape[-1] >= size
            else wanted.repeat_interleave(2, 2).repeat_interleave(2, 3)
        )
        mean, deviation = (values.double().numpy() for values in shapes("teacher").spread[stage])
        grid = np.linspace(-12, 0, 400_001)[:, None]
        density = np.exp(-(((grid - mean) / deviation) ** 2) / 2)
        margin = torch.from_numpy((grid * density).sum(0) / density.sum(0)).view(1, -1, 1, 1).expand_as(made)
        for one, other, least in zip(made.flatten(), wanted.flatten(), margin.flatten(), strict=True):
            if other > 0 or (other > least and one > other):
                total = total + (one - other) ** 2 / BATCH / 2 ** (1 - stage)
            elif other <= least and one > least:
                total = total + (one - least) ** 2 / BATCH / 2 ** (1 - stage)
    return total


def crd(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    negatives = method.negatives_of(LABELS)
    embedded = [
        F.normalize(x @ layer.weight.T + layer.bias)
        for x, layer in ((s.pooled, method.embed_student), (t.pooled, method.embed_teacher))
    ]
    total = torch.zeros((), dtype=torch.float64)
    for v, memory in zip(embedded, (method.teacher_memory.clone(), method.student_memory.clone()), strict=True):
        chosen = torch.cat([INDEX[:, None], negatives], 1)
        scores = (torch.einsum("be,bke->bk", v, memory[chosen]) / 0.07).exp()
        scores = scores / (scores.detach().mean() * TRAINING_IMAGES)
        noise = method.negatives / TRAINING_IMAGES
        total = total - (scores[:, 0] / (scores[:, 0] + noise)).log().sum() / BATCH
        total = total - (noise / (scores[:, 1:] + noise)).log().sum() / BATCH
    return total


def reviewkd(method: FeatureMethod, s: Activations, t: Activations) -> Tensor:
    student = [*s.stages, s.pooled[:, :, None, None]]
    teacher = [*t.preactivations, t.pooled[:, :, None, None]]
    total, above = torch.zeros((), dtype=torch.float64), None
    for level in (2, 1, 0):
        fusion, wanted = method.fusions[level], teacher[level]
        x = fusion.narrow(student[level])
        if above is not None:
            times = x.shape[-1] // above.shape[-1]
            above = above.repeat_interleave(times, 2).repeat_interleave(times, 3)
            both = torch.einsum("oi,bihw->bohw", fusion.attention.weight[..., 0, 0], torch.cat([x, above], 1))
            share = 1 / (1 + (-(both + fusion.attention.bias.view(1, 2, 1, 1))).exp())
            x = x * share[:, 0, None] + above * share[:, 1, None]
        if x.shape[-1] > wanted.shape[-1]:
            x = x[..., :: x.shape[-1] // wanted.shape[-1], :: x.shape[-1] // wanted.shape[-1]]
        above, out = x, fusion.widen(x)
        weight, weights, loss = 1.0, 1.0, (out - wanted).square().mean()
        for size in (4, 2, 1):
            if size < out.shape[-1]:
                weight /= 2
                weights += weight
                loss = loss + weight * (pooled_to(out, size) - pooled_to(wanted, size)).square().mean()
        total = total + loss / weights
    return total


PLAIN: dict[str, Callable[[FeatureMethod, Activations, Activations], Tensor]] = {
    "fitnet": fitnet, "at": at, "sp": sp, "rkd": rkd, "pkt": pkt, "vid": vid, "nst": nst, "ofd": ofd, "crd": crd,
    "reviewkd": reviewkd,
}  # fmt: skip
CLOSE = {"pkt": 1e-4, "ofd": 1e-3, "crd": 1e-5}  # their small constants, and a margin summed up on a grid


def tensors_of(seen: Activations) -> list[Tensor]:
    return [*seen.stages, *seen.preactivations, seen.pooled, seen.logits]


@pytest.mark.parametrize("name", FEATURE_METHODS)
def test_loss_and_gradients_equal_a_plain_computation(name: str) -> None:
    found = []
    for compute in (lambda method, s, t: method(s, t, LABELS, INDEX), PLAIN[name]):
        method, student, teacher = made(name), activations("student", 1), activations("teacher", 2)
        loss = compute(method, student, teacher.detached())
        loss.backward()
        gradients = [tensor.grad for tensor in tensors_of(student)]
        assert any(gradient is not None and bool(gradient.any()) for gradient in gradients), name
        found.append((loss.detach(), gradients, [parameter.grad for parameter in method.parameters()]))
    room = {"rtol": CLOSE.get(name, 1e-9), "atol": CLOSE.get(name, 1e-9)}
    torch.testing.assert_close(found[0][0], found[1][0], **room)
    for ours, plain in zip(found[0][1] + found[0][2], found[1][1] + found[1][2], strict=True):
        zeros = [torch.zeros_like(each) for each in (ours, plain) if each is not None][:1]
        assert zeros or (ours is None and plain is None)
        if zeros:
            torch.testing.assert_close(zeros[0] if ours is None else ours, zeros[0] if plain is None else plain, **room)


@pytest.mark.parametrize("name", FEATURE_METHODS)
def test_the_teacher_has_no_gradient_and_the_methods_parts_have(name: str) -> None:
    method, student, teacher = made(name), activations("student", 1), activations("teacher", 2)
    method(student, teacher, LABELS, INDEX).backward()
    assert all(tensor.grad is None for tensor in tensors_of(teacher))
    assert all(parameter.grad is not None for parameter in method.parameters())


@pytest.mark.parametrize("name", FEATURE_METHODS)
def test_half_precision_is_compared_in_float32(name: str) -> None:
    method = made(name).float()
    halves = [
        Activations(
            *(tuple(x.detach().half() for x in maps) for maps in seen[:2]),
            seen.pooled.detach().half(),
            seen.logits.half(),
        )
        for seen in (activations("student", 1), activations("teacher", 2))
    ]
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(*halves, LABELS, INDEX)
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_attention_of_another_power_is_of_magnitudes() -> None:
    seen = torch.tensor([[[[1.0, -2.0]], [[-3.0, 1.0]]]])
    found = attention(seen, 3.0)
    torch.testing.assert_close(found, torch.tensor([[28.0, 9.0]]) / math.hypot(28, 9))


def test_every_method_is_described_weighed_and_made_from_its_options() -> None:
    assert set(FEATURE_METHODS) == set(PLAIN) == set(WEIGHTS)
    for name, part in FEATURE_METHODS.items():
        assert part.description.endswith(".")
        assert {option: getattr(made(name), option) for option in part.options if name != "crd"} == {
            option: entry.default for option, entry in part.options.items() if name != "crd"
        }


def test_maps_of_images_that_look_alike_have_finite_gradients() -> None:
    for name in FEATURE_METHODS:
        method, teacher = made(name), activations("teacher", 2)
        flat = Activations(
            *(tuple(torch.zeros_like(x).requires_grad_() for x in maps) for maps in activations("student", 1)[:2]),
            torch.ones(BATCH, POOLED["student"], dtype=torch.float64).requires_grad_(),
            torch.zeros(BATCH, CLASSES, dtype=torch.float64),
        )
        loss = method(flat, teacher, LABELS, INDEX)
        loss.backward()
        assert loss.isfinite(), name
        assert all(x.grad is None or x.grad.isfinite().all() for x in tensors_of(flat)), name


def test_ofds_margin_where_hardly_a_response_is_negative() -> None:
    mean, deviation = torch.tensor([2.0, 3.2, 40.0, 0.0]), torch.tensor([1.0, 1.0, 0.5, 1.0])
    expected = [-0.3732, -3.0, -1.5, -0.7979]  # from 3.1 deviations on: three deviations below zero
    torch.testing.assert_close(negative_mean(mean, deviation), torch.tensor(expected), rtol=1e-3, atol=0)


def test_crd_draws_images_of_other_classes_and_all_of_them() -> None:
    method = made("crd", negatives=2000)
    drawn = method.negatives_of(LABELS)
    for label, row in zip(LABELS, drawn, strict=True):
        assert set(row.tolist()) == {i for i in range(TRAINING_IMAGES) if TRAIN_LABELS[i] != label}
    assert torch.equal(drawn, method.negatives_of(LABELS))
    method.steps += 1
    assert not torch.equal(drawn, method.negatives_of(LABELS))


def test_crd_of_many_images_gathers_what_it_compares() -> None:
    found = []
    for compute in (lambda method, s, t: method(s, t, LABELS, INDEX), crd):
        method, student = made("crd", negatives=2), activations("student", 1)  # many images for so few negatives
        compute(method, student, activations("teacher", 2).detached()).backward()
        found.append(student.pooled.grad)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-8)


def test_crds_memory_is_indexed_by_image_and_goes_on_where_it_was() -> None:
    student, teacher = activations("student", 1), activations("teacher", 2)
    method = made("crd")
    untouched = method.student_memory.clone()
    method(student, teacher, LABELS, INDEX)
    moved = (method.student_memory != untouched).any(1).nonzero().flatten()
    assert moved.tolist() == sorted(INDEX.tolist())
    resumed = made("crd")
    resumed.load_state_dict(method.state_dict())
    again = activations("student", 4)
    assert float(method(again, teacher, LABELS, INDEX).detach()) == float(
        resumed(again, teacher, LABELS, INDEX).detach()
    )
    assert torch.equal(method.teacher_memory, resumed.teacher_memory)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("fitnet", {"hint_stage": 3}, "hint_stage must be one of the 2 stages"),
        ("rkd", {"angle_weight": -1.0}, "angle_weight must be a finite number at least 0"),
        ("vid", {"initial_variance": 0.0}, "greater than 0"),
        ("at", {"pwer": 2.0}, "Did you mean 'power'"),
        ("fitnets", {}, "Did you mean 'fitnet'"),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        made(name, **options)


def test_networks_that_a_method_cannot_compare_are_refused() -> None:
    facts = {"student": shapes("student"), "train_labels": TRAIN_LABELS}
    bare = FeatureShapes(tuple(SIZES["teacher"]), 6, (None, None))
    for name, teacher, labels, said in (
        ("ofd", bare, TRAIN_LABELS, "needs a BatchNorm before the last activation"),
        ("at", FeatureShapes((), 6, ()), TRAIN_LABELS, "needs a network with one after its stem"),
        ("fitnet", FeatureShapes(((5, 8, 8), (6, 16, 16)), 6, ()), TRAIN_LABELS, "choose another hint_stage"),
        ("crd", shapes("teacher"), torch.zeros(20, dtype=torch.int64), "all training images are of one class"),
    ):
        with pytest.raises(UserError, match=said):
            build("feature method", name, FEATURE_METHODS, {**facts, "teacher": teacher, "train_labels": labels}, {})
