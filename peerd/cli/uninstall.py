"""`peerd uninstall`: the cluster as it was before peerd."""

import asyncio
import sys

import click

from peerd.cli.serve import fail

_EXAMPLE = """
    \b
    Example, before its manifests are deleted (helm does it by itself):
      peerd uninstall --kubeconfig ~/.kube/config --deployment peerd
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kubeconfig", default="", metavar="FILE", help="Default: this Pod's service account.")
@click.option("--context", default="", help="Of the kubeconfig; default: its current one.")
@click.option("--system-namespace", default="istio-system", show_default=True)
@click.option(
    "--deployment", default="", metavar="NAME", help="peerd's own: it is scaled to 0 first, and waited for."
)
@click.option("--purge", is_flag=True, help="Also the self-signed CA's Secret and the root ConfigMaps.")
@click.option("--patience", default=60.0, show_default=True, help="Seconds until its Pods have ended.")
def uninstall(
    *, kubeconfig: str, context: str, system_namespace: str, deployment: str, purge: bool, patience: float
) -> None:
    """Take back what peerd wrote into a cluster."""
    # Late: these libraries cost half a second.
    from peerd.kubeapi.base import ApiUnreachableError
    from peerd.kubeapi.credentials import Credentials, CredentialsError
    from peerd.kubeapi.errors import ApiError
    from peerd.kubeapi.http import HttpTransport
    from peerd.kubeapi.objects import KubeObjects
    from peerd.publish.uninstall import StillThereError, Uninstall

    async def run() -> None:
        credentials = Credentials(kubeconfig, context)
        await credentials.load()
        transport = HttpTransport(credentials)
        try:
            cleaner = Uninstall(KubeObjects(transport), system_namespace, click.echo)
            await cleaner.run(deployment, purge=purge, patience=patience)
        finally:
            await transport.close()

    try:
        asyncio.run(run())
    except (ApiError, ApiUnreachableError, CredentialsError, StillThereError) as error:
        fail(str(error))
    sys.exit(0)


uninstall.help = f"{uninstall.help}\n{_EXAMPLE}"
