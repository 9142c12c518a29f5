"""What ``bench.gpu_first`` runs, and what a GPU machine without internet needs."""
