"""Where the time of a step goes: named sections, timed only when asked for."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Profile:
    """Adds up the seconds spent in named sections: `with profile("augmentation"): ...`.

    Sections may not nest. On a GPU each section ends with a synchronisation, so that work is charged to the section
    that asked for it; a run with profiling is therefore slower than one without.
    """

    def __init__(self, enabled: bool, device: torch.device) -> None:
        self.enabled, self.device = enabled, device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, section: str) -> Iterator[None]:
        if not self.enabled:
            yield
            return
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[section] += time.perf_counter() - start

    def shares(self) -> dict[str, float]:
        """Each section's share of the time of all sections."""
        total = sum(self.seconds.values()) or 1.0
        return {section: spent / total for section, spent in self.seconds.items()}

    def table(self, steps: int) -> str:
        """One line a section, longest first."""
        rows = sorted(self.seconds.items(), key=lambda row: -row[1])
        shares = self.shares()
        lines = [f"{'section':<14}{'ms/step':>10}{'share':>9}"]
        lines += [f"{name:<14}{1000 * spent / max(steps, 1):>10.2f}{shares[name]:>8.1%}" for name, spent in rows]
        return "\n".join(lines)
