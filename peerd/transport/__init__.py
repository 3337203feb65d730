"""The transport seam: streams of bytes with metadata and a peer certificate. The contract is `base.py`.

grpc.aio serves ztunnels, HTTP/2 by h2 carries peers, the in-memory one serves tests and the simulation;
one conformance suite (tests/conformance/test_transport.py) runs over all of them.
"""
