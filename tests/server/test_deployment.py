"""A fleet's folder: readable by its owner only, never overwritten, good certificates, keys that hand over."""

import json
import re
import shutil
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.authority import certificate_names, expiry, issue, make_authority, public_raw, rotation, verify_rotation
from server.authority import make_signing_key as new_key
from server.cli import _parser
from server.config import FederationConfig
from server.deployment import RELEASE_PORT, Fleet, ServerConfig, create, renew_certificate, rotate_signing_key
from server.release_commands import PORT
from shared_model.errors import ConfigError, InputError, MissingError, StorageError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return create(tmp_path / "fleet", hosts=["fleet.example.org", "203.0.113.7"], now=NOW)


def test_only_the_owner_can_read_anything(fleet: Fleet) -> None:
    everything = [fleet.folder, *fleet.folder.rglob("*")]
    assert len(everything) > 10
    for path in everything:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_configuration_is_usable_and_safe(fleet: Fleet) -> None:
    config = FederationConfig.load(fleet.federation)
    assert not config.unprotected and config.target_epsilon == 2.0 and config.quorum == 0.5
    assert fleet.config() == ServerConfig("0.0.0.0", 39300, 39310)
    assert Fleet.open(fleet.folder) == fleet


def test_the_certificate_is_good_for_the_hosts_and_this_machine(fleet: Fleet) -> None:
    names = certificate_names(fleet.certificate.read_bytes())
    assert names == ["fleet.example.org", "localhost", "203.0.113.7", "127.0.0.1", "::1"]
    authority = x509.load_pem_x509_certificate(fleet.ca.read_bytes())
    leaf, chained = x509.load_pem_x509_certificates(fleet.certificate.read_bytes())
    assert chained == authority
    leaf.verify_directly_issued_by(authority)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert fleet.facts(now=NOW)["certificate_days_left"] == 397
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(fleet.certificate, fleet.key)


def test_nothing_is_overwritten(fleet: Fleet, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="already: nothing was changed"):
        create(fleet.folder, hosts=["other.example.org"], now=NOW)
    assert {path: path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file()} == before
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "photo.png").touch()
    with pytest.raises(InputError, match=r"not empty: photo\.png"):
        create(tmp_path / "used", hosts=[], now=NOW)


def test_a_killed_init_goes_on_with_its_keys(fleet: Fleet) -> None:
    authority, signing = fleet.ca.read_bytes(), fleet.signing_key.read_bytes()
    fleet.server.unlink()  # written last
    with pytest.raises(MissingError, match=r"has no server\.toml"):
        Fleet.open(fleet.folder)
    create(fleet.folder, hosts=["fleet.example.org"], now=NOW)
    assert (fleet.ca.read_bytes(), fleet.signing_key.read_bytes()) == (authority, signing)


def test_a_new_certificate_keeps_authority_and_hosts(fleet: Fleet) -> None:
    before, authority = fleet.certificate.read_bytes(), fleet.ca.read_bytes()
    later = NOW + timedelta(days=300)
    assert renew_certificate(fleet, hosts=[], now=later) == expiry(fleet.certificate.read_bytes())
    assert fleet.ca.read_bytes() == authority and fleet.certificate.read_bytes() != before
    assert set(certificate_names(before)) == set(certificate_names(fleet.certificate.read_bytes()))
    assert fleet.facts(now=later)["host"] == "fleet.example.org"
    renew_certificate(fleet, hosts=["new.example.org"], now=later)
    assert "new.example.org" in fleet.facts(now=later)["hosts"]
    fleet.ca_key.unlink()
    with pytest.raises(MissingError, match=r"ca\.key"):
        renew_certificate(fleet, hosts=[], now=later)


