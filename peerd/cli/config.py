"""Settings of `peerd serve`: every option is a flag, `PEERD_…` in the environment, and a key of the file.

Precedence: flag, then environment, then `--config` file, then default. The table below is the only list of
them; flags, environment names, file keys and docs/operations.md follow it (a test compares).
"""

import difflib
import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from peerd.model.config import ConfigError, ServeConfig
from peerd.model.record import Record
from peerd.transport.address import split_address


class Option(Record, frozen=True):
    """One setting; `name` is the flag without dashes and the file's key, `kind` how its text is read."""

    name: str
    metavar: str
    help: str
    kind: str = "text"  # text, address, list, seconds, or switch (on|off)
    required: bool = False
    choices: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """The field of ServeConfig."""
        return self.name.replace("-", "_")

    @property
    def environment(self) -> str:
        """The variable that sets it."""
        return f"PEERD_{self.field.upper()}"


OPTIONS: tuple[Option, ...] = (
    Option(
        "source",
        "kube[:PATH]|dir:PATH",
        "Where the cluster's objects come from: its API server, found as Pods find it or by a kubeconfig, or"
        " a watched directory.",
        required=True,
    ),
    Option(
        "mode",
        "standalone|beside|both",
        "standalone: serve ztunnels. beside: an istiod does, fed by what peerd writes into the cluster. both:"
        " while ztunnels move from one to the other.",
        choices=("standalone", "beside", "both"),
    ),
    Option(
        "istiod-flags",
        "auto|right|wrong",
        "Whether the istiod beside us reads entries as peerd needs it; auto reads its Deployment.",
        choices=("auto", "right", "wrong"),
    ),
    Option(
        "istiod-addr",
        "HOST:PORT",
        "Where the istiod beside us certifies; default: its Service in the system namespace, port 15012.",
        "address",
    ),
    Option("istiod-token-file", "FILE", "Our account's token for istiod, of audience istio-ca."),
    Option("istiod-root-file", "FILE", "The roots that istiod distributes (ConfigMap istio-ca-root-cert)."),
    Option("kube-context", "CTX", "The kubeconfig's context; default: its current one."),
    Option("cluster-id", "ID", "This cluster's id, unique among its peers."),
    Option("trust-domain", "TD", "Trust domain; default: the mesh configuration's, else cluster.local."),
    Option("system-namespace", "NS", "Where the control plane lives and the network label is read."),
    Option(
        "revision",
        "REV",
        "Read ConfigMap istio-REV, and objects labelled istio.io/rev=REV or not at all; default: istio, all.",
    ),
    Option("network", "NET", "Network, where the system namespace has no topology.istio.io/network label."),
    Option("xds-addr", "HOST:PORT", "Delta xDS and CA for ztunnels, over TLS.", "address"),
    Option("peer-addr", "HOST:PORT", "Other clusters' control planes, over mutual TLS.", "address"),
    Option(
        "gateway-addr",
        "HOST:PORT",
        "Envoy's xDS for our own east-west gateways, over mutual TLS; off by default.",
        "address",
    ),
    Option(
        "gateway-image",
        "IMAGE",
        "Run Gateways of class istio-eastwest, with this image of peerd; default: others do.",
    ),
    Option(
        "gateway-namespaces",
        "NS,…",
        "Where they are run beside the system namespace; peerd's account needs its rights there too.",
        "list",
    ),
    Option("envoy-image", "IMAGE", "The image of an unmodified Envoy, for those gateways."),
    Option("http-addr", "HOST:PORT", "/ready, /metrics and, for who may, /debug.", "address"),
    Option(
        "insecure-plaintext-addr",
        "127.0.0.1:PORT",
        "Delta xDS without TLS and authentication; off by default, loopback only.",
        "address",
    ),
    Option(
        "ca-dir",
        "DIR",
        "Root, intermediate and key, as `peerd certs` makes them; default: in Kubernetes Secret cacerts or"
        " istio-ca-secret, elsewhere a self-signed root in the state directory that no other cluster trusts.",
    ),
    Option("state-dir", "DIR", "What survives a restart; one per process.", required=True),
    Option("peering", "on|off", "off: derive Gateways, dial nobody.", "switch", choices=("on", "off")),
    Option(
        "jwks-file",
        "FILE",
        "Keys that verify ztunnels' tokens (JWKS); default: in Kubernetes the API server.",
    ),
    Option("token-issuer", "URL", "The only issuer of tokens that is accepted; default: any."),
    Option("token-audiences", "AUD,…", "Audiences of which a token must have one.", "list"),
    Option(
        "trusted-ztunnel-accounts", "NS/SA,…", "Accounts that may ask for their node's workloads.", "list"
    ),
    Option(
        "peer-service-account", "SA", "The account of peers' control planes, unless a Gateway says another."
    ),
    Option(
        "peer-trust-domains", "TD,…", "Trust domains accepted from dialling peers beside those known.", "list"
    ),
    Option(
        "heartbeat-seconds",
        "SECONDS",
        "Between two heartbeats to a peer, 1 to 300; three of them unanswered make it stale. The same in all"
        " clusters.",
        "seconds",
    ),
    Option(
        "log-format",
        "FORMAT",
        "auto is console on a terminal and json elsewhere.",
        choices=("auto", "json", "console"),
    ),
    Option(
        "log-level", "LEVEL", "The least severe level shown.", choices=("debug", "info", "warning", "error")
    ),
)
_BY_NAME = {option.name: option for option in OPTIONS}


