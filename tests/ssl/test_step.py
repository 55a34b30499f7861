"""What a step of each algorithm teaches whom, and what it never looks at."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from tailmatch.engine.distributed import World
from tailmatch.engine.profile import Profile
from tailmatch.ssl import PRESETS, Acceptance, AddOn, Parts, build_task
from tailmatch.ssl.api import configure
from tailmatch.ssl.catalog import ACCEPTANCES

CPU = torch.device("cpu")
CONSISTENT = [name for name in PRESETS if PRESETS[name].unlabeled]
SILENT = Profile(False, CPU)


@pytest.fixture
def make_task(small_dataset, small_net):
    """A task on small images, with its own network; `threshold 0` where a rule takes one, so that labels count."""

    def make(dataset=None, seed=0, **options):
        settings = {"dataset": "npz", "labels": 8, "batch_size": 8, "steps": 20, "seed": seed, **options}
        torch.manual_seed(seed)
        config = configure(**settings)
        model = small_net()
        return build_task(config, CPU, World(), Parts(dataset=dataset or small_dataset, model=model))

    return make


def losses_of(task, step=10, averaged=None):
    task.model.train()
    batch = task.batches(step, SILENT)
    return task.algorithm(task.model, batch, step, averaged, SILENT), batch


def averaged_of(task):
    torch.manual_seed(99)
    other = type(task.model)()
    return other.requires_grad_(False)


@pytest.mark.parametrize("name", CONSISTENT)
def test_the_consistency_term_reaches_every_weight_of_the_network_and_nothing_else(make_task, name):
    given = {"threshold": 0.0} if "threshold" in ACCEPTANCES[PRESETS[name].acceptance].options else {}
    task = make_task(algorithm=name, **given)
    averaged = averaged_of(task)
    if name == "dash":
        for step in range(2):
            losses_of(task, step)
        task.algorithm.acceptance.first_loss.fill_(10.0)
    (losses, pseudo), _ = losses_of(task, averaged=averaged)
    assert pseudo.weight.sum() > 0
    losses["consistency"].backward()
    for weight_name, weight in task.model.named_parameters():
        assert weight.grad is not None, weight_name
        assert weight.grad.abs().sum() > 0, weight_name
    assert all(weight.grad is None for weight in averaged.parameters())
    assert all(not buffer.requires_grad for buffer in task.state.buffers())


@pytest.mark.parametrize("name", CONSISTENT)
def test_no_gradient_goes_into_the_pseudo_label(make_task, name):
    given = {"threshold": 0.0} if "threshold" in ACCEPTANCES[PRESETS[name].acceptance].options else {}
    task = make_task(algorithm=name, **given)
    batch = task.batches(5, SILENT)
    seen = task.algorithm.look(task.model.train(), batch, 5, averaged_of(task))
    teacher, student = seen.logits.teacher, seen.logits.student
    if teacher.requires_grad:
        pseudo = task.algorithm.pseudo_labels(seen)
        loss = task.algorithm.loss(student, pseudo.target, pseudo.labels, sample_weight=torch.ones(len(student)))
        of_teacher, of_student = torch.autograd.grad(loss, (teacher, student), allow_unused=True)
        assert of_teacher is None or not of_teacher.any()
        assert of_student.any()


def test_the_teachers_branch_can_be_attached(make_task):
    options = {"name": "ikl", "weights": "sample", "detach_teacher": False}
    task = make_task(loss=options, threshold=0.0)
    seen = task.algorithm.look(task.model.train(), task.batches(5, SILENT), 5, None)
    pseudo = task.algorithm.pseudo_labels(seen)
    loss = task.algorithm.loss(seen.logits.student, pseudo.target, pseudo.labels, sample_weight=pseudo.weight)
    (of_teacher,) = torch.autograd.grad(loss, (seen.logits.teacher,))
    assert of_teacher.any()


def test_fixmatchs_step_is_its_paper(make_task):
    """The masked loss divides by all unlabelled images; pseudo-labels come from the same training-mode forward."""
    task = make_task(threshold=0.3)
    model = copy.deepcopy(task.model)
    (losses, pseudo), batch = losses_of(task)
    logits = model.train()(torch.cat([batch.labeled, batch.weak, batch.student]))
    labeled, weak, strong = logits.split([8, 56, 56])
    confidence, label = weak.softmax(1).max(1)
    accepted = (confidence >= 0.3).float()
    assert 0 < accepted.sum() < 56
    expected = (cross_entropy(strong, label, reduction="none") * accepted).sum() / 56
    assert losses["consistency"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["supervised"].item() == pytest.approx(cross_entropy(labeled, batch.labels).item(), rel=1e-5)
    assert torch.equal(pseudo.labels, label)


class Reversed(AddOn):
    """Takes every prediction for its opposite."""

    def refine(self, target_UC, seen):
        return target_UC.flip(1)


class Listening(Acceptance):
    """Accepts everything and remembers what it was shown."""

    def forward(self, seen):
        self.shown = seen.unlabeled
        return super().forward(seen)


def test_uniform_alignment_judges_the_predictions_that_add_ons_have_refined(make_task):
    algorithm = make_task(algorithm="softmatch").algorithm
    algorithm.add_ons, algorithm.acceptance, algorithm.alignment.momentum = (Reversed(),), Listening(), 0.0
    task = make_task()
    seen = algorithm.look(task.model.train(), task.batches(5, SILENT), 5, None)
    pseudo = algorithm.pseudo_labels(seen)
    refined = seen.logits.teacher.detach().softmax(1).flip(1)
    assert torch.equal(pseudo.labels, refined.argmax(1))
    evened = refined / refined.mean(0)
    torch.testing.assert_close(algorithm.acceptance.shown, evened / evened.sum(1, keepdim=True))


def test_a_mean_teacher_is_the_average_and_learns_nothing(make_task):
    task = make_task(algorithm="mean-teacher")
    averaged = averaged_of(task)
    (_, pseudo), batch = losses_of(task, averaged=averaged)
    assert torch.allclose(pseudo.target, averaged.train()(batch.weak))
    assert not pseudo.target.requires_grad


def test_the_consistency_weight_rises(make_task):
    algorithm = make_task(algorithm="pi-model", steps=100).algorithm
    assert [algorithm.ramp(step) for step in (0, 20, 40, 99)] == [0, 0.5, 1, 1]
    assert make_task().algorithm.ramp(0) == 1


@pytest.mark.parametrize("add_on", ["", "darp", "crest", "abc", "daso", "logit-adjust"])
@pytest.mark.parametrize("name", ["flexmatch", "freematch", "adamatch"])
def test_true_labels_of_unlabelled_images_never_train(make_task, small_dataset, name, add_on):
    """Weights after some steps are the same bit for bit when the unlabelled images' true labels are nonsense."""
    trained = []
    for nonsense in (False, True):
        task = make_task(small_dataset, algorithm=name, add_on=add_on or (), loss="ikl", steps=6, labels=8)
        if nonsense:
            labels = torch.randint(4, (len(task.batches.unlabeled),), generator=torch.Generator().manual_seed(3))
            task.batches.unlabeled = replace(task.batches.unlabeled, labels=labels)
        optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
        for step in range(6):
            task.model.train()
            result = task.step(task.model, step, SILENT)
            optimizer.zero_grad()
            result.loss.backward()
            optimizer.step()
        trained.append((task.model.state_dict(), task.algorithm.state_dict(), task.metrics()))
    (weights, state, metrics), (same_weights, same_state, other_metrics) = trained
    assert all(torch.equal(weights[key], same_weights[key]) for key in weights)
    assert all(torch.equal(state[key], same_state[key]) for key in state)
    assert metrics != other_metrics  # they are counted, after all


def test_class_means_follow_labels_and_accepted_pseudo_labels(make_task):
    task = make_task(loss="ikl", threshold=0.3)
    means = task.algorithm.loss.class_means
    (_, pseudo), batch = losses_of(task)
    expected = torch.bincount(batch.labels, minlength=4).float()
    expected += torch.bincount(pseudo.labels[pseudo.weight > 0], minlength=4)
    was_moved = (means.means != 1 / 4).any(1)  # the rows of the classes that came up are uniform no more
    assert torch.equal(was_moved, expected > 0)
    assert not means.means.requires_grad
    assert make_task(loss={"name": "ikl", "weights": "sample"}).algorithm.loss.class_means is None
