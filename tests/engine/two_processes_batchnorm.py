"""Run by test_batchnorm.py, twice: half a batch each, BatchNorm over both. Usage: two_processes_batchnorm.py FOLDER."""

import importlib.util
import os
import sys
from pathlib import Path

import torch
import torch.distributed as distributed
from torch.nn.parallel import DistributedDataParallel

from tailmatch.engine.batchnorm import with_batchnorm
from tailmatch.engine.stopping import leave

spec = importlib.util.spec_from_file_location("test_batchnorm", Path(__file__).with_name("test_batchnorm.py"))
same = importlib.util.module_from_spec(spec)
spec.loader.exec_module(same)


def main(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    net = with_batchnorm(same.network(), "synchronized", 2)
    parallel = DistributedDataParallel(net)
    parallel(same.images()[rank::2]).square().mean().backward()
    found = {"gradients": [parameter.grad for parameter in net.parameters()], "state": net.state_dict()}
    torch.save(found, folder / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave(0)
