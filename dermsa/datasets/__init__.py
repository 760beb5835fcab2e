"""Data sets: readers, splits by protocol, the decoded cache, augmentation."""
