"""From a source's raw cells to encoded batches: columns, splits, preprocessing, datasets, the feed."""
