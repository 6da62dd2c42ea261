"""Images, augmentation and their deterministic order."""
