"""A recorded run as an entry of an experiment tracker: MLflow, Weights & Biases or trackio."""
