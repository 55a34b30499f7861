from tailmatch.distill.step import Distillation as Distillation
from tailmatch.distill.step import FrozenTeacher as FrozenTeacher
from tailmatch.distill.step import LabelsOnly as LabelsOnly
from tailmatch.distill.teacher import load_network as load_network
