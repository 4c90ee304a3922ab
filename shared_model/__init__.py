"""The model and its mathematics: no network, no Flower, no files beyond weights and pictures."""
