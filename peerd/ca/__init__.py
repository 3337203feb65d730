"""Certificates: signing, bundles, rotation."""
