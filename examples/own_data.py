"""Your own data: a frozen dataclass whose fields are its settings and whose `load` returns the three splits.

    nascli search --data examples.own_data:Stripes --set data.noise=0.2

Replace `_drawn` by whatever reads your files. A plain function that returns Data serves as well: `--data yours:make`.
"""

from dataclasses import dataclass

import numpy as np

from nascli.data import Data, images


@dataclass(frozen=True)
class Stripes:
    """Noisy stripes, upright (class 0) or level (class 1)."""

    size: int = 16
    noise: float = 0.3

    def load(self) -> Data:
        """600 images to train, of which 100 are held out for validation, and 200 to test."""
        rng = np.random.default_rng(0)
        return images(self._drawn(rng, 600), self._drawn(rng, 200), classes=2, val=100, pad=2)

    def _drawn(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(2, size=count)
        upright = np.tile(np.arange(self.size) // 2 % 2, (self.size, 1))
        clean = np.where(labels[:, None, None] == 0, upright, upright.T)
        noisy = 255 * np.clip(clean + rng.normal(0, self.noise, clean.shape), 0, 1)
        return noisy.astype(np.uint8)[:, None], labels  # uint8 [images, channels, height, width] and labels [images]
