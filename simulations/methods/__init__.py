"""Methods of federated learning, a small file each, on the very code that ships to devices."""
