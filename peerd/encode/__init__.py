"""Records to protobuf bytes and content-hash versions, and back."""