def test_signing_keys_hand_over(fleet: Fleet) -> None:
    first = public_raw(fleet.signing_key.read_bytes())
    rotate_signing_key(fleet, now=NOW)
    rotate_signing_key(fleet, now=NOW)
    chain = json.loads(fleet.rotations.read_text())
    assert len(chain) == 2
    trusted = first
    for statement in chain:
        trusted = verify_rotation(statement, trusted)
    assert trusted == public_raw(fleet.signing_key.read_bytes())
    loaded = serialization.load_pem_public_key(fleet.signing_public.read_bytes())
    assert loaded.public_bytes_raw() == trusted  # type: ignore[union-attr]
    with pytest.raises(InputError, match="not signed by the key that is trusted"):
        verify_rotation(chain[1], first)
    forged = {**chain[0], "body": chain[0]["body"].replace(chain[0]["body"][-80:-60], "0" * 20)}
    with pytest.raises(InputError):
        verify_rotation(forged, first)


def test_a_rotation_that_was_killed_leaves_a_usable_chain(fleet: Fleet) -> None:
    old = fleet.signing_key.read_bytes()
    fleet.rotations.write_text(json.dumps([rotation(old, new_key(), now=NOW)]))  # its key was never put in place
    rotate_signing_key(fleet, now=NOW)
    (only,) = json.loads(fleet.rotations.read_text())
    assert verify_rotation(only, public_raw(old)) == public_raw(fleet.signing_key.read_bytes())


@pytest.mark.parametrize("host", ["", "two words", "a" * 64, "https://x", "x/y", "*.example.org"])
def test_hosts_are_checked(host: str) -> None:
    with pytest.raises(InputError, match="neither a host name nor an address"):
        issue(make_authority("x", now=NOW), [host], now=NOW)


def test_ports_are_checked() -> None:
    with pytest.raises(ConfigError, match="must differ"):
        ServerConfig(port=39310, control_port=39310)
    with pytest.raises(ConfigError, match="between 1 and 65535"):
        ServerConfig(port=0)


def test_damaged_keys_are_no_traceback(fleet: Fleet) -> None:
    fleet.signing_key.write_text("nonsense")
    with pytest.raises(StorageError, match="signing key cannot be read"):
        rotate_signing_key(fleet, now=NOW)


def test_service_files_name_the_folder(tmp_path: Path) -> None:
    fleet = create(tmp_path / 'a "fleet" of 100%', hosts=[], now=NOW)
    unit = (fleet.folder / "deploy" / "easel-server.service").read_text()
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    quoted = '"' + str(fleet.folder).replace('"', '\\"').replace("%", "%%") + '"'
    assert line.endswith(f" run {quoted} --log-format json")
    for wanted in ("NoNewPrivileges=yes", "UMask=0077", "ProtectSystem=strict", "Restart=on-failure"):
        assert wanted in unit
    releases = (fleet.folder / "deploy" / "easel-releases.service").read_text()
    assert f"release serve --folder {quoted} --port 39320\n" in releases and RELEASE_PORT == PORT == 39320
    yaml = pytest.importorskip("yaml", reason="reads the compose file")
    services = yaml.safe_load((fleet.folder / "deploy" / "compose.yaml").read_text())["services"]
    assert set(services) == {"easel-server", "easel-releases"}
    for service, port in zip(services.values(), ("39300", "39320"), strict=True):
        assert "FROM flwr/superlink:1.41.0\n" in service["build"]["dockerfile_inline"]
        assert service["ports"] == [f"{port}:{port}"] and service["cap_drop"] == ["ALL"] and service["read_only"]
    for service in services.values():  # the commands exist, with these options
        _parser().parse_args(service["command"])


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    fleet = create(tmp_path / "a fleet", hosts=[], now=NOW)
    units = [fleet.folder / "deploy" / name for name in ("easel-server.service", "easel-releases.service")]
    for unit in units:  # the tests' interpreter may have no easel-server beside it, and /home may not be there
        unit.write_text(re.sub(r'^Exec(\w+)="[^"]*"', r"Exec\1=/bin/true", unit.read_text(), flags=re.M))
    done = subprocess.run([program, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "easel-" in line]
    assert not complaints, done.stderr
    units[0].write_text(units[0].read_text().replace("Restart=on-failure", "Restart=sometimes"))
    again = subprocess.run([program, "verify", "--man=no", units[0]], capture_output=True, text=True, timeout=60)
    assert "sometimes" in again.stderr, "it does look"
