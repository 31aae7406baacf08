"""A folder, tar or list of images -> (image id, label, uint8 crop)."""
