"""Farm: a Ray-distributed hyperparameter and ablation farm for financial time-series models."""
