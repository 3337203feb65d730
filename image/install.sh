#!/bin/sh
# What the image holds: SOURCE installed with its pinned dependencies and nothing else into the new virtual
# environment PREFIX. The Dockerfile and the test of the image run this same file.
set -eu
source=$1
prefix=$2
python3 -m venv "$prefix"
"$prefix/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir \
  --constraint "$source/requirements.txt" "$source"
# Bytecode is made now: the tree is read-only later. pip is of no use there.
"$prefix/bin/python" -m compileall -q "$prefix/lib"
"$prefix/bin/pip" uninstall --quiet --yes --disable-pip-version-check setuptools pip
