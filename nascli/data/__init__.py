"""Data: train, val and test streams of batches, and the readers that make them."""

from nascli.data.streams import Data, DataSource, Images, Split, images

__all__ = ["Data", "DataSource", "Images", "Split", "images"]
