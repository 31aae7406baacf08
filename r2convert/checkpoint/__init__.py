"""Files <-> named tensors, without torch: every container, read safely and written streaming."""
