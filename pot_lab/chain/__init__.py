"""The chain room: contracts and their artefacts, wallet and watcher, and the embedded EVM of testnets. See docs/chain.md."""
