"""`peerd certs`: roots and cluster CAs, made, shown, checked and rotated without a network."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import click

from peerd.ca import authority, pem, reissue, tokens
from peerd.ca.authority import AlreadyThereError
from peerd.ca.bundle import CACERTS, TLS_SECRET, BundleError, load_bundle
from peerd.ca.describe import describe

_CERTIFICATE_FILES = tuple(name for name in (*CACERTS, *TLS_SECRET) if not name.endswith(("key.pem", ".key")))
_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.group(
    epilog="""\b
Two clusters under one root:
  peerd certs root --dir certs
  peerd certs cluster east west --root certs --dir certs
  peerd certs verify certs/east certs/west
  peerd serve --ca-dir certs/east ...
"""
)
def certs() -> None:
    """Make, show, check and rotate the CAs of clusters. Everything works offline."""


P = ParamSpec("P")


def _told(command: Callable[P, None]) -> Callable[P, None]:
    """What went wrong becomes one line and exit code 1, never a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (BundleError, AlreadyThereError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error

    return run


_rsa = click.option("--rsa", "use_rsa", is_flag=True, help="RSA 2048 instead of EC P-256.")


@certs.command(epilog="Example: peerd certs root --dir certs --organization example.org")
@click.option("--dir", "directory", type=_DIRECTORY, required=True, help="Where root-*.pem go.")
@click.option("--organization", default="peerd", show_default=True, help="In the root's subject.")
@click.option("--days", type=click.IntRange(1), default=authority.ROOT_DAYS, show_default=True)
@_rsa
@_told
def root(*, directory: Path, organization: str, days: int, use_rsa: bool) -> None:
    """Make a root: root-cert.pem, and root-key.pem, which no cluster needs. Keep the key offline."""
    made = authority.make_root(organization, time.time(), days=days, use_rsa=use_rsa)
    authority.write_new(directory, authority.root_files(made))
    click.echo(f"{directory}: root-cert.pem, and root-key.pem to keep offline")


@certs.command(epilog="Example: peerd certs cluster east west --root certs --dir certs")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--root", "root_directory", type=_DIRECTORY, required=True, help="Holds root-*.pem.")
@click.option("--dir", "directory", type=_DIRECTORY, required=True, help="Gets one folder per cluster.")
@click.option("--days", type=click.IntRange(1), default=authority.CLUSTER_DAYS, show_default=True)
@_rsa
@_told
def cluster(
    *, names: tuple[str, ...], root_directory: Path, directory: Path, days: int, use_rsa: bool
) -> None:
    """Make each cluster's own CA under the root: a folder to give to `peerd serve --ca-dir`.

    The folder is in the layout of Istio's `cacerts` Secret: ca-cert.pem, ca-key.pem, root-cert.pem,
    cert-chain.pem.
    """
    issuer = authority.load_root(root_directory)
    for name in names:
        files = authority.make_cluster_ca(issuer, name, time.time(), days=days, use_rsa=use_rsa)
        authority.write_new(directory / name, files)
        click.echo(f"{directory / name}: {', '.join(files)}")


@certs.command(epilog="Example: peerd certs show certs/east certs/root-cert.pem")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@_told
def show(paths: tuple[Path, ...]) -> None:
    """Print what certificates say: names, validity, key, and the hash by which a Gateway can pin a CA."""
    now = time.time()
    for path in paths:
        for name, content in _certificate_files(path).items():
            try:
                found = pem.read_certificates(content)
            except pem.PemError as error:
                raise BundleError(f"{name}: {error}") from error
            for each in found:
                click.secho(name, bold=True)
                for field, value in describe(each, now).items():
                    click.echo(f"  {field + ':':<19} {value}")


@certs.command(epilog="Example: peerd certs verify certs/east certs/west")
@click.argument("directories", nargs=-1, required=True, type=_DIRECTORY, metavar="DIR...")
@_told
def verify(directories: tuple[Path, ...]) -> None:
    """Check that a cluster's files fit together, and that several clusters trust each other's roots."""
    now = time.time()
    bundles = {directory: load_bundle(directory, now) for directory in directories}
    for directory, bundle in bundles.items():
        end = f"{bundle.certificate.not_valid_after_utc:%Y-%m-%d}"
        click.echo(f"{directory}: good; {pem.name_of(bundle.certificate)} signs until {end}")
    for one, here in bundles.items():
        for other, there in bundles.items():
            if not any(reissue.anchored(here, (each,)) for each in there.roots):
                raise BundleError(
                    f"{other}/root-cert.pem: lacks the root of {one}; two clusters peer only where each"
                    " trusts the other's root: here, or by trust domain in the mesh configuration"
                )


@certs.command(
    epilog="""\b
A new signing key under the same root:
  peerd certs rotate certs/east --issuer certs
A new root, step by step, with half a certificate's lifetime (12 h) between the steps:
  peerd certs root --dir new
  peerd certs rotate certs/east certs/west --add-root new
  peerd certs rotate certs/east certs/west --issuer new
  peerd certs rotate certs/east certs/west --remove-root certs
"""
)
@click.argument("directories", nargs=-1, required=True, type=_DIRECTORY, metavar="DIR...")
@click.option("--add-root", type=_DIRECTORY, metavar="ROOT_DIR", help="Trust this root as well.")
@click.option("--issuer", type=_DIRECTORY, metavar="ROOT_DIR", help="Sign with a new key under this root.")
@click.option("--remove-root", type=_DIRECTORY, metavar="ROOT_DIR", help="Trust this root no longer.")
@click.option("--days", type=click.IntRange(1), default=authority.CLUSTER_DAYS, show_default=True)
@_rsa
@_told
def rotate(
    *,
    directories: tuple[Path, ...],
    add_root: Path | None,
    issuer: Path | None,
    remove_root: Path | None,
    days: int,
    use_rsa: bool,
) -> None:
    """Take one step of a rotation in clusters' folders; a running peerd follows without a restart.

    A step that would cut workloads off (an issuer whose root is not trusted yet, the removal of the root in
    use) is refused.
    """
    if sum(step is not None for step in (add_root, issuer, remove_root)) != 1:
        raise click.UsageError("give exactly one of --add-root, --issuer and --remove-root")
    now = time.time()
    for directory in directories:
        if add_root is not None:
            reissue.add_root(directory, authority.load_root_certificate(add_root), now)
            click.echo(f"{directory}: root added; wait until workloads have it, then switch the issuer")
        if issuer is not None:
            reissue.new_issuer(directory, authority.load_root(issuer), now, days=days, use_rsa=use_rsa)
            click.echo(f"{directory}: signs with a new key; an old root goes once workloads have renewed")
        if remove_root is not None:
            reissue.remove_root(directory, authority.load_root_certificate(remove_root), now)
            click.echo(f"{directory}: root removed")


@certs.command(
    "token-issuer",
    epilog="Example: peerd certs token-issuer --dir tokens && peerd serve --jwks-file tokens/jwks.json ...",
)
@click.option("--dir", "directory", type=_DIRECTORY, required=True, help="Gets token-key.pem and jwks.json.")
@_told
def token_issuer(*, directory: Path) -> None:
    """Make a key for tokens, to try things without Kubernetes. In Kubernetes the API server issues them."""
    authority.write_new(directory, tokens.issuer_files(tokens.make_issuer()))
    click.echo(
        f"{directory}: {' and '.join(tokens.ISSUER_FILES)}; give jwks.json to `peerd serve --jwks-file`"
    )


@certs.command(
    epilog="Example: peerd certs token istio-system/ztunnel --issuer tokens --pod zt-1 --pod-uid 1 > t"
)
@click.argument("account", metavar="NAMESPACE/ACCOUNT")
@click.option("--issuer", type=_DIRECTORY, required=True, help="What `token-issuer` made.")
@click.option("--pod", default="", help="Bind the token to this Pod, as impersonation needs.")
@click.option("--pod-uid", default="", help="The Pod's uid, as its manifest says.")
@click.option("--ttl", type=click.IntRange(60), default=tokens.TTL, show_default=True, help="Seconds.")
@_told
def token(*, account: str, issuer: Path, pod: str, pod_uid: str, ttl: int) -> None:
    """Print a token for a service account, to use as ztunnel's AUTH_TOKEN without Kubernetes."""
    namespace, slash, name = account.partition("/")
    if not (namespace and slash and name):
        raise click.UsageError(f"{account!r} is not NAMESPACE/ACCOUNT, such as istio-system/ztunnel")
    signed = tokens.service_account_token(
        tokens.load_issuer(issuer), namespace, name, time.time(), pod_name=pod, pod_uid=pod_uid, ttl=ttl
    )
    click.echo(signed, nl=False)


def _certificate_files(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {str(path): path.read_bytes()}
    found = [path / name for name in _CERTIFICATE_FILES if (path / name).exists()]
    if not found:
        raise BundleError(f"{path}: holds none of {', '.join(_CERTIFICATE_FILES)}")
    return {str(file): file.read_bytes() for file in found}
