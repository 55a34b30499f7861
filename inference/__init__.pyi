from tailmatch.inference.images import Preprocess as Preprocess
from tailmatch.inference.load import LoadedRun as LoadedRun
from tailmatch.inference.load import load_run as load_run
