#!/bin/sh
# Install the library from this checkout into the Python that is first on PATH, edited in place.
#   docker/install.sh EXTRAS [PACKAGE...]     for example: docker/install.sh cuda13,test 'jax[cuda13]'
# The images run this, and .ci/check_images.py runs it in a clean environment.
set -eu
extras=$1
shift
python -m pip install --disable-pip-version-check --editable ".[$extras]" "$@"
