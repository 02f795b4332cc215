"""Reference values recorded with PyTorch, the scripts that record them, and the inputs they share.

Tests read `.npz` and `.json` files here and import `reference.weights` and `reference.solver_problem`, which
need NumPy only. `make_*.py` and `torch_*.py` need PyTorch and are never imported by a test.
"""
