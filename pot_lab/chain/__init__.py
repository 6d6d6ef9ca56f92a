"""The chain room: contracts and their artefacts, wallet, watcher, and the embedded EVM of testnets (chain.md)."""
