"""Peers as judges: timm, mmpretrain and PaddleClas make files, and read what `r2convert map` made of them.

None of them is in the environment of the other tests. Each runs in a process of its own, with the interpreter of
an environment of its own (``make test-peers`` makes them), knows nothing of r2convert, and answers with logits.
"""
