"""Convert between the contract's messages and domain types, one module a family. Nothing else knows both."""
