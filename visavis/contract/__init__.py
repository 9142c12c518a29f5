"""The contract's plain values as JSON and as protobuf messages, both by the table that is made of the contract."""
