"""Pickles described without being run: the machine, and what torch, numpy and Paddle pickles name."""