def resolve(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None
) -> ServeConfig:
    """The settings that hold.

    Args:
        flags: field name to text; None where the flag was not given.
        environment: the process's environment.
        file: the `--config` file.

    Raises:
        ConfigError: a value cannot be used, a required one is missing, or the file has an unknown key.
    """
    from_file = _read_file(file) if file is not None else {}
    values: dict[str, Any] = {}
    for option in OPTIONS:
        text, origin = _choose(option, flags, environment, from_file, file)
        if text is not None:
            values[option.field] = _READERS[option.kind](option, text, origin)
        elif option.required:
            raise ConfigError(
                f"--{option.name}",
                "",
                "is required",
                f"give --{option.name} {option.metavar}, {option.environment}, or {option.name} in --config",
            )
    config = ServeConfig(**values)
    _check_source(config)
    _check_mode(config)
    _check_loopback(config)
    return config


def _choose(
    option: Option,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    from_file: Mapping[str, str],
    file: Path | None,
) -> tuple[str | None, str]:
    flag = flags.get(option.field)
    if flag is not None:
        return flag, f"--{option.name}"
    if environment.get(option.environment):
        return environment[option.environment], option.environment
    if option.name in from_file:
        return from_file[option.name], f"{file}: {option.name}"
    return None, ""


def _read_file(path: Path) -> dict[str, str]:
    import yaml  # only here: most starts have no file, and YAML costs 20 ms

    try:
        tree = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise ConfigError(
            "--config", str(path), f"cannot be read: {error.strerror}", "name a YAML file"
        ) from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ConfigError("--config", str(path), f"is not valid YAML: {problem}", "mend the file") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError("--config", str(path), "is not a mapping", "write one `option: value` per line")
    unknown = sorted(str(key) for key in tree if key not in _BY_NAME)
    if unknown:
        near = difflib.get_close_matches(unknown[0].replace("_", "-"), _BY_NAME, 1)
        hint = f"did you mean {near[0]}?" if near else "see peerd serve --help for the options"
        raise ConfigError("--config", str(path), f"has unknown keys: {', '.join(unknown)}", hint)
    return {key: _as_text(_BY_NAME[key], value, path) for key, value in tree.items() if value is not None}


def _as_text(option: Option, value: object, path: Path) -> str:
    if option.kind == "switch" and isinstance(value, bool):
        return "on" if value else "off"  # YAML reads `on` and `off` as booleans
    if option.kind == "list" and isinstance(value, list):
        return ",".join(str(item) for item in value)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise ConfigError("--config", str(path), f"{option.name} is {value!r}", f"write it as {option.metavar}")


def _read_text(option: Option, text: str, origin: str) -> str:
    if option.choices and text not in option.choices:
        raise ConfigError(origin, text, "is not one of its values", f"use one of {', '.join(option.choices)}")
    return text


def _read_switch(option: Option, text: str, origin: str) -> bool:
    return _read_text(option, text.lower(), origin) == "on"


def _read_list(_option: Option, text: str, _origin: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _read_address(option: Option, text: str, origin: str) -> str:
    try:
        split_address(text)
    except ValueError as error:
        raise ConfigError(
            origin, text, f"is not an address ({error})", f"write it as {option.metavar}"
        ) from error
    return text


def _read_seconds(option: Option, text: str, origin: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 300):
        raise ConfigError(
            origin, text, "is no number of seconds from 1 to 300", f"write it as {option.metavar}"
        )
    return int(text)


_READERS: dict[str, Callable[[Option, str, str], object]] = {
    "text": _read_text,
    "switch": _read_switch,
    "list": _read_list,
    "address": _read_address,
    "seconds": _read_seconds,
}


def _check_source(config: ServeConfig) -> None:
    scheme, colon, path = config.source.partition(":")
    if scheme == "kube" and bool(colon) == bool(path):
        return
    if not colon or scheme != "dir" or not path:
        raise ConfigError(
            "--source",
            config.source,
            "is not a source",
            "write kube, kube:PATH with a kubeconfig, or dir:PATH with a directory of manifests",
        )
    if not Path(path).is_dir():
        raise ConfigError(
            "--source", config.source, "is not a directory", "make it, or name a directory of manifests"
        )


def _check_mode(config: ServeConfig) -> None:
    if config.mode != "standalone" and not config.source.startswith("kube"):
        raise ConfigError(
            "--mode",
            config.mode,
            f"needs a cluster to write into, and --source is {config.source}",
            "use --source kube",
        )


def _check_loopback(config: ServeConfig) -> None:
    text = config.insecure_plaintext_addr
    if not text:
        return
    host, _ = split_address(text)
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            "--insecure-plaintext-addr",
            text,
            "is plaintext without authentication, which is refused for anything but loopback",
            "use 127.0.0.1:PORT, or --xds-addr for other machines",
        )


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a click command with `--config` and one option per entry of the table.

    Defaults and the environment are left to `resolve`; click only shows them.
    """
    defaults = dict(zip(_defaulted(), ServeConfig.__struct_defaults__, strict=True))
    for option in reversed(OPTIONS):
        default = defaults.get(option.field, "")
        shown = "on" if default is True else ",".join(default) if isinstance(default, tuple) else default
        note = f" [default: {shown}]" if shown else ""
        command = click.option(
            f"--{option.name}",
            option.field,
            metavar="|".join(option.choices) or option.metavar,
            default=None,
            help=f"{option.help}{note} [env: {option.environment}]",
        )(command)
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        envvar="PEERD_CONFIG",
        help="YAML file with any of the options below as keys. [env: PEERD_CONFIG]",
    )(command)


def _defaulted() -> tuple[str, ...]:
    count = len(ServeConfig.__struct_defaults__)
    return ServeConfig.__struct_fields__[-count:]
