"""Pictures in: made into data sets, checked, split, masked."""
