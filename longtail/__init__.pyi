from tailmatch.distill.step import Distillation as Distillation
from tailmatch.distill.step import FrozenTeacher as FrozenTeacher
from tailmatch.distill.teacher import load_network as load_network
from tailmatch.longtail.config import LongtailConfig as LongtailConfig
from tailmatch.longtail.task import LongtailTask as LongtailTask
from tailmatch.models.classifiers import replace_head as replace_head
from tailmatch.models.feature_model import CosineLinear as CosineLinear
