"""Lines of keys: every TOML form that settings use, and the errors that name them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import ConfigError
from shared_model.parsing import load_toml
from shared_model.toml_lines import Place, key_lines

TEXT = '''# comment with [brackets] and "quotes
name = "a # b"   # c = 3

[population]
kind = 'iid'
sizes = [
  1,  # one
  2,
]
"odd key" = """
two = lines
"""
after = { x = 1, y = [1, 2] }

[[method]]
name = "fedavg"

[[method]]
name = "fedprox"
options.mu = 0.1

[method.federation]
rounds = 3
'''


def test_every_form_of_key_is_found_on_its_line() -> None:
    tomllib.loads(TEXT)
    lines = key_lines(TEXT)
    assert lines["name",] == 2
    assert lines["population",] == 4 and lines["population", "kind"] == 5 and lines["population", "sizes"] == 6
    assert lines["population", "odd key"] == 10 and lines["population", "after"] == 13
    assert lines["method", 0, "name"] == 16 and lines["method", 1, "name"] == 19
    assert lines["method", 1, "options", "mu"] == 20
    assert lines["method", 1, "federation"] == 22 and lines["method", 1, "federation", "rounds"] == 23
    assert ("two",) not in lines and ("c",) not in lines and ("population", "x") not in lines


def test_a_key_without_a_line_is_said_to_stand_where_its_table_does() -> None:
    place = Place("x.toml", lines=key_lines(TEXT)).inside("population", "after")
    assert place.at("x") == "x.toml:13"
    assert place.table == " in [population.after]"
    assert Place("manifest").at("x") == "manifest"


@given(st.text(alphabet="ab=[]{}\"'#\n\\. ,", max_size=60))
def test_the_scanner_never_fails(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in key_lines(text).values())


@dataclass(frozen=True)
class Inner:
    rounds: int = 1
    rate: float = 0.1
    optimizer: str = "fedavg"

    def __post_init__(self) -> None:
        if self.optimizer not in ("fedadam", "fedavg"):
            raise ConfigError(f"optimizer must be one of fedadam, fedavg, not {self.optimizer!r}")
        if not 0 < self.rate < 1:
            raise ConfigError(f"rate must be between 0 and 1, not {self.rate}")


@dataclass(frozen=True)
class Outer:
    name: str = ""
    federation: Inner = field(default_factory=Inner)
    method: tuple[Inner, ...] = ()


def _refusal(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "e.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_toml(path, Outer)
    return caught.value.message.replace(str(tmp_path) + "/", ""), caught.value.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            'name = "x"\n\n[federation]\nrouds = 2\n',
            "e.toml:4: unknown key 'rouds' in [federation]",
            "did you mean 'rounds'?",
        ),
        ("nmae = 1", "e.toml:1: unknown key 'nmae'", "did you mean 'name'?"),
        ('[federation]\n# one\nrounds = "2"', "e.toml:3: 'rounds' in [federation] must be a whole number, not '2'", ""),
        (
            '[federation]\nrate = 0.5\noptimizer = "fedadm"',
            "e.toml:3: optimizer must be one of fedadam, fedavg, not 'fedadm'",
            "did you mean 'fedadam'?",
        ),
        ("[federation]\nrounds = 1\nrate = 7", "e.toml:3: rate must be between 0 and 1, not 7.0", ""),
        ("[[method]]\n[[method]]\nrat = 0.5", "e.toml:3: unknown key 'rat' in [[method]]", "did you mean 'rate'?"),
        ("federation = 3", "e.toml:1: 'federation' must be a table, not 3", ""),
    ],
)
def test_the_first_wrong_key_or_value_is_named_with_its_line(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    assert _refusal(tmp_path, text) == (message, hint)


def test_a_list_of_tables_becomes_a_tuple(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text("[[method]]\nrounds = 2\n[[method]]\nrounds = 3\n")
    assert load_toml(tmp_path / "e.toml", Outer).method == (Inner(2), Inner(3))
