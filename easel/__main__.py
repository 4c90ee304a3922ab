"""``python -m easel`` is the command ``easel``."""

from easel.launch import device

if __name__ == "__main__":
    device()
