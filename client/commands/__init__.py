"""The sub-commands of ``easel``: each module has ``add_arguments(parser)`` and ``run(arguments) -> int``.

They are imported one at a time, when asked for, and import torch only inside ``run``.
"""
