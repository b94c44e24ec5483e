"""One file for each algorithm: its rule, and the class that says its hyperparameters."""
