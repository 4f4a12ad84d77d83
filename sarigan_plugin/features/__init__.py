"""What images are compared by: detectors, their statistics, perceptual distance."""
