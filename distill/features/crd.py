"""Contrastive representation distillation: Tian et al. 2020, arXiv:1910.10699."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.distill.features.base import Activations, FeatureMethod, FeatureShapes
from tailmatch.distill.features.catalog import CRDOptions
from tailmatch.errors import UserError
from tailmatch.losses.collective import all_rows, global_sum, own_rows, process_count

_LEAST = 1e-7
_FEW = (
    4  # times K: with so many images all products, and a choice of them, cost less than copying K rows for each image
)


class CRD(CRDOptions, FeatureMethod):
    """NCE between the networks' embeddings of one image, each against the other's memory of K images of other classes.

        h(v, y) = exp(v . memory_y / T) / Z
        loss    = - mean_b [ log h_b / (h_b + K/N)  +  sum_k log (K/N) / (h_k + K/N) ],  once for either network

    Embeddings are linear layers of the pooled features, scaled to length one. N counts the training images; Z is fixed
    by the first batch. Each memory, a row for each training image, follows its network: row <- momentum row +
    (1 - momentum) v, scaled to length one, once the loss is formed. The K negatives are drawn independently, so that
    one may come twice. Memories, Z and the number of steps, which the draws depend on, are in `state_dict()`, and the
    same on every process.
    """

    student_memory: Tensor
    teacher_memory: Tensor
    constants: Tensor
    steps: Tensor
    by_class: Tensor
    first: Tensor
    counts: Tensor

    def __post_init__(self, student: FeatureShapes, teacher: FeatureShapes, train_labels: Tensor) -> None:
        super().__post_init__(student, teacher)
        self.images = len(train_labels)
        self.embed_student = nn.Linear(student.pooled, self.embedding)
        self.embed_teacher = nn.Linear(teacher.pooled, self.embedding)
        reach = 1 / math.sqrt(self.embedding / 3)
        for name in ("student_memory", "teacher_memory"):
            self.register_buffer(name, torch.empty(self.images, self.embedding).uniform_(-reach, reach))
        self.register_buffer("constants", torch.zeros(2))  # Z of the student's and of the teacher's similarities
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._sort(train_labels)

    def _sort(self, train_labels: Tensor) -> None:
        """The images class by class: those of all other classes are then what lies before and after."""
        labels = train_labels.detach().cpu().long()
        counts = torch.bincount(labels)
        if int((counts > 0).sum()) < 2:
            raise UserError("CRD tells an image from those of other classes, and all training images are of one class.")
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("first", counts.cumsum(0) - counts, persistent=False)

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        s_BE = F.normalize(self.embed_student(student.pooled))
        t_BE = F.normalize(self.embed_teacher(teacher.pooled))
        chosen_BK = torch.cat([index[:, None], self.negatives_of(labels)], dim=1)
        of_student = self._contrast(s_BE, self.teacher_memory, chosen_BK, constant=0)
        of_teacher = self._contrast(t_BE, self.student_memory, chosen_BK, constant=1)
        with torch.no_grad():
            everyone = all_rows(index)
            for memory, v_BE in ((self.student_memory, s_BE), (self.teacher_memory, t_BE)):
                mixed_BE = self.momentum * memory[everyone] + (1 - self.momentum) * all_rows(v_BE)
                memory[everyone] = F.normalize(mixed_BE)
            self.steps += 1
        return of_student + of_teacher

    @torch.no_grad()
    def negatives_of(self, labels: Tensor) -> Tensor:
        """[B, K]: for each image so many of other classes. Drawn for the batch of all processes alike, by the step."""
        draw = torch.Generator(labels.device).manual_seed(int(self.steps))
        shape = (process_count() * len(labels), self.negatives)
        share_BK = own_rows(torch.rand(shape, generator=draw, device=labels.device))
        own_B1 = self.counts[labels][:, None]
        place_BK = (share_BK * (self.images - own_B1)).long().clamp_max(self.images - own_B1 - 1)
        return self.by_class[place_BK + own_B1 * (place_BK >= self.first[labels][:, None])]

    def _contrast(self, v_BE: Tensor, memory: Tensor, chosen_BK: Tensor, constant: int) -> Tensor:
        """The loss of one network's embeddings.

        Its gradient is formed here and now, because the memory changes before the backward pass would come.
        """
        anchor_BE = v_BE.detach().requires_grad_()
        with torch.enable_grad():
            h_BK = (self._products(anchor_BE, memory, chosen_BK) / self.temperature).exp()
            loss = self._nce(h_BK / self._constant(constant, h_BK))
            (gradient_BE,) = torch.autograd.grad(loss, anchor_BE)
        return loss.detach() + ((v_BE - v_BE.detach()) * gradient_BE).sum()

    def _products(self, anchor_BE: Tensor, memory: Tensor, chosen_BK: Tensor) -> Tensor:
        """[B, K + 1]: each anchor times its chosen rows."""
        if self.images <= _FEW * chosen_BK.shape[1]:
            return (anchor_BE @ memory.T).gather(1, chosen_BK)
        rows_BKE = memory.index_select(0, chosen_BK.flatten()).view(*chosen_BK.shape, -1)
        return (rows_BKE @ anchor_BE[:, :, None]).squeeze(2)

    @torch.no_grad()
    def _constant(self, which: int, h_BK: Tensor) -> Tensor:
        """Z: the first batch's mean, times N."""
        first = global_sum(h_BK.mean()) / process_count() * self.images
        known = self.constants[which]
        self.constants[which] = torch.where(known > 0, known, first.to(known.dtype))
        return self.constants[which].clone()

    def _nce(self, h_BK: Tensor) -> Tensor:
        noise = (h_BK.shape[1] - 1) / self.images
        own_B, others_BK = h_BK[:, 0], h_BK[:, 1:]
        told_B = (own_B / (own_B + noise + _LEAST)).log()
        apart_B = (noise / (others_BK + noise + _LEAST)).log().sum(1)
        return -(told_B + apart_B).mean()
