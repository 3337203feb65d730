"""Settings: flag over environment over file over default, and every mistake names itself."""

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from peerd.cli.config import OPTIONS, resolve, split_address
from peerd.cli.main import main
from peerd.model.config import ConfigError, ServeConfig


@pytest.fixture
def base(tmp_path):
    return {"source": f"dir:{tmp_path}", "ca_dir": "ca", "state_dir": "state"}


def test_every_field_is_an_option_and_every_option_a_field():
    """One table: nothing can be set that is not a flag, and no flag sets nothing."""
    fields = set(ServeConfig.__struct_fields__)
    assert {option.field for option in OPTIONS} == fields - {"drain_seconds"}


def test_precedence_is_flag_environment_file_default(base, tmp_path):
    """Each one where the ones before it are silent."""
    file = tmp_path / "peerd.yaml"
    file.write_text("cluster-id: file\nnetwork: file\ntrust-domain: file\n")
    config = resolve(
        {**base, "cluster_id": "flag", "network": None},
        {"PEERD_CLUSTER_ID": "env", "PEERD_NETWORK": "env"},
        file,
    )
    assert (config.cluster_id, config.network, config.trust_domain, config.system_namespace) == (
        "flag",
        "env",
        "file",
        "istio-system",
    )


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("peering: off", "peering", False),
        ("peering: 'on'", "peering", True),
        ("token-audiences: [a, b]", "token_audiences", ("a", "b")),
        ("token-audiences: a, b", "token_audiences", ("a", "b")),
        ("network: 7", "network", "7"),
        ("network: null", "network", ""),
        ("xds-addr: '[::1]:15012'", "xds_addr", "[::1]:15012"),
        ("heartbeat-seconds: 5", "heartbeat_seconds", 5),
    ],
)
def test_values_of_a_file_mean_what_they_look_like(base, tmp_path, text, field, value):
    """YAML reads `off` as a boolean and lists as lists."""
    file = tmp_path / "peerd.yaml"
    file.write_text(text)
    assert getattr(resolve(base, {}, file), field) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster_id: x", "has unknown keys: cluster_id; did you mean cluster-id?"),
        ("zzz: x\naaa: y", "has unknown keys: aaa, zzz; see peerd serve --help"),
        ("- a", "is not a mapping; write one"),
        ("a: [", "is not valid YAML: .* mend the file"),
        ("cluster-id: [a]", r"cluster-id is \['a'\]; write it as ID"),
        ("peering: 3", "peering 3: is not one of its values; use one of on, off"),
    ],
)
def test_mistakes_in_the_file_name_file_key_and_fix(base, tmp_path, text, message):
    """An unknown key is never ignored: it is a setting that does not hold."""
    file = tmp_path / "peerd.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"{file}.*{message}"):
        resolve(base, {}, file)


def test_a_file_that_is_not_there_is_named(base, tmp_path):
    """Flag, value, reason, fix."""
    with pytest.raises(ConfigError, match=r"--config .*no.yaml: cannot be read: No such file.*; name a YAML"):
        resolve(base, {}, tmp_path / "no.yaml")


@pytest.mark.parametrize("name", ["source", "state_dir"])
def test_a_required_option_that_is_missing_is_named(base, name):
    """With all three ways to give it."""
    flag = name.replace("_", "-")
    with pytest.raises(ConfigError, match=rf"--{flag}: is required; give --{flag} .*PEERD_.*--config"):
        resolve({**base, name: None}, {}, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"xds_addr": "nonsense"}, "--xds-addr nonsense: is not an address"),
        ({"xds_addr": "::1:80"}, "--xds-addr ::1:80: is not an address .*in brackets"),
        ({"xds_addr": "h:70000"}, "--xds-addr h:70000: is not an address"),
        ({"source": "kube:"}, "--source kube:: is not a source; write kube, kube:PATH"),
        ({"source": "etcd:x"}, "--source etcd:x: is not a source; write kube, kube:PATH"),
        ({"source": "dir:/no/such"}, "--source dir:/no/such: is not a directory; make it"),
        ({"log_level": "loud"}, "--log-level loud: is not one of its values; use one of debug"),
        (
            {"insecure_plaintext_addr": "0.0.0.0:15010"},
            "refused for anything but loopback; use 127.0.0.1:PORT",
        ),
        ({"insecure_plaintext_addr": ":15010"}, "refused for anything but loopback"),
        ({"insecure_plaintext_addr": "example.com:1"}, "refused for anything but loopback"),
    ],
)
def test_a_wrong_value_names_flag_value_and_fix(base, given, message):
    """Whichever option it is."""
    with pytest.raises(ConfigError, match=message):
        resolve({**base, **given}, {}, None)


@pytest.mark.parametrize("address", ["127.0.0.1:15010", "127.9.9.9:1", "[::1]:15010", "localhost:15010"])
def test_loopback_addresses_may_be_plaintext(base, address):
    """And are off by default."""
    assert resolve(base, {}, None).insecure_plaintext_addr == ""
    assert resolve({**base, "insecure_plaintext_addr": address}, {}, None).insecure_plaintext_addr == address


@pytest.mark.parametrize("mode", ["beside", "both"])
def test_istiod_is_fed_by_a_cluster_only(base, mode):
    """A directory is no place to write ServiceEntries into."""
    with pytest.raises(ConfigError, match="--mode") as refused:
        resolve({**base, "mode": mode}, {}, None)
    assert "use --source kube" in str(refused.value)
    assert resolve({**base, "source": "kube", "mode": mode}, {}, None).mode == mode


@pytest.mark.parametrize("source", ["kube", "kube:/root/.kube/config"])
def test_objects_may_come_from_an_api_server(base, source):
    """Found as Pods find it, or by a kubeconfig."""
    assert resolve({**base, "source": source}, {}, None).source == source


def test_addresses_split_into_host_and_port():
    """IPv6 hosts lose their brackets, an empty host stays empty."""
    assert split_address("[fd00::1]:80") == ("fd00::1", 80)
    assert split_address(":80") == ("", 80)


def test_help_shows_every_option_with_its_variable_and_an_example():
    """The help is generated from the same table."""
    result = CliRunner().invoke(main, ["serve", "--help"], terminal_width=200)
    assert result.exit_code == 0
    for option in OPTIONS:
        assert f"--{option.name} " in result.output
        assert f"[env: {option.environment}]" in result.output
    assert "peerd serve --source dir:./manifests" in result.output


def test_a_wrong_setting_exits_2_with_one_line(tmp_path):
    """No traceback, no usage text in between."""
    result = CliRunner().invoke(
        main, ["serve", "--source", "dir:/no/such", "--ca-dir", "x", "--state-dir", "y"]
    )
    assert result.exit_code == 2
    assert result.stderr == (
        "peerd: error: --source dir:/no/such: is not a directory; make it, or name a directory of manifests\n"
    )


def test_help_and_version_import_no_server():
    """`peerd --help` is quick because the entry point imports nothing of ours but the version."""
    tree = ast.parse((Path(__file__).parents[3] / "peerd/cli/main.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"peerd"}
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert re.search(r"serve +Run the control plane of one cluster\.", result.output)
