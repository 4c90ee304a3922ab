"""Maps the packages, which lie at the top of the repository, under ``easel.*`` in the wheel."""

from setuptools import find_packages, setup

# They are imported by their directory names (a Flower app bundle needs them so); an installed wheel
# keeps them out of everybody's way. easel/__init__.py makes both spellings work.
SIBLINGS = ["client", "protos", "server", "shared_model", "simulations"]

setup(
    package_dir={"easel": "easel", **{f"easel.{name}": name for name in SIBLINGS}},
    packages=[
        "easel",
        *(f"easel.{name}" for name in find_packages(include=[*SIBLINGS, *(f"{s}.*" for s in SIBLINGS)])),
    ],
)
