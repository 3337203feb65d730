"""The root that peerd makes for itself where nobody gave it a CA: once, kept, one for two creators."""

import os
import shutil
import tempfile
from pathlib import Path

from peerd.ca import authority
from peerd.ca.bundle import BundleError, present_layout


def ensure_self_signed(directory: Path, organization: str, now: float) -> Path:
    """Make *directory* hold a self-signed CA in the `cacerts` layout, unless it holds a CA already.

    The files are made in a directory beside it that is then renamed: whoever looks sees all files or none,
    and of two creators one wins and both use its root. Keys are readable by the owner only (0600 in 0700).
    *now* is in Unix seconds. Returns *directory*.

    Raises:
        BundleError: the directory cannot be made, or holds something else; the text says what to do.
    """
    try:
        if present_layout(directory) is not None:
            return directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))  # 0700
    except OSError as error:
        raise BundleError(
            f"{directory}: a self-signed CA cannot be kept there: {error.strerror};"
            " make the directory writable, or give peerd a CA of yours"
        ) from error
    try:
        root = authority.make_root(organization, now)
        authority.write_new(
            made, authority.cacerts_files(root.certificate, root.key, (), (root.certificate,))
        )
        _rename(made, directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return directory


def _rename(made: Path, directory: Path) -> None:
    try:
        made.rename(directory)  # onto nothing, or onto an empty directory: all or nothing
    except OSError as error:
        if present_layout(directory) is not None:
            return  # the other creator was first
        raise BundleError(
            f"{directory}: a self-signed CA cannot be put there: {error.strerror};"
            " it must not exist yet, or be an empty directory that is no mount point"
        ) from error
    parent = os.open(directory.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
