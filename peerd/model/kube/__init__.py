"""Kubernetes, Gateway API and Istio objects, decoded only as far as peerd reads them.

Field names are the API's in snake case, absent fields have the API's defaults, unknown fields are dropped
while decoding. Both sources give these records (peerd/sources/), derivation takes them.
"""
