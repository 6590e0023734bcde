"""Where trials run: the only importer of Ray and Optuna."""
