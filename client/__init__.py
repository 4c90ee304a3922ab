"""The device: private training, ledger, head fitting, stylising, and the command ``easel``."""
